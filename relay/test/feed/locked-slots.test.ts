// Somebody locks a slot of relay.events exclusively: what is written to the others goes on.
import type pg from 'pg';
import type { Relay } from '../../server/relay.ts';
import { Client, type Database, freshDatabase, metric, startNode, token, until } from '../world.ts';
import { lockSlot } from './lock-slot.ts';

let database: Database;
let node: Relay;
let client: Client;
let locker: pg.Client;

beforeAll(async () => {
  database = await freshDatabase();
  await database.query(`select relay.publish('note')`);
  node = await startNode(database.url);
  client = await new Client(node, { token: await token('acc') }).live();
  locker = await database.connect();
});
afterAll(async () => {
  client.close();
  await node.close();
  await database.close();
});

const emit = (n: number) => database.query(`select relay.emit('acc', 'note', $1)`, [n]);

test('an old slot: events go on, and nobody refetches when it is free', async () => {
  await emit(1);
  await client.hears(1);
  await lockSlot(locker, 4);
  await emit(2);
  await emit(3);
  expect(await client.hears(3)).toEqual([1, 2, 3]);
  await emit(4);
  expect(await client.hears(4)).toEqual([1, 2, 3, 4]);
  await locker.query('rollback');
  await emit(5);
  expect(await client.hears(5)).toEqual([1, 2, 3, 4, 5]);
  expect(client.of('relay:resync')).toEqual([]);
  expect(client.disconnects).toEqual([]);
});

test('a transaction with more events than a page, while an old slot is locked', async () => {
  const before = client.payloads.length;
  await lockSlot(locker, 4);
  await emit(29);
  await client.hears(before + 1);
  await database.query(
    `insert into relay.events (account_id, event, payload)
     select 'large', 'note', to_jsonb(n) from generate_series(1, 25000) as n`,
  );
  // An account with events in what is passed over reads them from the table, and so waits for the lock.
  await until('it is passed over', async () => (await metric(node, 'backlogs')) === 1);
  await emit(30);
  expect((await client.hears(before + 2)).slice(before)).toEqual([29, 30]);
  expect(await metric(node, 'feedFailures')).toBe(0);
  await locker.query('rollback');
});

test('two old slots, the second while the first is locked', async () => {
  const before = client.payloads.length;
  await lockSlot(locker, 3);
  await emit(6);
  await client.hears(before + 1);
  const second = await database.connect();
  await second.query('begin');
  await second.query(
    `do $$ begin execute format('lock table relay.events_%s in access exclusive mode', (relay.slot_at(clock_timestamp()) + 5) % 8); end $$`,
  );
  await emit(7);
  await client.hears(before + 2);
  await locker.query('rollback');
  await second.query('rollback');
  await emit(8);
  await client.hears(before + 3);
  expect(client.payloads.slice(before)).toEqual([6, 7, 8]);
  expect(client.of('relay:resync')).toEqual([]);
});

test('what its holder wrote to it was passed by: everybody refetches', async () => {
  const before = client.payloads.length;
  const slot = await lockSlot(locker, 4);
  await locker.query(
    `insert into relay.events (slot, account_id, event, payload) values ($1, 'acc', 'note', '9')`,
    [slot],
  );
  await emit(10);
  await client.hears(before + 1);
  expect(client.payloads.at(-1)).toBe(10);
  await locker.query('commit');
  await until('the client is told to refetch', () => client.of('relay:resync').length > 0);
  expect(client.of('relay:resync')).toEqual([{ reason: 'epoch' }]);
  await emit(11);
  await client.hears(before + 2);
  expect(client.payloads.at(-1)).toBe(11);
});

test('the slot that writers are in: they wait, and then everything comes', async () => {
  const before = client.payloads.length;
  await lockSlot(locker, 0);
  const writing = emit(12);
  await until('the writer waits', async () => {
    const waiting = await database.query('select from pg_locks where not granted');
    return waiting.length > 0;
  });
  await locker.query('rollback');
  await writing;
  await client.hears(before + 1);
  expect(client.payloads.at(-1)).toBe(12);
});
