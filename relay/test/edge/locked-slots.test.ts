// An edge beside an old slot of relay.events that another program has locked.
import { lockSlot } from '../feed/lock-slot.ts';
import { until } from '../world.ts';
import { database, Edge, emit, Hub, Stream } from './hub-and-edges.ts';

// A slot then lasts two months: none begins during a test.
beforeEach(() => database.query(`select relay.set_retention('1 year')`));

test('an old slot that is locked at the start hid an event: once it is free, everybody refetches', async () => {
  const stream = new Stream();
  const hub = await Hub.start(stream);
  const slot = '(relay.slot_at(clock_timestamp()) + 4) % 8';
  await database.query(
    `insert into relay.events (slot, account_id, event, payload) values (${slot}, 'acc', 'item', '1')`,
  );
  await hub.feed.read();
  const locker = await database.connect();
  await lockSlot(locker, 4);
  const edge = await Edge.start(stream);
  await emit(2);
  // The hub reads past the slot too, but it has seen the event before.
  await hub.feed.read();
  expect(await edge.hears(1)).toEqual([2]);
  await locker.query('rollback');
  await until('it is told', async () => {
    await hub.feed.read();
    return edge.lost.length > 0;
  });
  expect(edge.lost).toEqual(['epoch']);
});

test('an old slot is locked when another epoch begins: the edge goes on in that epoch', async () => {
  const stream = new Stream();
  const hub = await Hub.start(stream);
  const edge = await Edge.start(stream);
  await database.query('select relay.new_epoch()');
  const locker = await database.connect();
  await lockSlot(locker, 4);
  await hub.feed.read();
  await until('the edge is told', () => edge.lost.length > 0);
  await emit(1);
  await hub.feed.read();
  expect(await edge.hears(1)).toEqual([1]);
  expect(edge.lost).toEqual(['epoch']);
  await locker.query('rollback');
});

test('an event that the stream brought from a slot that was locked at the start was not skipped', async () => {
  const stream = new Stream();
  const hub = await Hub.start(stream);
  const locker = await database.connect();
  const slot = await lockSlot(locker, 4);
  const edge = await Edge.start(stream);
  await emit(1);
  await hub.feed.read();
  await edge.hears(1);
  await locker.query('rollback');
  await database.query(
    `insert into relay.events (slot, account_id, event, payload) values ($1, 'acme', 'item', '2')`,
    [slot],
  );
  await until('the edge has searched the slot', async () => {
    await hub.feed.read();
    return (await database.query('select from relay.left_out')).length === 0;
  });
  expect(await edge.hears(2)).toEqual([1, 2]);
  expect(edge.lost).toEqual([]);
});
