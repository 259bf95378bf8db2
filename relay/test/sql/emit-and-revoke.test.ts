// An audience given to relay.emit(), and topics taken away by relay.revoke_topic().
import { clinic, inDatabaseOfItsOwn, problems, publish, recorded, rows, said, unheard } from './chats.ts';

describe('relay.emit()', () => {
  const emit = (args: string) => `select relay.emit('a', 'chat.said', '"x"'${args})`;

  beforeEach(() => publish(`'chat.said'`));

  test('has an audience, or none', async () => {
    expect(
      await recorded(
        emit(''),
        emit(`, array['desk', null, 'ana', 'desk']`),
        emit(`, array['*']`),
        `select relay.emit('a', 'chat.said')`,
      ),
    ).toEqual([said(null), said(['ana', 'desk']), said(null), said(null, null)]);
  });

  test('for nobody is counted', async () => {
    const nobody = unheard();
    delete (nobody.payload as { table?: string }).table;
    expect(await recorded(emit(', null'), emit(`, '{}'`))).toEqual([nobody, nobody]);
    expect(await problems()).toEqual([
      { problem: 'audience_empty', detail: expect.stringContaining('2 times') },
    ]);
  });

  test('refuses a larger audience', async () => {
    await expect(
      clinic.writer.query(emit(', array(select n::text from generate_series(1, 101) as n)')),
    ).rejects.toThrow('received 101 topics');
    await expect(clinic.writer.query(emit(", array[repeat('x', 129)]"))).rejects.toThrow('of 129 bytes');
  });

  test(
    'may be called with an audience by a role that was granted emit() without one',
    inDatabaseOfItsOwn(async () => {
      await publish(`'chat.said'`);
      await clinic.writeAs(
        (r) =>
          `grant usage on schema relay to ${r}; grant execute on function relay.emit(text, text, jsonb) to ${r}`,
      );
      await expect(clinic.writer.query(emit(`, array['x']`))).rejects.toThrow('permission denied');
      await clinic.database.pool.query('select relay.secure()');
      expect(await recorded(emit(`, array['x']`))).toEqual([said(['x'])]);
    }),
  );

  test('publish() refuses an audience expression for an event without a table', async () => {
    await expect(publish(`'chat.other', audience => $$array['x']$$`)).rejects.toThrow(
      'condition, account, payload, audience and key belong to a trigger',
    );
  });
});

test('relay.forget() removes the audience of an event, too', async () => {
  await publish(`'chat.said'`);
  await clinic.writer.query(`select relay.emit('a', 'chat.said', '"x"', array['user:ana'])`);
  await clinic.database.pool.query(`select relay.forget('a')`);
  expect(await rows(`select from relay.events where account_id = 'a' and audience is not null`)).toEqual([]);
});

describe('relay.revoke_topic()', () => {
  const revoke = (args: string) => clinic.database.pool.query(`select relay.revoke_topic(${args})`);

  test('leaves a row for the relays, and makes them read it', async () => {
    await revoke(`'1', 'desk', before => '2030-01-01'`);
    await revoke(`'1', topic => 'chat:7', subject => 'ana', before => null`);
    expect(
      await rows(
        `select account_id, subject, token_id, topic, before between now() - interval '1 minute' and now() as now
           from relay.revocations order by id`,
      ),
    ).toEqual([
      { account_id: '1', subject: null, token_id: null, topic: 'desk', now: false },
      { account_id: '1', subject: 'ana', token_id: null, topic: 'chat:7', now: true },
    ]);
    const told = { account_id: '1', event: 'relay:revoke', payload: null, audience: null };
    expect(
      await rows(
        `select account_id, event, payload, audience from relay.events where event = 'relay:revoke' order by id`,
      ),
    ).toEqual([told, told]);
  });

  test.each([
    [`null, 'desk'`, 'account: received null'],
    [`'1', null`, 'topic: received null'],
    [`'1', ''`, "topic: received ''"],
    [`'1', '*'`, "topic: received '*'"],
    [`'1', repeat('x', 129)`, 'of at most 128 bytes'],
  ])('refuses %s', async (args, sentence) => {
    await expect(revoke(args)).rejects.toThrow(sentence);
    expect(await rows('select from relay.revocations')).toEqual([]);
  });
});
