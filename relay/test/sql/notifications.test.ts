// How often a transaction notifies.
import { setStatus, softDelete } from '../clinic.ts';
import { clinic } from './one-clinic.ts';

describe('a transaction notifies', () => {
  /** How many notifications the statements sent. A marker sent after them says when all that they sent has arrived. */
  async function notifications(...statements: string[]): Promise<number> {
    const listener = await clinic.connect();
    try {
      await listener.query('listen relay');
      let count = 0;
      const end = new Promise<void>((resolve) => {
        listener.on('notification', ({ payload }) => {
          if (payload === 'end') resolve();
          else count += 1;
        });
      });
      for (const statement of statements) await clinic.writer.query(statement);
      await clinic.writer.query(`select pg_notify('relay', 'end')`);
      await end;
      return count;
    } finally {
      await listener.end();
    }
  }

  test('once per transaction, however many events', async () => {
    expect(await notifications(softDelete)).toBe(1);
    expect(await notifications('begin', setStatus('CHECKIN'), setStatus('CANCELADO'), 'commit')).toBe(1);
    expect(await notifications(setStatus('CHECKIN'), setStatus('CANCELADO'))).toBe(2);
  });

  test('again after a savepoint took the first notification back', async () => {
    expect(
      await notifications('begin', 'savepoint s', softDelete, 'rollback to s', softDelete, 'commit'),
    ).toBe(1);
  });

  test('not for zero rows, a rollback, or a change that is no event', async () => {
    await clinic.writer.query(
      `create table public.marks (id integer primary key);
       select relay.publish('mark', 'public.marks', level => 'statement', account => '1')`,
    );
    expect(await notifications('update public.marks set id = id')).toBe(0);
    expect(await notifications('begin', softDelete, 'rollback')).toBe(0);
    expect(await notifications(`update public.appointments set notes = ''`)).toBe(0);
  });

  test('not where it is muted: the event is recorded', async () => {
    await clinic.writer.query('set relay.ring = off');
    expect(await notifications(softDelete)).toBe(0);
    expect(await clinic.value(`select count(*)::int from relay.events where event = 'doctors.deleted'`)).toBe(
      1,
    );
  });
});
