// The feed against real Postgres servers: what it hands on is compared with the table, which is the oracle.
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmod, chown, cp, mkdtemp, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type pg from 'pg';
import { openReader } from '../../db/connect.ts';
import { type EmbeddedPostgres, startEmbedded } from '../../db/embedded.ts';
import { environment, findBinaries } from '../../db/embedded-binaries.ts';
import type { Backlog, Batch, FeedListener } from '../../feed/feed.ts';
import { OutboxFeed } from '../../feed/outbox-feed.ts';
import { RecentEvents, type RecentEventsLimits } from '../../feed/recent/recent-events.ts';
import { migrate } from '../../install/migrate.ts';
import { createLog } from '../../log.ts';
import { createMetrics } from '../../metrics.ts';
import type { OutboxEvent, PageLimits, Session } from '../../outbox/events.ts';
import { readAccountPage } from '../../outbox/pages.ts';
import { covers, hasSeen, parsePosition, parseSnapshot, type Snapshot, sees } from '../../outbox/position.ts';
import { readStart } from '../../outbox/start.ts';
import { testServer } from '../postgres.ts';
import { type Database, deadPort, freshDatabase, openDatabase, until } from '../world.ts';

const silent = createLog('silent', false);
const ends: (() => unknown)[] = [];
afterEach(async () => {
  for (const end of ends.splice(0).reverse()) await end();
});

interface Options {
  recent?: Partial<RecentEventsLimits>;
  page?: Partial<PageLimits>;
  /** Called before each statement of the feed's session, which waits for it. */
  before?: (text: string) => unknown;
}

/** A feed and what it handed on. */
class Reader implements FeedListener {
  readonly batches: Batch[] = [];
  readonly backlogs: Backlog[] = [];
  /** Accounts that somebody listens for. */
  readonly present: string[] = [];
  readonly lost: string[] = [];
  /** What it was asked before, each with the accounts that were revoked by then. */
  readonly asked: { events: string[] | null; revoked: string[] }[] = [];
  readonly feed: OutboxFeed;
  /** Where the feed connects next. */
  url: string;
  session: pg.Client | null = null;

  constructor(url: string, { recent, page, before }: Options = {}) {
    this.url = url;
    this.feed = new OutboxFeed({
      connect: async () => {
        const session = await openReader({ url: this.url, name: 'feed under test', queryTimeoutMs: 15_000 });
        if (before) {
          const query = session.query.bind(session) as (...values: unknown[]) => Promise<unknown>;
          session.query = (async (first: string | pg.QueryConfig, ...rest: unknown[]) => {
            await before(typeof first === 'string' ? first : first.text);
            return query(first, ...rest);
          }) as never;
        }
        this.session = session;
        return session;
      },
      recent: { bytes: 64 * 1024 * 1024, events: 100_000, ...recent },
      page: { events: 5_000, bytes: 32 * 1024 * 1024, payloadBytes: 4 * 1024 * 1024, ...page },
      log: silent,
      metrics: createMetrics(),
    });
    ends.push(() => this.feed.close());
    this.feed.start(this);
  }

  get events(): OutboxEvent[] {
    return this.batches.flatMap(({ events }) => events);
  }

  onBatch(batch: Batch): void {
    this.batches.push(batch);
  }
  onBacklog(backlog: Backlog): void {
    this.backlogs.push(backlog);
  }
  accounts(): string[] {
    return this.present;
  }
  onLost(reason: string): void {
    this.lost.push(reason);
  }
  async beforeBatch(session: Session, events: readonly OutboxEvent[] | null): Promise<void> {
    const { rows } = await session.query<{ account_id: string }>('select account_id from relay.revocations');
    this.asked.push({
      events: events?.map(({ event }) => event) ?? null,
      revoked: rows.map(({ account_id }) => account_id),
    });
  }
}

async function startReader(url: string, options?: Options): Promise<Reader> {
  const reader = new Reader(url, options);
  await reader.feed.firstRead;
  return reader;
}

/** Reads without a pause until told to stop, as if every commit notified. */
function readOnAndOn(reader: Reader): () => Promise<void> {
  let stopped = false;
  const reading = (async () => {
    while (!stopped) {
      // Not ready: the database is away for the moment.
      await reader.feed.read().catch(() => new Promise((resolve) => setTimeout(resolve, 20)));
    }
  })();
  return async () => {
    stopped = true;
    await reading;
    await until('the last read', () =>
      reader.feed.read().then(
        () => true,
        () => false,
      ),
    );
  };
}

/** Asks for a read, for until(): the tests' feeds have no wake-up. */
function wake({ feed }: Reader): false {
  feed.wake();
  return false;
}

interface Row {
  id: string;
  account_id: string | null;
  event: string;
  payload: string;
}

/** Each committed event once, nothing else, those of one row (payload.row) in the order of their ids. */
async function expectEachOnce(reader: Reader, database: Database, after = 0n): Promise<number> {
  const rows = await database.query<Row>(
    'select id, account_id, event, payload::text as payload from relay.events where id > $1 order by id',
    [after.toString()],
  );
  const heard = [...reader.events].sort((a, b) => (a.id < b.id ? -1 : 1));
  const plain = heard.map(({ id, account, event, payload }) => ({
    id: id.toString(),
    account_id: account,
    event,
    payload,
  }));
  const committed = new Set(rows.map(({ id }) => id));
  const ids = plain.map(({ id }) => id);
  const once = new Set(ids);
  expect({
    missing: rows.filter(({ id }) => !once.has(id)).length,
    twice: ids.length - once.size,
    neverCommitted: ids.filter((id) => !committed.has(id)).length,
  }).toEqual({ missing: 0, twice: 0, neverCommitted: 0 });
  expect(plain).toEqual(rows);
  expectOrder(reader.events);
  return rows.length;
}

function expectOrder(events: readonly OutboxEvent[]): void {
  const last = new Map<string, bigint>();
  let disorder = 0;
  for (const { payload, id } of events) {
    const row = (JSON.parse(payload ?? 'null') as { row?: number } | null)?.row;
    if (row === undefined) continue;
    if ((last.get(`${row}`) ?? 0n) > id) disorder += 1;
    last.set(`${row}`, id);
  }
  expect(disorder).toBe(0);
}

/** A table whose every change is an event that names its row. */
async function createItems(database: Database): Promise<void> {
  await database.query(
    `create table items (id int primary key, account text not null, n int not null default 0)`,
  );
  await database.query(`insert into items select i, 'acc-' || i % 3, 0 from generate_series(1, 20) i`);
  await database.query(
    `select relay.publish(event => 'items.changed', on_table => 'public.items', operation => 'UPDATE',
       account => 'new.account', payload => $$jsonb_build_object('row', new.id, 'n', new.n)$$)`,
  );
}

/** Transactions of one writer: commits, rollbacks, savepoints, and some that stay open while others pass. */
async function writeAtRandom(client: pg.Client, until: () => boolean, random = Math.random): Promise<void> {
  while (!until()) {
    try {
      if (random() < 0.2) await client.query('set synchronous_commit = off');
      await client.query('begin');
      const item = 1 + Math.floor(random() * 20);
      await client.query('update items set n = n + 1 where id = $1', [item]);
      if (random() < 0.3) {
        await client.query('savepoint s');
        await client.query('update items set n = n + 1 where id = $1', [item]);
        await client.query(random() < 0.5 ? 'rollback to s' : 'release s');
      }
      if (random() < 0.2) await client.query('select pg_sleep($1)', [random() * 0.05]);
      await client.query(random() < 0.3 ? 'rollback' : 'commit');
      if (random() < 0.1) await client.query('reset synchronous_commit');
    } catch (error) {
      if ((error as { code?: string }).code !== '40P01') return; // the server is gone
      await client.query('rollback').catch(() => undefined);
    }
  }
}

async function emit(database: Database, payload: unknown = {}, account = 'acc-1'): Promise<void> {
  await database.query('select relay.emit($1, $2, $3)', [account, 'test.event', JSON.stringify(payload)]);
}

async function currentXid(database: Database): Promise<bigint> {
  const [row] = await database.query<{ xid: string }>('select pg_current_xact_id()::text as xid');
  return BigInt(row!.xid);
}

describe('on one database', () => {
  let database: Database;
  beforeEach(async () => {
    database = await freshDatabase();
    ends.push(() => database.close());
  });

  test('hands on each event that committed, once, those of one row in order, among many writers', async () => {
    await createItems(database);
    const reader = await startReader(database.url);
    // Open from before the first event until after the last one: here, and elsewhere in the cluster.
    const held = await database.connect();
    await held.query('begin');
    await held.query("insert into relay.events (account_id, event) values ('acc-1', 'test.held')");
    const elsewhere = openDatabase((await testServer()).url);
    ends.push(() => elsewhere.close());
    const other = await elsewhere.connect();
    await other.query('begin');
    await other.query('select pg_current_xact_id()');

    const stop = readOnAndOn(reader);
    const deadline = Date.now() + 1_200;
    const writers = await Promise.all(Array.from({ length: 10 }, () => database.connect()));
    const bulk = (async () => {
      for (let i = 0; i < 8; i += 1) {
        await database.query(
          "insert into relay.events (account_id, event) select 'acc-2', 'test.bulk' from generate_series(1, 150)",
        );
        await reader.feed.read();
      }
    })();
    await Promise.all([bulk, ...writers.map((client) => writeAtRandom(client, () => Date.now() > deadline))]);
    await stop();
    expect(reader.events.length).toBeGreaterThan(300);
    expect(reader.events.some(({ event }) => event === 'test.held')).toBe(false);

    await held.query('commit');
    await reader.feed.read();
    await other.query('rollback');
    await reader.feed.read();
    expect(reader.events.at(-1)!.event).toBe('test.held');
    await expectEachOnce(reader, database);
    expect(reader.lost).toEqual([]);
  });

  test('passes over more than a page: it is seen at once, and who may have a part of it is told', async () => {
    const reader = await startReader(database.url, { page: { events: 10 } });
    reader.present.push('acc-1', 'acc-9');
    await emit(database, 'before');
    await reader.feed.read();
    const { seen } = reader.feed;
    await database.query(
      `insert into relay.events (account_id, event, payload)
       select 'acc-' || i % 3, 'test.event', to_jsonb(i) from generate_series(1, 35) i`,
    );
    await reader.feed.read();
    const [backlog] = reader.backlogs;
    expect(reader.events.map(({ payload }) => payload)).toEqual(['"before"']);
    expect(backlog!.seen).toBe(seen);
    expect(backlog!.bound).toBe(reader.feed.seen);
    expect(['acc-1', 'acc-9', 'acc-that-came-meanwhile'].map(backlog!.touches)).toEqual([true, false, true]);
    // Nothing of it is in memory, and nothing of it comes again.
    expect(reader.feed.recent.reaches(seen)).toBe(false);
    await emit(database, 'after');
    await reader.feed.read();
    expect(reader.events.map(({ payload }) => payload)).toEqual(['"before"', '"after"']);
  });

  test('an event for everybody in what is passed over concerns every account', async () => {
    const reader = await startReader(database.url, { page: { events: 10 } });
    reader.present.push('acc-9');
    await database.query(
      `insert into relay.events (account_id, event) select nullif('acc-' || i, 'acc-7'), 'relay:resync' from generate_series(1, 35) i`,
    );
    await reader.feed.read();
    expect(reader.backlogs.map(({ touches }) => touches('acc-9'))).toEqual([true]);
  });

  test.each([
    ['text', "to_jsonb(repeat('x', 4000))"],
    ['stored size', '(select jsonb_agg(n) from generate_series(1, 60) n)'],
    ['both', "to_jsonb((select string_agg(md5(n::text || i), '') from generate_series(1, 120) n))"],
  ])('ends a page by its bytes (%s), and goes on behind it', async (_, payload) => {
    const session = await openReader({ url: database.url, name: 'pages', queryTimeoutMs: 15_000 });
    ends.push(() => session.end());
    const { now } = await readStart(session);
    await database.query(
      `insert into relay.events (account_id, event, payload)
       select 'acc-1', 'test.event', ${payload} from generate_series(1, 60) i`,
    );
    const limits = { events: 5_000, bytes: 10_000, payloadBytes: 4 * 1024 * 1024 };
    const ids: bigint[] = [];
    let pages = 0;
    for (let more = true; more; pages += 1) {
      const range = { seen: now, bound: null, after: ids.at(-1) ?? 0n };
      const page = await readAccountPage(session, 'acc-1', range, limits);
      ids.push(...page.events.map(({ id }) => id));
      more = page.more;
    }
    expect(pages).toBeGreaterThan(3);
    expect(ids).toEqual([...new Set(ids)].sort((x, y) => (x < y ? -1 : 1)));
    expect(ids).toHaveLength(60);
  });

  test('a page is the same, whichever transactions are held for large', async () => {
    const session = await openReader({ url: database.url, name: 'pages', queryTimeoutMs: 15_000 });
    ends.push(() => session.end());
    const { now } = await readStart(session);
    for (const size of [3, 40, 1, 25])
      await database.query(
        `insert into relay.events (account_id, event, payload)
         select 'acc-1', 'test.event', to_jsonb(i) from generate_series(1, ${size}) i`,
      );
    const rows = await database.query<{ xid: string }>(
      "select distinct xid::text from relay.events where account_id = 'acc-1'",
    );
    const xids = rows.map(({ xid }) => BigInt(xid));
    const limits = { events: 20, bytes: 100_000, payloadBytes: 4 * 1024 * 1024 };
    const read = async (after: bigint, large: readonly bigint[]) => {
      const range = { seen: now, bound: null, after };
      return (await readAccountPage(session, 'acc-1', range, limits, large)).events.map(({ id }) => id);
    };
    const plain = await read(0n, []);
    const [middle] = plain.slice(10);
    for (const large of [xids.slice(0, 1), xids.slice(1, 3), xids, [1n]]) {
      expect(await read(0n, large)).toEqual(plain);
      expect(await read(middle!, large)).toEqual(await read(middle!, []));
    }
  });

  test('reads no payload beyond what may be sent, and says so by null', async () => {
    const reader = await startReader(database.url, { page: { payloadBytes: 1_000 } });
    await emit(database, 'x'.repeat(2_000));
    await emit(database, 'small');
    await reader.feed.read();
    expect(reader.events.map(({ payload }) => payload)).toEqual([null, '"small"']);
  });

  test('reads what was committed while its connection was gone, once', async () => {
    const reader = await startReader(database.url);
    await emit(database, 1);
    await reader.feed.read();
    for (const n of [2, 3]) {
      await database.query(
        "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'feed under test'",
      );
      await until('the feed noticed', () => !reader.feed.ready);
      await emit(database, n);
      await until('the feed is back', () => reader.feed.ready);
    }
    expect(reader.events.map(({ payload }) => payload)).toEqual(['1', '2', '3']);
  });

  test('raises a commit that would not wait for the disk, for events only', async () => {
    const client = await database.connect();
    const setting = async () => (await client.query('show synchronous_commit')).rows[0].synchronous_commit;
    await client.query('set synchronous_commit = off');
    await client.query('begin');
    expect(await setting()).toBe('off');
    await client.query('savepoint s');
    await client.query("select relay.emit('acc-1', 'test.event')");
    expect(await setting()).toBe('local');
    await client.query('rollback to s');
    expect(await setting()).toBe('off');
    await client.query("select relay.emit('acc-1', 'test.event')");
    expect(await setting()).toBe('local');
    await client.query('commit');
    expect(await setting()).toBe('off');
  });

  test('never scans the table, also with a plan made while it was empty', async () => {
    const reader = await startReader(database.url);
    for (let i = 0; i < 12; i += 1) await reader.feed.read();
    await database.query(
      "insert into relay.events (account_id, event) select 'acc-' || i % 100, 'test.bulk' from generate_series(1, 20000) i",
    );
    await reader.feed.read();
    const { rows } = await reader.session!.query<{ plan: string }>({
      text: `explain (costs off) execute recado_feed('${reader.feed.seen.xmax}', '{1,2,3}', 0, null, 5000, 1000000, 1000000)`,
    });
    const plan = (rows as unknown as { 'QUERY PLAN': string }[]).map((row) => row['QUERY PLAN']).join('\n');
    expect(plan).toMatch(/Index Scan/);
    expect(plan).not.toMatch(/Seq Scan on events/);
  });

  test('notices relay.new_epoch() beneath it, without losing its connection', async () => {
    const reader = await startReader(database.url);
    await emit(database, 'old');
    await reader.feed.read();
    const before = reader.feed.epoch;
    await database.query('select relay.new_epoch()');
    await reader.feed.read();
    expect(reader.lost).toEqual(['epoch']);
    const [row] = (await database.query('select relay.epoch() as epoch')) as [{ epoch: string }];
    expect(reader.feed.epoch).toBe(row.epoch);
    expect(row.epoch).not.toBe(before);
    await emit(database, 'new');
    await reader.feed.read();
    expect(reader.events.map(({ payload }) => payload)).toEqual(['"old"', '"new"']);
    expect(reader.lost).toEqual(['epoch']);
  });

  test('a new epoch is told though the connection breaks in the warm-up after it', async () => {
    let breaks = false;
    const reader = await startReader(database.url, {
      before(text) {
        if (!breaks || !text.includes('with newest as')) return;
        breaks = false;
        throw new Error('The connection breaks.');
      },
    });
    await emit(database, 'old');
    await reader.feed.read();
    breaks = true;
    await database.query('select relay.new_epoch()');
    reader.feed.wake();
    await until('the feed knows', () => reader.lost.length > 0);
    await until('the feed reads', () => reader.feed.ready);
    expect(breaks).toBe(false);
    expect(reader.lost).toEqual(['epoch']);
  });

  test('is another epoch after the database became another one: nothing old comes back, all must refetch', async () => {
    const reader = await startReader(database.url);
    await emit(database, 'old');
    await reader.feed.read();
    const before = reader.feed.epoch;
    // What a restored dump or a promotion looks like: the epoch that is computed is not the recorded one.
    await database.query('update relay.installation set id = gen_random_uuid()');
    await reader.feed.read();
    expect(reader.lost).toEqual([]);
    await database.query(
      "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'feed under test'",
    );
    await until('the feed knows', () => reader.lost.length > 0);
    await until('the feed reads', () => reader.feed.ready);
    expect(reader.lost).toEqual(['epoch']);
    expect(reader.feed.epoch).not.toBe(before);
    expect(await database.query('select * from relay.events')).toEqual([]);
    await emit(database, 'new');
    await reader.feed.read();
    expect(reader.events.map(({ payload }) => payload)).toEqual(['"old"', '"new"']);
    expect(reader.lost).toEqual(['epoch']);
    // A second node, and the same one again, find it settled.
    const second = await startReader(database.url);
    expect(second.feed.epoch).toBe(reader.feed.epoch);
    expect(await database.query('select * from relay.events')).toHaveLength(1);
  });

  test('starts over when events were emptied that it had not read', async () => {
    const reader = await startReader(database.url);
    await emit(database, 1);
    // What a transaction of another database might have written counts as unread until it ends.
    await until('nothing is in progress', async () => {
      await reader.feed.read();
      return reader.feed.seen.xip.length === 0;
    });
    // Emptied, but read: nothing is lost.
    await database.query(
      'update relay.installation set emptied_in = pg_current_snapshot(), emptied_through = (select max(xid::text::bigint)::text::xid8 from relay.events)',
    );
    await database.query("begin; set local relay.removing = 'on'; delete from relay.events; commit");
    await reader.feed.read();
    expect(reader.lost).toEqual([]);
    const seen = reader.feed.seen;

    const xid = await currentXid(database);
    await database.query(
      'update relay.installation set emptied_in = pg_current_snapshot(), emptied_through = $1::text::xid8',
      [xid.toString()],
    );
    await reader.feed.read();
    expect(reader.lost).toEqual(['retention']);
    expect(covers(reader.feed.seen, seen)).toBe(true);
    expect(sees(reader.feed.seen, xid)).toBe(true);
    await emit(database, 2);
    await reader.feed.read();
    expect(reader.lost).toEqual(['retention']);
    expect(reader.events.map(({ payload }) => payload)).toEqual(['1', '2']);
  });

  test('asks its listener before a batch: what was written while it connects is there too', async () => {
    let pause: (() => void) | null = null;
    const reader = new Reader(database.url, {
      before: async (text) => {
        // Between the first two things it asks for, whatever they are.
        if (text.includes('settle_epoch') && !pause) {
          await new Promise<void>((resolve) => (pause = resolve));
        }
      },
    });
    await until('the feed is connecting', () => pause);
    await database.query("select relay.revoke('acc-1')");
    pause!();
    await reader.feed.firstRead;
    await reader.feed.read();
    expect(reader.asked[0]?.events).toBeNull();
    expect(reader.asked.at(-1)?.revoked).toEqual(['acc-1']);
    await database.query("select relay.revoke('acc-2', subject => 'ana')");
    await reader.feed.read();
    expect(reader.asked.at(-1)).toEqual({ events: ['relay:revoke'], revoked: ['acc-1', 'acc-2'] });
  });

  describe('warm', () => {
    const clientAt = (seen: Snapshot) => ({ epoch: '0123456789ab', seen });

    async function positionNow(): Promise<Snapshot> {
      const [row] = await database.query<{ text: string }>('select relay.position() as text');
      return parsePosition(row!.text)!.seen;
    }

    test('begins with recent events in memory, so that a restart is not one query per client', async () => {
      const start = await positionNow();
      for (let n = 0; n < 6; n += 1) await emit(database, n, `acc-${n % 2}`);
      const middle = await positionNow();
      for (let n = 6; n < 9; n += 1) await emit(database, n, `acc-${n % 2}`);
      const { feed } = await startReader(database.url);
      expect(feed.recent.reaches(start)).toBe(true);
      expect(feed.recent.unseen('acc-0', clientAt(middle)).map(({ payload }) => payload)).toEqual(['6', '8']);
      expect(feed.recent.unseen('acc-1', clientAt(start)).map(({ payload }) => payload)).toEqual([
        '1',
        '3',
        '5',
        '7',
      ]);
      expect(feed.recent.unseen('acc-1', clientAt(feed.seen))).toEqual([]);
    });

    test('keeps most of it when new events come to recent events that were filled at the start', async () => {
      for (let n = 0; n < 60; n += 1) await emit(database, n);
      const middle = await positionNow();
      for (let n = 60; n < 100; n += 1) await emit(database, n);
      const reader = await startReader(database.url, { recent: { events: 100 } });
      expect(reader.feed.recent.reaches(middle)).toBe(true);
      for (let n = 100; n < 110; n += 1) {
        await emit(database, n);
        await reader.feed.read();
      }
      expect(reader.feed.recent.reaches(middle)).toBe(true);
      expect(
        reader.feed.recent.unseen('acc-1', clientAt(middle)).map(({ payload }) => Number(payload)),
      ).toEqual(Array.from({ length: 50 }, (_, i) => 60 + i));
    });

    test('has no gap where a transaction was open', async () => {
      const held = await database.connect();
      await held.query('begin');
      await held.query("select relay.emit('acc-1', 'test.held')");
      await emit(database, 1);
      const start = await positionNow();
      await emit(database, 2);
      const reader = await startReader(database.url);
      await held.query('commit');
      await reader.feed.read();
      expect(reader.feed.recent.reaches(start)).toBe(true);
      expect(
        reader.feed.recent.unseen('acc-1', clientAt(start)).map(({ event, payload }) => [event, payload]),
      ).toEqual([
        ['test.held', 'null'],
        ['test.event', '2'],
      ]);
    });
  });

  describe('relay.position()', () => {
    const unseenIn = async (text: string): Promise<string[]> => {
      const position = parsePosition(text)!;
      const rows = await database.query<{ id: string; xid: string; payload: string }>(
        'select id, xid::text as xid, payload::text as payload from relay.events order by id',
      );
      return rows
        .filter((row) => !hasSeen(position, { id: BigInt(row.id), xid: BigInt(row.xid) }))
        .map(({ payload }) => payload);
    };

    test('is what the transaction of the list sees, in REPEATABLE READ', async () => {
      const reader = await startReader(database.url);
      const held = await database.connect();
      await held.query('begin');
      await held.query("select relay.emit('acc-1', 'test.event', '\"open\"')");
      await emit(database, 'before');
      const client = await database.connect();
      await client.query('begin isolation level repeatable read');
      await client.query('select 1 from relay.events');
      await emit(database, 'after');
      await held.query('commit');
      const { rows } = await client.query<{ text: string }>('select relay.position() as text');
      expect(await unseenIn(rows[0]!.text)).toEqual(['"open"', '"after"']);
      await reader.feed.read();
      expect(parsePosition(rows[0]!.text)!.epoch).toBe(reader.feed.epoch);
      expect(covers(reader.feed.seen, parsePosition(rows[0]!.text)!.seen)).toBe(true);
    });

    test.each(['read committed', 'repeatable read'])(
      'does not see its own open writes, in %s',
      async (level) => {
        await emit(database, 'before');
        const client = await database.connect();
        await client.query(`begin isolation level ${level}`);
        await client.query("select relay.emit('acc-1', 'test.event', '\"own\"')");
        if (level === 'read committed') await emit(database, 'after');
        const { rows } = await client.query<{ text: string }>('select relay.position() as text');
        await client.query('commit');
        expect(await unseenIn(rows[0]!.text)).toEqual(['"own"']);
      },
    );

    test('sees neither more nor less than the statement that selects the list with it', async () => {
      // A statement that is slow enough for others to commit in the middle of it.
      const slow = database.query<{ list: string[]; text: string }>(
        `with list as materialized (select coalesce(array_agg(payload::text), '{}') as list from relay.events),
              pause as materialized (select pg_sleep(0.3), list from list)
         select list, relay.position() as text from pause`,
      );
      await until('the statement sleeps', async () => {
        const rows = await database.query(
          "select from pg_stat_activity where wait_event = 'PgSleep' and datname = current_database()",
        );
        return rows.length > 0;
      });
      await emit(database, 'meanwhile');
      const [row] = await slow;
      expect(row!.list).toEqual([]);
      expect(await unseenIn(row!.text)).toEqual(['"meanwhile"']);
    });

    test('is cut: it names no transaction above the largest event', async () => {
      await emit(database);
      const [event] = await database.query<{ xid: string }>('select xid::text as xid from relay.events');
      for (let i = 0; i < 3; i += 1) await currentXid(database);
      const [row] = await database.query<{ text: string }>('select relay.position() as text');
      const { seen } = parsePosition(row!.text)!;
      expect(seen.xmax).toBe(BigInt(event!.xid) + 1n);
      expect(seen.xip.every((xid) => xid < seen.xmax)).toBe(true);
    });

    test('is where the feed is that has read the same', async () => {
      const reader = await startReader(database.url);
      await emit(database);
      await reader.feed.read();
      const [row] = await database.query<{ text: string }>('select relay.position() as text');
      const { epoch, seen } = parsePosition(row!.text)!;
      expect(epoch).toBe(reader.feed.epoch);
      expect(seen.xmax).toBe(reader.feed.seen.xmax);
      await reader.feed.read();
      expect(covers(reader.feed.seen, seen)).toBe(true);
    });
  });
});

describe('recent events', () => {
  let id = 0n;
  const event = (account: string | null, xid: bigint, payload = 'null'): OutboxEvent => ({
    id: ++id,
    xid,
    account,
    event: 'test.event',
    payload,
    known: true,
    audience: null,
    capturedAt: 0,
  });
  const at = (xmax: bigint, xip: bigint[] = []): Snapshot => ({ xmax, xip });
  const filled = (limits: Partial<RecentEventsLimits>) =>
    new RecentEvents(at(1n), { bytes: 1e9, events: 1e9, ...limits });

  test('holds an account what it has not seen, with what is meant for everybody, in the order of ids', () => {
    const recent = filled({});
    recent.add([event('a', 1n, '1'), event('b', 1n, '2'), event(null, 1n, '3')], at(2n));
    recent.add([event('a', 3n, '4')], at(4n, [2n]));
    const unseen = (seen: Snapshot) => recent.unseen('a', { epoch: 'e', seen }).map(({ payload }) => payload);
    expect(unseen(at(1n))).toEqual(['1', '3', '4']);
    expect(unseen(at(2n))).toEqual(['4']);
    expect(unseen(at(4n, [2n]))).toEqual([]);
    expect(recent.reaches(at(1n))).toBe(true);
  });

  test('an empty read takes nothing away, also where everything was forgotten', () => {
    const recent = filled({ events: 1 });
    recent.add([event('a', 3n, '1'), event('a', 3n, '2')], at(4n, [2n]));
    recent.add([], at(4n));
    expect(recent.reaches(at(4n, [2n]))).toBe(true);
  });

  test('forgets the oldest batches first, by number and by bytes, and knows how far it reaches', () => {
    for (const limits of [{ events: 3 }, { bytes: 3 * 2_500 }]) {
      const recent = filled(limits);
      for (let xid = 1n; xid <= 10n; xid += 1n) {
        recent.add([event(xid % 2n ? 'a' : 'b', xid, 'x'.repeat(1_000))], at(xid + 1n));
      }
      expect(recent.size.events).toBe(3);
      expect(recent.reaches(at(8n))).toBe(true);
      expect(recent.reaches(at(7n))).toBe(false);
      expect(recent.reaches(at(9n, [6n]))).toBe(false);
      expect(recent.unseen('a', { epoch: 'e', seen: at(8n) }).map(({ xid }) => xid)).toEqual([9n]);
      expect(recent.unseen('b', { epoch: 'e', seen: at(8n) }).map(({ xid }) => xid)).toEqual([8n, 10n]);
    }
  });

  test('is not shortened by reads that found nothing', () => {
    const recent = filled({});
    recent.add([event('a', 1n)], at(2n));
    for (let i = 0; i < 10; i += 1) recent.add([], at(2n));
    expect(recent.reaches(at(1n))).toBe(true);
    expect(recent.newest).toBe(1);
  });

  test('says whose position it is about to forget, before it does', () => {
    const recent = filled({ events: 10 });
    // An account that was told its position with batch n is lost once recent.reaches(bound of n) is false.
    const bounds = [at(1n)];
    let told = 0;
    for (let xid = 1n; xid <= 200n; xid += 1n) {
      recent.add([event('busy', xid)], at(xid + 1n));
      bounds.push(at(xid + 1n));
      expect(recent.reaches(bounds[told]!)).toBe(true);
      if (told < recent.aging) told = recent.newest;
    }
    expect(told).toBeGreaterThan(150);
  });

  test.each(['add', 'clear'] as const)('says so too after a batch larger than itself (%s)', (how) => {
    const recent = filled({ events: 10 });
    recent.add([event('a', 1n)], at(2n));
    const told = recent.newest;
    if (how === 'clear') recent.clear(at(3n));
    else
      recent.add(
        Array.from({ length: 20 }, () => event('b', 2n)),
        at(3n),
      );
    expect(recent.reaches(at(2n))).toBe(false);
    expect(recent.reaches(at(3n))).toBe(true);
    expect(told).toBeLessThan(recent.aging);
    // And only them: who is told now is not asked for again.
    expect(recent.newest).toBeGreaterThanOrEqual(recent.aging);
  });
});

describe('through crashes of a server of its own', () => {
  let base: string;
  let server: EmbeddedPostgres;
  let database: Database;

  const settings = {
    fsync: 'off',
    max_prepared_transactions: '10',
    // What rolls back is on disk only when something else is flushed: the danger that the cut is there for.
    wal_writer_delay: '10s',
    max_connections: '50',
  };

  beforeAll(async () => {
    base = await mkdtemp(join(tmpdir(), 'recado-feed-test-'));
    await chmod(base, 0o755);
    server = await startEmbedded({ dataDir: join(base, 'a'), settings });
    database = openDatabase(server.url);
    await migrate({ databaseUrl: server.url, log: silent });
    await createItems(database);
  });
  afterAll(async () => {
    await database.close();
    await server.stop('immediate');
    await rm(base, { recursive: true, force: true });
  });

  async function crash(): Promise<void> {
    const { port, dataDir } = server;
    await server.stop('immediate');
    server = await startEmbedded({ dataDir, settings, port });
  }

  async function lastId(): Promise<bigint> {
    const [row] = await database.query<{ id: string }>(
      'select coalesce(max(id), 0)::text as id from relay.events',
    );
    return BigInt(row!.id);
  }

  test('loses no event whose transaction id was given out twice', async () => {
    const reader = await startReader(server.url);
    await emit(database, 'first');
    await reader.feed.read();
    for (let round = 0; round < 2; round += 1) {
      const client = await database.connect();
      await client.query('begin');
      const { rows } = await client.query<{ xid: string }>('select pg_current_xact_id()::text as xid');
      const xid = BigInt(rows[0]!.xid);
      await client.query('rollback');
      await reader.feed.read();
      const [row] = await database.query<{ text: string }>('select pg_current_snapshot()::text as text');
      const uncut = parseSnapshot(row!.text);
      await crash();
      await until('the server is back', () =>
        emit(database, round).then(
          () => true,
          () => false,
        ),
      );
      const [event] = await database.query<{ xid: string }>(
        'select xid::text as xid from relay.events order by id desc limit 1',
      );
      // The premise: Postgres gave it out again, and the snapshot as it was has already called it seen.
      expect(BigInt(event!.xid)).toBe(xid);
      expect(sees(uncut, BigInt(event!.xid))).toBe(true);
      await until(
        'the event',
        () => reader.events.some(({ payload }) => payload === `${round}`) || wake(reader),
      );
    }
    expect(reader.events.map(({ payload }) => payload)).toEqual(['"first"', '0', '1']);
    expect(reader.lost).toEqual([]);
  });

  test('hands on what committed and nothing else, each once, through four crashes among writers', async () => {
    const reader = await startReader(server.url);
    const after = await lastId();
    const stop = readOnAndOn(reader);
    for (let round = 0; round < 4; round += 1) {
      const writers = await Promise.all(Array.from({ length: 8 }, () => database.connect()));
      const target = reader.events.length + 60;
      const writing = writers.map((client) => writeAtRandom(client, () => false));
      await until('some events', () => reader.events.length >= target);
      await crash();
      await Promise.all(writing);
    }
    await stop();
    expect(await expectEachOnce(reader, database, after)).toBeGreaterThan(240);
    expect(reader.lost).toEqual([]);
  });

  test('does not hand on a transaction from the future until it is there, and then once', async () => {
    const reader = await startReader(server.url);
    const now = await currentXid(database);
    // As a dump restored from another cluster carries them, or somebody who may give the xid.
    await database.query(
      `insert into relay.events (xid, account_id, event) values ($1::text::xid8, 'acc-1', 'test.near'), ($2::text::xid8, 'acc-1', 'test.far')`,
      [(now + 40n).toString(), (now + 10_000_000n).toString()],
    );
    for (let n = 0; n < 5; n += 1) {
      await emit(database, n);
      await reader.feed.read();
    }
    expect(reader.events.map(({ event }) => event)).toEqual(Array.from({ length: 5 }, () => 'test.event'));
    for (let i = 0; i < 50; i += 1) await currentXid(database);
    for (let n = 5; n < 8; n += 1) {
      await emit(database, n);
      await reader.feed.read();
    }
    expect(reader.events.filter(({ event }) => event === 'test.near')).toHaveLength(1);
    expect(reader.events.filter(({ event }) => event === 'test.event')).toHaveLength(8);
    expect(reader.events.some(({ event }) => event === 'test.far')).toBe(false);
  });

  test('hands on a prepared transaction when it is committed, once, also after a crash', async () => {
    const reader = await startReader(server.url);
    const client = await database.connect();
    for (const name of ['early', 'late']) {
      await client.query('begin');
      await client.query('set local relay.ring = off');
      await client.query("select relay.emit('acc-1', 'test.prepared', to_jsonb($1::text))", [name]);
      await client.query(`prepare transaction '${name}'`);
    }
    await emit(database, 'between');
    await reader.feed.read();
    await client.query("commit prepared 'early'");
    await reader.feed.read();
    await crash();
    await until('the server is back', () =>
      emit(database, 'after').then(
        () => true,
        () => false,
      ),
    );
    await until('the event after the crash', () => reader.events.length === 3 || wake(reader));
    await database.query("commit prepared 'late'");
    await reader.feed.read();
    expect(reader.events.map(({ payload }) => payload)).toEqual([
      '"between"',
      '"early"',
      '"after"',
      '"late"',
    ]);
  });

  test('refuses to ring for a transaction that is to be prepared, unless muted', async () => {
    const client = await database.connect();
    await client.query('begin');
    await client.query("select relay.emit('acc-1', 'test.event')");
    await expect(client.query("prepare transaction 'rung'")).rejects.toThrow(/NOTIFY/);
  });

  test('notices that the database has gone back in time: a storage snapshot was restored', async () => {
    const reader = await startReader(server.url);
    const copy = await copyCluster('restored');
    for (let n = 0; n < 5; n += 1) await emit(database, `undone ${n}`);
    await until('the feed is back', () =>
      reader.feed.read().then(
        () => true,
        () => false,
      ),
    );
    const before = { epoch: reader.feed.epoch, seen: reader.feed.seen };
    const heard = reader.events.length;

    const restored = await startEmbedded({ dataDir: copy, settings });
    ends.push(() => restored.stop('immediate'));
    reader.url = restored.url;
    await database.query(
      "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'feed under test'",
    );
    await until('the feed knows', () => reader.lost.length > 0);
    await until('the feed reads', () => reader.feed.ready);
    expect(reader.lost).toEqual(['epoch']);
    expect(reader.feed.epoch).not.toBe(before.epoch);
    // Its numbers are lower than those it had seen, so nothing new may be measured by them.
    expect(covers(reader.feed.seen, before.seen)).toBe(false);
    const copied = openDatabase(restored.url);
    ends.push(() => copied.close());
    await emit(copied, 'new');
    await reader.feed.read();
    expect(reader.events.slice(heard).map(({ payload }) => payload)).toEqual(['"new"']);
  });

  test('does not read, and gives no position, on a standby', async () => {
    const copy = await copyCluster('standby');
    const standby = await startStandby(copy);
    const onStandby = openDatabase(standby);
    ends.push(() => onStandby.close());
    await until('the standby answers', () =>
      onStandby.query('select 1').then(
        () => true,
        () => false,
      ),
    );
    await expect(onStandby.query('select relay.position()')).rejects.toThrow(
      /relay\.position\(\) was called on a standby/,
    );
    const reader = new Reader(standby);
    await expect(reader.feed.read()).rejects.toMatchObject({ code: 'feed_not_ready' });
    expect(reader.feed.ready).toBe(false);
  });

  /** The cluster's data as they are now, in a directory of their own. The server is restarted for it. */
  async function copyCluster(name: string): Promise<string> {
    const { port, dataDir } = server;
    await server.stop('fast');
    const { uid, gid } = await stat(join(dataDir, 'cluster'));
    const copy = join(base, name);
    await cp(dataDir, copy, { recursive: true });
    execFileSync('chown', ['-R', `${uid}:${gid}`, join(copy, 'cluster')]);
    server = await startEmbedded({ dataDir, settings, port });
    return copy;
  }

  /** Postgres as a hot standby that follows nobody. */
  async function startStandby(dataDir: string): Promise<string> {
    const data = join(dataDir, 'cluster/data');
    const { uid, gid } = await stat(data);
    await writeFile(join(data, 'standby.signal'), '');
    await chown(join(data, 'standby.signal'), uid, gid);
    const user = process.getuid?.() === 0 ? { uid, gid } : undefined;
    const port = await deadPort();
    const flags = { ...settings, port, listen_addresses: '127.0.0.1', unix_socket_directories: '' };
    const child = spawn(
      join(await findBinaries(user), 'bin/postgres'),
      [
        '-D',
        user ? '/proc/self/cwd' : data,
        ...Object.entries(flags).flatMap(([key, value]) => ['-c', `${key}=${value}`]),
      ],
      { ...user, cwd: data, env: environment, stdio: 'ignore' },
    );
    ends.push(async () => {
      if (child.exitCode !== null) return;
      const gone = once(child, 'exit');
      child.kill('SIGQUIT');
      await gone;
    });
    return server.url.replace(`:${server.port}/`, `:${port}/`);
  }
});
