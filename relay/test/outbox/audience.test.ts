// Who hears an event, as every reader of the outbox gets it: whatever somebody has inserted, it is bounded, and never
// becomes everybody.
import type pg from 'pg';
import { openReader } from '../../db/connect.ts';
import { readBatch, readSmallBatch } from '../../outbox/batches.ts';
import type { OutboxEvent, PageLimits, Session } from '../../outbox/events.ts';
import { readAccountPage, readPage } from '../../outbox/pages.ts';
import { NOTHING, parseSnapshot, type Snapshot } from '../../outbox/position.ts';
import { findRecent } from '../../outbox/start.ts';
import { type Database, freshDatabase } from '../world.ts';

const LIMITS: PageLimits = { events: 1_000, bytes: 32 * 1024 * 1024, payloadBytes: 4 * 1024 * 1024 };

let database: Database;
let reader: pg.Client;
/** Before what a test inserts. */
let before: Snapshot;

beforeAll(async () => {
  database = await freshDatabase();
  reader = await openReader({ url: database.url, name: 'audience test' });
});
afterAll(async () => {
  await reader?.end();
  await database?.close();
});
beforeEach(async () => {
  const [row] = await database.query<{ now: string }>('select pg_current_snapshot()::text as now');
  before = parseSnapshot(row!.now);
});

const withLate = () => ({ ...before, xip: [1n, 2n] });
const range = (seen: Snapshot) => ({ seen, bound: null, after: 0n });

/** Every query that reads events. */
const READERS: Record<string, (session: Session) => Promise<readonly OutboxEvent[]>> = {
  'few events': async (session) => (await readSmallBatch(session, before, LIMITS))!.events,
  'few events, late ones': async (session) => (await readSmallBatch(session, withLate(), LIMITS))!.events,
  'few events without a slot': async (session) =>
    (await readSmallBatch(session, before, LIMITS, await anotherSlot()))!.events,
  'a batch': async (session) => (await readBatch(session, before, LIMITS)).events,
  'a page': async (session) => (await readPage(session, range(withLate()), LIMITS)).events,
  'a page without a slot': async (session) =>
    (await readPage(session, range(before), LIMITS, await anotherSlot())).events,
  'a replay': async (session) => (await readAccountPage(session, '7', range(withLate()), LIMITS)).events,
};

/** One that nothing is written to at the moment. */
async function anotherSlot(): Promise<number[]> {
  const [row] = await database.query<{ slot: number }>(
    'select (relay.slot_at(clock_timestamp()) + 4) % 8 as slot',
  );
  return [row!.slot];
}

async function insert(...audiences: string[]): Promise<void> {
  for (const audience of audiences) {
    await database.query(
      `insert into relay.events (account_id, event, audience) values ('7', 'test.event', ${audience})`,
    );
  }
}

describe.each(Object.keys(READERS))('%s', (name) => {
  const read = async () => (await READERS[name]!(reader)).map(({ audience }) => audience);

  test('has the audience; null is everybody, and an empty one nobody', async () => {
    await insert('null', "array['user:1', 'desk']", "'{}'", 'array[\'com vírgula, "aspas" e {chave}\']');
    expect(await read()).toEqual([null, ['user:1', 'desk'], [], ['com vírgula, "aspas" e {chave}']]);
  });

  test('has an empty audience where there are more topics than 100', async () => {
    await insert(
      "array(select 'user:' || n from generate_series(1, 100) as n)",
      "array(select 'user:' || n from generate_series(1, 101) as n)",
      // So much compresses well.
      "array_fill('user:1'::text, array[100000])",
    );
    const [hundred, more, many] = await read();
    expect(hundred).toHaveLength(100);
    expect([more, many]).toEqual([[], []]);
  });

  test('has no topic of more than 128 bytes, and none that is null', async () => {
    await insert(
      "array[repeat('x', 129), 'desk', null]",
      "array[repeat('é', 65)]",
      'array[null]::text[]',
      "array[repeat('x', 128)]",
    );
    expect(await read()).toEqual([['desk'], [], [], ['x'.repeat(128)]]);
  });

  test('has a plain list where the array has dimensions, or bounds of its own', async () => {
    await insert("array[array['a', 'b'], array['c', 'd']]", "'[5:6]={a,b}'");
    expect(await read()).toEqual([
      ['a', 'b', 'c', 'd'],
      ['a', 'b'],
    ]);
  });
});

test('topics count among the bytes after which a page ends', async () => {
  const topics = "array(select lpad(n::text, 128, 'x') from generate_series(1, 100) as n)";
  await insert(topics, topics, topics);
  const limits = { ...LIMITS, bytes: 20_000 };
  expect(await readSmallBatch(reader, before, limits)).toBeNull();
  for (const page of [
    await readPage(reader, range(before), limits),
    await readAccountPage(reader, '7', range(before), limits),
  ]) {
    expect([page.events.length, page.more]).toEqual([2, true]);
  }
  // And among those that the recent events are filled with: here two, of which the older may not fit in whole.
  const { events } = await readPage(reader, range(NOTHING), LIMITS);
  expect(await findRecent(reader, 1_000, 30_000)).toBe(events.at(-2)!.xid + 1n);
});
