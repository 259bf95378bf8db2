// An edge against a real Postgres, a hub that reads it, and a stream in memory that loses, repeats and reorders: what it
// hands on is compared with the table, which is the oracle.
import { stat } from 'node:fs';
import { covers } from '../../outbox/position.ts';
import type { Entry } from '../../stream/entry.ts';
import { ends } from '../ends.ts';
import { through, until } from '../world.ts';
import {
  accept,
  database,
  Edge,
  emit,
  Hub,
  linkToDatabase,
  positionNow,
  refuse,
  Stream,
} from './hub-and-edges.ts';

test('takes what the hub has read, and asks the database nothing but where to begin', async () => {
  const stream = new Stream();
  const hub = await Hub.start(stream);
  await emit('before');
  await hub.feed.read();
  const edge = await Edge.start(stream);
  await emit(1, 2);
  await hub.feed.read();
  await emit(3);
  await hub.feed.read();
  expect(await edge.hears(3)).toEqual([1, 2, 3]);
  expect(edge.feed).toMatchObject({ ready: true, streaming: true });
  expect(edge.feed.seen).toEqual(hub.feed.seen);
  expect([await edge.reads('gap'), await edge.reads('silence'), await edge.reads('start')]).toEqual([
    0, 0, 1,
  ]);
});

test('reads the database where an entry is missing, and nothing twice where one comes again', async () => {
  const stream = new Stream();
  const hub = await Hub.start(stream);
  const edge = await Edge.start(stream);
  const sent: Entry[] = [];
  hub.send = (entry) => void sent.push(entry);
  // Old entries tell the edge that the hub lives: however long the rest takes, it does not fall back.
  const [old] = stream.entries;
  const repeating = setInterval(() => stream.append(old!), 500);
  ends.push(() => clearInterval(repeating));
  for (let n = 1; n <= 4; n += 1) {
    await emit(n);
    await hub.feed.read();
  }
  const entries = sent.filter(({ events }) => events.length > 0);
  stream.append(entries[0]!);
  await edge.hears(1);
  expect(await edge.reads('gap')).toBe(0);
  stream.append(entries[2]!);
  // The read finds the fourth too.
  await edge.hears(4);
  for (const entry of [...entries, entries[1]!]) stream.append(entry);
  hub.send = (entry) => stream.append(entry);
  await emit(5);
  await hub.feed.read();
  expect(await edge.hears(5)).toEqual([1, 2, 3, 4, 5]);
  expect(await edge.reads('gap')).toBe(1);
});

test('reads the database while the hub is silent, and returns', async () => {
  const stream = new Stream();
  const hub = await Hub.start(stream);
  const edge = await Edge.start(stream);
  hub.send = () => {};
  await until('the edge falls back', () => !edge.feed.streaming);
  expect(edge.feed.ready).toBe(true);
  await emit(1, 2);
  expect(await edge.hears(2)).toEqual([1, 2]);
  hub.send = (entry) => stream.append(entry);
  await until('the edge is back at the stream', () => edge.feed.streaming);
  const reads = await edge.reads('silence');
  await emit(3);
  await hub.feed.read();
  expect(await edge.hears(3)).toEqual([1, 2, 3]);
  expect(await edge.reads('silence')).toBe(reads);
});

test('does not take a freeze of its own process for a silent hub', async () => {
  const stream = new Stream();
  const hub = await Hub.start(stream);
  const edge = await Edge.start(stream);
  await emit(1);
  await hub.feed.read();
  await edge.hears(1);
  hub.send = () => {};
  const [old] = stream.entries;
  await new Promise<void>((resolve) => {
    setImmediate(() => {
      // It arrives during the freeze, and Node calls this after the timers.
      stat('.', () => {
        stream.append(old!);
        resolve();
      });
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 2_500);
    });
  });
  expect(edge.feed.streaming).toBe(true);
  expect(await edge.reads('silence')).toBe(0);
});

test('goes on without the stream, and finds its place in it when it is back, emptied meanwhile', async () => {
  const stream = new Stream();
  const hub = await Hub.start(stream);
  const edge = await Edge.start(stream);
  stream.away = true;
  await until('the edge falls back', () => !edge.feed.streaming);
  await emit(1);
  await edge.hears(1);
  stream.flush();
  stream.away = false;
  await until('the edge is back at the stream', () => edge.feed.streaming);
  await emit(2);
  await hub.feed.read();
  expect(await edge.hears(2)).toEqual([1, 2]);
});

test('goes on without the database, and is not ready without both', async () => {
  const link = await linkToDatabase();
  const stream = new Stream();
  const hub = await Hub.start(stream);
  const edge = await Edge.start(stream, through(link, database.url));
  await refuse(link);
  await emit(1);
  await hub.feed.read();
  expect(await edge.hears(1)).toEqual([1]);
  expect(edge.feed.ready).toBe(true);
  hub.send = () => {};
  await until('the edge has neither', () => !edge.feed.ready);
  await emit(2);
  accept(link);
  expect(await edge.hears(2)).toEqual([1, 2]);
  await until('the edge reads the database', () => edge.feed.ready);
  expect(edge.feed.streaming).toBe(false);
});

test('begins when the database is there, with what the stream brought meanwhile', async () => {
  const link = await linkToDatabase();
  await refuse(link);
  const stream = new Stream();
  const hub = await Hub.start(stream);
  const starting = Edge.start(stream, through(link, database.url));
  await emit(1);
  await hub.feed.read();
  accept(link);
  const edge = await starting;
  await emit(2);
  await hub.feed.read();
  expect((await edge.hears(1)).at(-1)).toBe(2);
  expect(covers(edge.feed.seen, hub.feed.seen)).toBe(true);
});

test('a client that is ahead: the hub is asked, and the database where it does not answer', async () => {
  const stream = new Stream();
  const hub = await Hub.start(stream);
  const edge = await Edge.start(stream);
  const held: Entry[] = [];
  hub.send = (entry) => void held.push(entry);
  await emit(1);
  const ahead = await positionNow();
  await hub.feed.read();
  stream.onAsk = () => {
    for (const entry of held) stream.append(entry);
    hub.send = (entry) => stream.append(entry);
  };
  await edge.feed.read(ahead);
  expect(covers(edge.feed.seen, ahead)).toBe(true);
  expect([stream.asked, await edge.reads('client')]).toEqual([1, 0]);
  stream.onAsk = () => {};
  // It reads no more, and goes on saying that it lives.
  await hub.feed.close();
  await emit(2);
  const further = await positionNow();
  await edge.feed.read(further);
  expect(covers(edge.feed.seen, further)).toBe(true);
  expect(await edge.reads('client')).toBe(1);
  expect(edge.payloads).toEqual([1, 2]);
});

test('another history: an entry of one that is not the database’s is ignored, a new epoch is told', async () => {
  const stream = new Stream();
  const hub = await Hub.start(stream);
  const edge = await Edge.start(stream);
  const [real] = stream.entries;
  const event = {
    id: 1n,
    xid: 1n,
    account: 'acme',
    event: 'item',
    payload: '"of another database"',
    audience: null,
    known: true,
    capturedAt: 0,
  };
  stream.append({ ...real!, epoch: 'ffffffffffff', bound: { xmax: 1_000_000n, xip: [] }, events: [event] });
  stream.append({ ...real!, server: 'another', bound: { xmax: 1_000_000n, xip: [] }, events: [event] });
  await emit(1);
  await hub.feed.read();
  expect(await edge.hears(1)).toEqual([1]);
  expect(edge.lost).toEqual([]);
  await database.query('select relay.new_epoch()');
  await hub.feed.read();
  // Where the edge begins the new epoch after the event, it counts as seen.
  await until('the edge has told of the new epoch', () => edge.lost.length > 0);
  await emit(2);
  await hub.feed.read();
  expect((await edge.hears(2)).at(-1)).toBe(2);
  expect(edge.lost).toEqual(['epoch']);
  expect(edge.feed.epoch).toBe(hub.feed.epoch);
});

test('asks its listener at the start, without events, and before the batch of a revocation', async () => {
  const stream = new Stream();
  const hub = await Hub.start(stream);
  const edge = await Edge.start(stream);
  expect(edge.asked[0]).toBeNull();
  await database.query(`select relay.revoke('acme')`);
  await hub.feed.read();
  await until('it has asked', () =>
    edge.asked.flatMap((events) => events ?? []).some(({ event }) => event === 'relay:revoke'),
  );
});

test('two hubs, a stream that loses, repeats and reorders, writers at once: each event once, in order', async () => {
  const stream = new Stream();
  const hubs = [await Hub.start(stream), await Hub.start(stream, 'h2')];
  let held: Entry | null = null;
  for (const hub of hubs) {
    hub.send = (entry) => {
      const chance = Math.random();
      if (chance < 0.1) return;
      if (chance < 0.2 && !held) {
        held = entry;
        return;
      }
      stream.append(entry);
      if (chance > 0.9) stream.append(entry);
      if (held && chance > 0.7) {
        stream.append(held);
        held = null;
      }
      if (chance > 0.97) stream.flush();
    };
  }
  const edges = [await Edge.start(stream), await Edge.start(stream)];
  let writing = true;
  const reading = hubs.map(async (hub) => {
    while (writing) await hub.feed.read();
  });
  await Promise.all(
    Array.from({ length: 4 }, async (_, writer) => {
      const client = await database.connect();
      for (let n = 0; n < 60; n += 1) {
        await client.query('begin');
        await client.query(`select relay.emit('acme', 'item', $1)`, [JSON.stringify([writer, n])]);
        await client.query(n % 7 === 0 ? 'rollback' : 'commit');
      }
    }),
  );
  writing = false;
  await Promise.all(reading);
  // These hubs have no safety read.
  for (const hub of hubs) await hub.feed.read();
  const rows = await database.query<{ id: string }>('select id from relay.events');
  for (const edge of edges) {
    await edge.hears(rows.length);
    const events = edge.batches.flatMap((batch) => batch.events);
    expect(events).toHaveLength(rows.length);
    expect(new Set(events.map(({ id }) => String(id)))).toEqual(new Set(rows.map(({ id }) => id)));
    for (let writer = 0; writer < 4; writer += 1) {
      const own = (edge.payloads as [number, number][]).filter(([by]) => by === writer).map(([, n]) => n);
      expect(own).toEqual([...own].sort((a, b) => a - b));
    }
  }
});
