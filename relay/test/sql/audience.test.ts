// Who hears an event inside its account, as the database records it.
import { type Clinic, openClinic } from '../clinic.ts';

let clinic: Clinic;

beforeEach(async () => {
  clinic = await openClinic();
});
afterEach(() => clinic.close());

async function rows<Row extends Record<string, unknown>>(query: string): Promise<Row[]> {
  return (await clinic.database.pool.query<Row>(query)).rows;
}

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
        `select account_id, event, payload, audience from relay.events where event like 'relay:%' order by id`,
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
