// A feed under test and what it hands on, beside a table whose every change is an event.
import type pg from 'pg';
import { openReader } from '../../db/connect.ts';
import type { Backlog, Batch, FeedListener } from '../../feed/feed.ts';
import { OutboxFeed } from '../../feed/outbox-feed.ts';
import type { RecentEventsLimits } from '../../feed/recent/recent-events.ts';
import { createLog } from '../../log.ts';
import { createMetrics } from '../../metrics.ts';
import type { OutboxEvent, PageLimits, Session } from '../../outbox/events.ts';
import { ends } from '../ends.ts';
import { type Database, until } from '../world.ts';

export const silent = createLog('silent', false);

interface Options {
  recent?: Partial<RecentEventsLimits>;
  page?: Partial<PageLimits>;
  /** Called before each statement of the feed's session, which waits for it. */
  before?: (text: string) => unknown;
}

/** A feed and what it handed on. */
export class Reader implements FeedListener {
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

export async function startReader(url: string, options?: Options): Promise<Reader> {
  const reader = new Reader(url, options);
  await reader.feed.firstRead;
  return reader;
}

/** Reads without a pause until told to stop, as if every commit notified. */
export function readOnAndOn(reader: Reader): () => Promise<void> {
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
export function wake({ feed }: Reader): false {
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
export async function expectEachOnce(reader: Reader, database: Database, after = 0n): Promise<number> {
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
export async function createItems(database: Database): Promise<void> {
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
export async function writeAtRandom(
  client: pg.Client,
  until: () => boolean,
  random = Math.random,
): Promise<void> {
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

export async function emit(database: Database, payload: unknown = {}, account = 'acc-1'): Promise<void> {
  await database.query('select relay.emit($1, $2, $3)', [account, 'test.event', JSON.stringify(payload)]);
}

export async function currentXid(database: Database): Promise<bigint> {
  const [row] = await database.query<{ xid: string }>('select pg_current_xact_id()::text as xid');
  return BigInt(row!.xid);
}
