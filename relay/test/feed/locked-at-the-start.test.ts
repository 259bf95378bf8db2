// A node starts while somebody has an old slot of relay.events locked.
import type { Relay } from '../../server/relay.ts';
import { ends } from '../ends.ts';
import { Client, deadPort, startNode, token, until } from '../world.ts';
import { lockBehindWriter, lockSlot } from './lock-slot.ts';
import { startReader } from './reader.ts';
import { database, emit, locker } from './with-locker.ts';

async function start(env: Record<string, string> = {}): Promise<Relay> {
  const node = await startNode(database.url, env);
  ends.push(() => node.close());
  await node.ready();
  return node;
}

async function connect(node: Relay): Promise<Client> {
  const client = new Client(node, { token: await token('acc') });
  ends.push(async () => client.close());
  return client.live();
}

/** @param distance of the slot from the one that writers are in */
const emitInto = (distance: number, n: number) =>
  database.query(
    `insert into relay.events (slot, account_id, event, payload)
     values ((relay.slot_at(clock_timestamp()) + $1) % 8, 'acc', 'note', to_jsonb($2::int))`,
    [distance, n],
  );

test('it is ready, events come, and nobody refetches when the slot is free', async () => {
  await emit(1);
  await lockSlot(locker, 4);
  const client = await connect(await start());
  await emit(2);
  expect(await client.hears(1)).toEqual([2]);
  await locker.query('rollback');
  await emit(3);
  expect(await client.hears(2)).toEqual([2, 3]);
  expect(client.of('relay:resync')).toEqual([]);
});

test('events that were committed to it just before the lock were skipped: everybody refetches', async () => {
  await emit(1);
  const skipped = { distance: 4, account: 'acc', event: 'note', payload: '2' };
  const commit = await lockBehindWriter(database, locker, skipped);
  const client = await connect(await start());
  await commit();
  await emit(3);
  expect(await client.hears(1)).toEqual([3]);
  await locker.query('rollback');
  await until('the client is told to refetch', () => client.of('relay:resync').length > 0);
  expect(client.of('relay:resync')).toEqual([{ reason: 'epoch' }]);
  await emit(4);
  expect(await client.hears(2)).toEqual([3, 4]);
});

/** A client of a node that is gone, and what starts the next node at its port. */
async function leave(distance = 0): Promise<{ client: Client; comeBack: () => Promise<Relay> }> {
  await emitInto(distance, 0);
  // Nobody else takes the port while no node is there.
  const node = await startNode(database.url, { PORT: String(await deadPort()) });
  const client = await connect(node);
  // A position that names transactions in progress, of other tests on this server, is older than what the next node has.
  for (let heard = 0; heard === 0 || client.offset!.includes('.'); heard += 1) {
    await emitInto(distance, 0);
    await client.hears(heard + 1);
  }
  client.heard.length = 0;
  await node.close();
  return { client, comeBack: () => start({ PORT: String(node.port) }) };
}

test('a client that missed events of newer slots gets them at once', async () => {
  const { client, comeBack } = await leave();
  await emit(1);
  await emitInto(3, 2);
  await lockSlot(locker, 4);
  await comeBack();
  await emit(3);
  expect(await client.hears(3)).toEqual([1, 2, 3]);
  await locker.query('rollback');
  await emit(4);
  expect(await client.hears(4)).toEqual([1, 2, 3, 4]);
  expect(client.of('relay:resync')).toEqual([]);
});

test('a client that missed older events waits until it is free, and others do not', async () => {
  const { client, comeBack } = await leave(3);
  await emitInto(3, 1);
  await emitInto(4, 2);
  await emit(3);
  await lockSlot(locker, 4);
  const other = await connect(await comeBack());
  await emit(4);
  expect(await other.hears(1)).toEqual([4]);
  expect(client.payloads).toEqual([]);
  await locker.query('rollback');
  expect(await client.hears(4)).toEqual([1, 2, 3, 4]);
  expect(client.of('relay:resync')).toEqual([]);
});

test.each([
  ['the newest event', []],
  ['an event between newer ones', [2]],
])('a client that missed %s, which is in the locked slot, is told to refetch', async (_, newer) => {
  const { client, comeBack } = await leave();
  await emitInto(4, 1);
  for (const n of newer) await emit(n);
  await lockSlot(locker, 4);
  await comeBack();
  await client.live(2);
  await emit(3);
  expect(await client.hears(1 + newer.length)).toEqual([...newer, 3]);
  await locker.query('rollback');
  await until('the client is told to refetch', () => client.of('relay:resync').length > 0);
  expect(client.of('relay:resync')).toEqual([{ reason: 'epoch' }]);
});

test('a client that missed the newest event, which is in it, gets it once it is free', async () => {
  const { client, comeBack } = await leave();
  await emitInto(4, 1);
  await lockSlot(locker, 4);
  await comeBack();
  await client.live(2);
  await locker.query('rollback');
  expect(await client.hears(1)).toEqual([1]);
  await emit(2);
  expect(await client.hears(2)).toEqual([1, 2]);
  expect(client.of('relay:resync')).toEqual([]);
});

test('a client that missed nothing comes back at once, also where all events are older', async () => {
  const { client, comeBack } = await leave(3);
  await lockSlot(locker, 4);
  await comeBack();
  await client.live(2);
  await emit(1);
  expect(await client.hears(1)).toEqual([1]);
  await locker.query('rollback');
});

test('events were skipped, and the node is replaced before that is found: everybody refetches', async () => {
  const { client, comeBack } = await leave();
  await emitInto(4, 1);
  await emit(2);
  await lockSlot(locker, 4);
  const node = await comeBack();
  expect(await client.hears(1)).toEqual([2]);
  await node.close();
  await locker.query('rollback');
  await comeBack();
  await until('the client is told to refetch', () => client.of('relay:resync').length > 0);
  expect(client.of('relay:resync')).toEqual([{ reason: 'epoch' }]);
});

test('a node that did not skip an event takes the place of one that did: everybody refetches', async () => {
  await emit(0);
  const [gone, other] = [await startReader(database.url), await startReader(database.url)];
  await emitInto(4, 1);
  await other.feed.read();
  await lockSlot(locker, 4);
  await emit(2);
  await Promise.all([gone.feed.read(), other.feed.read()]);
  expect(gone.events.map(({ payload }) => payload)).toEqual(['2']);
  await gone.feed.close();
  await locker.query('rollback');
  await until('it is told', async () => {
    await other.feed.read();
    return other.lost.length > 0;
  });
  expect(other.lost).toEqual(['epoch']);
  expect(await database.query('select from relay.left_out')).toEqual([]);
});
