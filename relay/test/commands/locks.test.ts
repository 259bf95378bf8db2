// Another session holds our advisory locks: it is named, and nothing waits for it longer than stated.
import { examine } from '../../commands/doctor.ts';
import { MIGRATION_LOCK } from '../../db/lock-holders.ts';
import { migrate } from '../../install/migrate.ts';
import { countProblems } from '../../outbox/load.ts';
import { hearing } from '../hearing.ts';
import { Client, type Database, freshDatabase, SECRET, startNode, token } from '../world.ts';

let database: Database;
beforeAll(async () => {
  database = await freshDatabase();
});
afterAll(() => database.close());

async function squat(key: string) {
  const session = await database.connect();
  await session.query(`set application_name = 'squatter'; select pg_advisory_lock(${key})`);
  const { rows } = await session.query<{ pid: number }>('select pg_backend_pid() as pid');
  return { session, pid: rows[0]!.pid };
}

test.each(['relay.gate_key()', 'relay.gate_key() + 1', MIGRATION_LOCK])(
  'doctor and relay.check() name who holds %s',
  async (key) => {
    const { session, pid } = await squat(key);
    const check = () => database.query('select problem, remedy from relay.check()');
    expect(await check()).toEqual([{ problem: 'lock_taken', remedy: `select pg_terminate_backend(${pid})` }]);
    expect(await countProblems(session)).toMatchObject({ ofContract: 0 });
    const look = async () =>
      (await examine({ DATABASE_URL: database.url, JWT_SECRET: SECRET })).find(
        ({ what }) => what === 'locks',
      );
    expect(await look()).toMatchObject({
      state: 'warning',
      text: expect.stringContaining(`Backend ${pid} (role postgres, application squatter)`),
    });
    await session.query('select pg_advisory_unlock_all()');
    expect(await look()).toMatchObject({ state: 'ok' });
    expect(await check()).toEqual([]);
  },
);

test('relay.status does not take another holder of the lock for a relay that has closed the gate', async () => {
  const gate = () => database.query(`select value, remark from relay.status where subject = 'gate'`);
  const { session, pid } = await squat('relay.gate_key()');
  expect(await gate()).toEqual([
    { value: 'closed', remark: expect.stringContaining(`by backend ${pid}, which is no relay`) },
  ]);
  await session.query(`set application_name = 'recado gate'`);
  expect(await gate()).toEqual([
    { value: 'closed', remark: expect.stringContaining('with so many commits') },
  ]);
  await session.query('select pg_advisory_unlock_all()');
});

test('migrate says for whom it waits, and goes on when he is gone', async () => {
  const { session, pid } = await squat(MIGRATION_LOCK);
  const said: string[] = [];
  const log = hearing((name, fields) => {
    said.push(`${name} ${fields}`);
    if (name === 'migrate_waiting') void session.query('select pg_advisory_unlock_all()');
  });
  await migrate({ databaseUrl: database.url, log });
  expect(said[0]).toContain(`backend ${pid}, role`);
  expect(said[0]).toContain('squatter');
});

test('events arrive while both locks of the gate are held, by the safety read', async () => {
  const { session } = await squat('relay.gate_key()');
  await session.query('select pg_advisory_lock(relay.gate_key() + 1)');
  const relay = await startNode(database.url);
  try {
    await relay.ready();
    const client = await new Client(relay, { token: await token() }).live();
    for (let n = 0; n < 3; n += 1) {
      await database.query(`select relay.emit('acc-1', 'doctors.created', $1)`, [n]);
      await client.hears(n + 1);
    }
    client.close();
  } finally {
    await relay.close();
  }
});
