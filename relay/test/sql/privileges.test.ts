// The relay as it should be run: a login that has relay_reader and nothing else.
import { createDatabase, type TestDatabase, withDatabase } from '../postgres.ts';
import { Client, OPERATOR, startNode, token, until } from '../world.ts';

const ROLE = `recado_test_reader_${process.pid}`;
let database: TestDatabase;
let url: string;

beforeAll(async () => {
  database = await createDatabase();
  await database.pool.query(`create role ${ROLE} login password 'reader'`);
  await database.pool.query(`grant relay_reader to ${ROLE}`);
  const { pathname } = new URL(database.url);
  url = withDatabase(database.url, pathname.slice(1), { name: ROLE, password: 'reader' });
});

afterAll(async () => {
  await database.pool.query(`drop role ${ROLE}`);
  await database.close();
});

test('delivers, empties old slots, resumes, revokes, counts and asks for syncs with no other rights', async () => {
  const { pool } = database;
  // Three slots after the one that writers use, a day ago.
  await pool.query(
    `insert into relay.events (slot, created_at, account_id, event, payload)
     values ((relay.slot_at(clock_timestamp()) + 3) % 8, clock_timestamp() - interval '25 hours', '1', 'doctors.created', '0')`,
  );
  const relay = await startNode(url);
  const client = new Client(relay, { token: await token('1') });
  try {
    await relay.ready();
    await client.live();
    await pool.query(`select relay.emit('1', 'doctors.created', '1')`);
    await client.hears(1);
    client.cut();
    await pool.query(`select relay.emit('1', 'doctors.created', '2')`);
    await client.live(2);
    expect(await client.hears(2)).toEqual([1, 2]);

    const get = (path: string, init: RequestInit = {}) =>
      fetch(`http://127.0.0.1:${relay.port}${path}`, init);
    const metrics = await (await get('/metrics', { headers: OPERATOR })).text();
    expect(metrics).toMatch(/^recado_outbox_bytes [1-9]/m);
    expect(metrics).toMatch(/^recado_contract_problems 0/m);
    await pool.query(
      `insert into evolution.instances (name, "tenantId", host, "apiKey", desired) values ('vendas', '1', 'http://127.0.0.1:1', 'secret', 'disconnected')`,
    );
    expect(await (await get('/metrics', { headers: OPERATOR })).text()).toContain(
      'recado_evolution_connected{instance="vendas"} 0',
    );
    const headers = { authorization: `Bearer ${await token('1')}` };
    expect((await get('/api/chats/sync/vendas', { method: 'POST', headers })).status).toBe(409);
    expect((await get('/api/chats/sync/other', { method: 'POST', headers })).status).toBe(404);
    expect((await get('/api/chats/sync/a%00b', { method: 'POST', headers })).status).toBe(400);

    await until(
      'the old slot is empty',
      async () => (await relay.metrics.slotsEmptied.get()).values[0]?.value === 1,
    );

    const refused = new Promise<void>((resolve) => client.socket.once('connect_error', () => resolve()));
    await pool.query(`select relay.revoke('1', before => clock_timestamp() + interval '1 minute')`);
    await refused;
    expect(client.refusals.at(-1)?.code).toBe('token_revoked');
  } finally {
    client.close();
    await relay.close();
  }
});

test('the console shows no rows of a table that the relay may not read, and says what it takes', async () => {
  const relay = await startNode(url);
  try {
    await relay.ready();
    const address = `http://127.0.0.1:${relay.port}/console/rows?event=doctors.created`;
    const rows = await fetch(address, { headers: OPERATOR });
    expect(rows.status).toBe(422);
    expect(await rows.json()).toMatchObject({
      error: {
        code: 'preview_failed',
        message: expect.stringMatching(/permission denied for .* doctors; .* grant select on it/),
      },
    });
  } finally {
    await relay.close();
  }
});

test.each([
  'select "apiKey" from evolution.instances',
  'select * from public.doctors',
  `insert into relay.events (account_id, event) values ('1', 'doctors.created')`,
  'delete from relay.events',
  `select relay.emit('1', 'doctors.created', '1')`,
  `select relay.revoke('1')`,
  `select relay.publish(event => 'x.y')`,
  `select relay.set_retention('1 hour')`,
])('relay_reader may not %s', async (statement) => {
  const client = await database.pool.connect();
  try {
    await client.query(`set role ${ROLE}`);
    await expect(client.query(statement)).rejects.toMatchObject({ code: '42501' });
  } finally {
    await client.query('reset role');
    client.release();
  }
});
