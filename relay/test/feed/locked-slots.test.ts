// Somebody locks a slot of relay.events exclusively: what is written to the others goes on.
import type pg from 'pg';
import type { Relay } from '../../server/relay.ts';
import { Client, type Database, freshDatabase, metric, startNode, token, until } from '../world.ts';
import { lockBehindWriter, lockSlot } from './lock-slot.ts';

let database: Database;
let node: Relay;
let client: Client;
let locker: pg.Client;

beforeAll(async () => {
  database = await freshDatabase();
  await database.query(`select relay.publish('note')`);
  // A slot then lasts two months: none begins during a test.
  await database.query(`select relay.set_retention('1 year')`);
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

test('a transaction larger than a page, while an old slot is locked: other accounts still hear events', async () => {
  const before = client.payloads.length;
  const failures = await metric(node, 'feedFailures');
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
  expect(await metric(node, 'feedFailures')).toBe(failures);
  await locker.query('rollback');
});

test('two old slots, the second locked after the first: events go on, and nobody refetches', async () => {
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

const SKIPPED = { distance: 4, account: 'acc', event: 'note', payload: '9' };

test('what was committed to it just before the lock was skipped: everybody refetches', async () => {
  const before = client.payloads.length;
  const commit = await lockBehindWriter(database, locker, SKIPPED);
  await emit(10);
  await client.hears(before + 1);
  await commit();
  await emit(11);
  await client.hears(before + 2);
  await locker.query('rollback');
  await until('the client is told to refetch', () => client.of('relay:resync').length > 0);
  expect(client.of('relay:resync')).toEqual([{ reason: 'epoch' }]);
  await emit(12);
  expect((await client.hears(before + 3)).slice(before)).toEqual([10, 11, 12]);
});

test('what its holder wrote to it: it comes late, or everybody refetches', async () => {
  const before = client.payloads.length;
  const told = client.of('relay:resync').length;
  const slot = await lockSlot(locker, 4);
  await locker.query(
    `insert into relay.events (slot, account_id, event, payload) values ($1, 'acc', 'note', '9')`,
    [slot],
  );
  await emit(13);
  await client.hears(before + 1);
  expect(client.payloads.at(-1)).toBe(13);
  await locker.query('commit');
  await until(
    'the client gets it, or is told to refetch',
    () => client.payloads.at(-1) === 9 || client.of('relay:resync').length > told,
  );
});

test('events were skipped, and another slot is locked when that is found: everybody refetches at once', async () => {
  const before = client.payloads.length;
  const commit = await lockBehindWriter(database, locker, SKIPPED);
  await emit(14);
  await client.hears(before + 1);
  await commit();
  await emit(15);
  await client.hears(before + 2);
  const second = await database.connect();
  await lockSlot(second, 3);
  const told = client.of('relay:resync').length;
  await locker.query('rollback');
  await until('the client is told to refetch', () => client.of('relay:resync').length > told);
  await emit(16);
  expect((await client.hears(before + 3)).at(-1)).toBe(16);
  await second.query('rollback');
});

test('an index of an old slot, which is built again: events go on', async () => {
  const before = client.payloads.length;
  const told = client.of('relay:resync').length;
  await locker.query('begin');
  await locker.query(
    `do $$ begin execute format('reindex table relay.events_%s', (relay.slot_at(clock_timestamp()) + 4) % 8); end $$`,
  );
  await emit(17);
  await client.hears(before + 1);
  expect(client.payloads.at(-1)).toBe(17);
  await locker.query('rollback');
  await emit(18);
  await client.hears(before + 2);
  expect(client.of('relay:resync')).toHaveLength(told);
});

test('an old slot, while somebody begins a new epoch: the relay tells its clients and goes on', async () => {
  const before = client.payloads.length;
  const told = client.of('relay:resync').length;
  await locker.query('begin');
  await locker.query('select relay.new_epoch()');
  // Until the end of the transaction, the relay reads the old epoch.
  const second = await database.connect();
  const waiting = lockSlot(second, 4);
  await locker.query('commit');
  await waiting;
  await until('the client is told to refetch', () => client.of('relay:resync').length > told);
  await emit(19);
  await client.hears(before + 1);
  expect(client.payloads.at(-1)).toBe(19);
  await second.query('rollback');
});

test('the slot that writers are in: they wait, and then everything comes', async () => {
  const before = client.payloads.length;
  await lockSlot(locker, 0);
  const writing = emit(20);
  await until('the writer waits', async () => {
    const waiting = await database.query(
      `select from pg_locks where not granted and database = (select oid from pg_database where datname = current_database())`,
    );
    return waiting.length > 0;
  });
  await locker.query('rollback');
  await writing;
  await client.hears(before + 1);
  expect(client.payloads.at(-1)).toBe(20);
});
