// A million events, half of them with an audience: what Postgres does with each query of the relay, prepared and set up as
// the relay does it. No sequential scan, no JIT, and as many rows touched as there is news, also beside a transaction held
// open throughout.
import type pg from 'pg';
import { openReader } from '../../db/connect.ts';
import { isSmallBatch, readSmallBatch } from '../../outbox/batches.ts';
import type { PageLimits, Session } from '../../outbox/events.ts';
import { readAccountPage, readPage } from '../../outbox/pages.ts';
import { cut, parseSnapshot, type Snapshot } from '../../outbox/position.ts';
import { findRecent, readLargest, readStart } from '../../outbox/start.ts';
import { type Database, freshDatabase } from '../world.ts';

const EVENTS = 1_000_000;
const PER_TRANSACTION = 100;
const ACCOUNTS = 1_000;
const NEWS = 20;
const LIMITS: PageLimits = { events: 5_000, bytes: 32 * 1024 * 1024, payloadBytes: 4 * 1024 * 1024 };

let database: Database;
/** Prepared when there was nothing to read: its plans are the ones it keeps. */
let reader: pg.Client;
/** Its transaction has an event, and stays open. */
let open: pg.Client;
/** What a feed has seen that has read everything but the news. */
let seen: Snapshot;

/** So often a plan is made anew before Postgres settles on a generic one, and some. */
const UNTIL_GENERIC = 8;

async function snapshot(): Promise<Snapshot> {
  const { rows } = await reader.query<{ now: string }>('select pg_current_snapshot()::text as now');
  return parseSnapshot(rows[0]!.now);
}

async function feed(through: Session): Promise<number> {
  return (await readPage(through, { seen, bound: null, after: 0n }, LIMITS)).events.length;
}

async function few(through: Session, xip: bigint[] = []): Promise<number> {
  return (await readSmallBatch(through, { ...seen, xip }, LIMITS))!.events.length;
}

async function fewWithLate(through: Session): Promise<number> {
  return few(through, [1n, 2n]);
}

async function replay(through: Session): Promise<number> {
  return (await readAccountPage(through, '7', { seen, bound: null, after: 0n }, LIMITS)).events.length;
}

async function prepareAll(): Promise<void> {
  for (let n = 0; n < UNTIL_GENERIC; n += 1) {
    await feed(reader);
    await few(reader);
    await fewWithLate(reader);
    await replay(reader);
    await readLargest(reader, seen);
    await findRecent(reader, 100, 1_000_000);
  }
}

beforeAll(async () => {
  database = await freshDatabase();
  reader = await openReader({ url: database.url, name: 'plans test' });
  seen = cut(await snapshot(), 1n);
  await prepareAll();
  // Transaction ids are the server's: some are used up, and a hundred events written with each.
  await database.query(
    `do $$ begin for n in 1 .. ${EVENTS / PER_TRANSACTION} loop perform pg_current_xact_id(); commit; end loop; end $$`,
  );
  open = await database.connect();
  await open.query(`begin; insert into relay.events (account_id, event) values ('7', 'still.open')`);
  const { rows: taken } = await open.query<{ xid: string }>('select pg_current_xact_id()::text as xid');
  // In the order of the clock, as the ring is filled; the oldest in the slot that is emptied next.
  await database.query(
    `insert into relay.events (slot, xid, account_id, event, payload, audience)
     select n * 8 / ${EVENTS}, ($1::bigint - ${EVENTS / PER_TRANSACTION} + n / ${PER_TRANSACTION})::text::xid8,
            n % ${ACCOUNTS}, 'old.event', '{"id": 123, "isBusy": true}',
            case when n % 2 = 0 then array['user:' || n % 50, 'reception'] end
       from generate_series(0, ${EVENTS} - 1) as n`,
    [taken[0]!.xid],
  );
  await database.query('analyze relay.events');
  const { rows } = await reader.query<{ largest: string }>(
    `select xid::text as largest from relay.events order by relay.events.xid desc limit 1`,
  );
  seen = cut(await snapshot(), BigInt(rows[0]!.largest));
  for (let n = 0; n < NEWS; n += 1) {
    await database.query(
      `insert into relay.events (account_id, event, audience) values ($1, 'new.event', '{user:1}')`,
      [n % 10],
    );
  }
}, 180_000);

afterAll(async () => {
  await open?.query('rollback');
  await reader?.end();
  await database?.close();
});

/** What EXPLAIN tells of a node. */
interface Plan {
  'Node Type': string;
  'Relation Name'?: string;
  'Actual Rows'?: number;
  'Actual Loops'?: number;
  'Rows Removed by Filter'?: number;
  Plans?: Plan[];
}

interface Explained {
  readonly nodes: Plan[];
  readonly jit: unknown;
  /** Rows that scans of the outbox looked at, kept or not. */
  readonly touched: number;
}

/** Runs `work` with EXPLAIN put before its last query, by the name under which it is prepared where it has one. */
async function explain(work: (session: Session) => Promise<unknown>): Promise<Explained> {
  let last: { name?: string; text: string; values: unknown[] } | null = null;
  const recording = {
    query(given: string | { name?: string; text: string; values?: unknown[] }, values?: unknown[]) {
      last = typeof given === 'string' ? { text: given, values: values ?? [] } : { values: [], ...given };
      return reader.query(given as string, values);
    },
  } as unknown as Session;
  await work(recording);
  const { name, text, values } = last!;
  const literals = values.map(literal).join(', ');
  const options = 'analyze, costs off, timing off, format json';
  const result = name
    ? await reader.query(`explain (${options}) execute ${name}(${literals})`)
    : await reader.query(`explain (${options}) ${text}`, values);
  const [{ Plan: root, JIT: jit }] = result.rows[0]['QUERY PLAN'] as [{ Plan: Plan; JIT?: unknown }];
  const nodes = flatten(root);
  const scans = nodes.filter((node) => node['Relation Name']?.startsWith('events_'));
  const touched = scans.reduce(
    (sum, node) =>
      sum +
      ((node['Actual Rows'] ?? 0) + (node['Rows Removed by Filter'] ?? 0)) * (node['Actual Loops'] ?? 0),
    0,
  );
  return { nodes, jit, touched };
}

function flatten(plan: Plan): Plan[] {
  return [plan, ...(plan.Plans ?? []).flatMap(flatten)];
}

function literal(value: unknown): string {
  if (value === null) return 'null';
  if (Array.isArray(value)) return `'{${value.join(',')}}'`;
  return `'${String(value)}'`;
}

function expectIndexScans({ nodes, jit }: Explained): void {
  expect(jit).toBeUndefined();
  const kinds = new Set(
    nodes.filter((node) => node['Relation Name']?.startsWith('events_')).map((node) => node['Node Type']),
  );
  // A bitmap is made from an index too.
  for (const kind of kinds) expect(['Index Scan', 'Index Only Scan', 'Bitmap Heap Scan']).toContain(kind);
  expect(kinds.size).toBeGreaterThan(0);
  expect(nodes.filter((node) => node['Node Type'].startsWith('Gather'))).toEqual([]);
}

test('the plans of the live feed are the generic ones that were made when there was nothing', async () => {
  const { rows } = await reader.query<{ name: string; generic: boolean }>(
    `select name, generic_plans > 0 and custom_plans = 0 as generic from pg_prepared_statements where name like 'recado%' order by name`,
  );
  expect(rows.map(({ name }) => name)).toEqual([
    'recado_feed',
    'recado_largest',
    'recado_replay',
    'recado_small',
    'recado_small_with_late',
  ]);
  expect(rows.filter(({ generic }) => !generic)).toEqual([]);
});

test.each([
  ["the feed's query", feed],
  ['the query for few events', (through: Session) => few(through)],
  ['the query for few events, some of them late,', fewWithLate],
])('%s touches what is new', async (_, read) => {
  expect(await read(reader)).toBe(NEWS);
  const explained = await explain(read);
  expectIndexScans(explained);
  // And what transactions wrote that are in progress: the open one here, and of others on this server, whose ids the
  // events above may have.
  const others = (await snapshot()).xip.length;
  expect(explained.touched).toBeLessThanOrEqual(NEWS + 1 + PER_TRANSACTION * others);
});

test("the replay's query touches what is new to the account", async () => {
  expect(await replay(reader)).toBe(NEWS / 10);
  const explained = await explain(replay);
  expectIndexScans(explained);
  expect(explained.touched).toBeLessThanOrEqual(NEWS / 10 + 1);
});

test('with five hundred transactions in progress they touch only the events of those, and the new ones', async () => {
  const many = Array.from({ length: 500 }, (_, n) => seen.xmax - 2_000n + 2n * BigInt(n));
  const crowded = { seen: { ...seen, xip: many }, bound: seen, after: 0n };
  const ten = { ...LIMITS, events: 10 };
  for (const read of [
    (session: Session) => readPage(session, crowded, ten),
    (session: Session) => readSmallBatch(session, crowded.seen, LIMITS),
    (session: Session) => readAccountPage(session, '7', crowded, ten),
  ]) {
    const explained = await explain(read);
    expectIndexScans(explained);
    expect(explained.touched).toBeLessThanOrEqual(500 * PER_TRANSACTION + NEWS + 1);
  }
});

test('the largest seen transaction is found from the end of the index', async () => {
  const explained = await explain((session) => readLargest(session, seen));
  expectIndexScans(explained);
  // What is newer is passed over, and a partition gives one row before it is known not to be needed.
  expect(explained.touched).toBeLessThanOrEqual(NEWS + 1 + 8);
});

test('a start touches one event of each slot', async () => {
  const explained = await explain(readStart);
  expectIndexScans(explained);
  expect(explained.touched).toBeLessThanOrEqual(8 + 1);
});

test('filling the recent events touches as many events as it holds', async () => {
  const explained = await explain((session) => findRecent(session, 100, 1_000_000));
  expectIndexScans(explained);
  expect(explained.touched).toBeLessThanOrEqual(100 + 1 + 8);
});

test('relay.position() touches one event of each slot, in an application with settings of its own', async () => {
  const app = await database.connect();
  await app.query(
    'set enable_seqscan = on; set jit = on; set jit_above_cost = 0; set random_page_cost = 100',
  );
  for (let n = 0; n < UNTIL_GENERIC; n += 1) await app.query('select relay.position()');
  const counters = async () => {
    const { rows } = await app.query<{ sequential: number; rows: number }>(
      `select sum(seq_scan)::int as sequential, sum(seq_tup_read + idx_tup_fetch)::int as rows
         from pg_stat_xact_user_tables where schemaname = 'relay' and relname like 'events%'`,
    );
    return rows[0]!;
  };
  await app.query('begin');
  const before = await counters();
  await app.query('select relay.position()');
  const after = await counters();
  await app.query('commit');
  expect(after.sequential).toBe(before.sequential);
  expect(after.rows - before.rows).toBeLessThanOrEqual(8 + 1);
});

test('relay.events has two indexes, and no third', async () => {
  const rows = await database.query<{ indexes: string[] }>(
    `select array_agg(indexrelid::regclass::text order by indexrelid::regclass::text) as indexes
       from pg_index where indrelid = 'relay.events'::regclass`,
  );
  expect(rows).toEqual([{ indexes: ['relay.events_by_account', 'relay.events_by_xid'] }]);
});

test('the query for few events takes none whose size only their compression hides', async () => {
  const before = { ...(await snapshot()), xip: [] };
  await database.query(
    `insert into relay.events (account_id, event, payload) select '1', 'test.event', to_jsonb(repeat('x', 50000)) from generate_series(1, 3)`,
  );
  expect(await readSmallBatch(reader, before, LIMITS)).toBeNull();
  const { events } = await readPage(reader, { seen: before, bound: null, after: 0n }, LIMITS);
  expect(events.map(({ payload }) => payload?.length)).toEqual([50_002, 50_002, 50_002]);
  expect(isSmallBatch(events)).toBe(false);
  // A page ends where its text would, not where what is stored does.
  const limits = { ...LIMITS, bytes: 90_000 };
  const page = await readPage(reader, { seen: before, bound: null, after: 0n }, limits);
  expect([page.events.length, page.more]).toEqual([2, true]);
});
