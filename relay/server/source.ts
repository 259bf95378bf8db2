// Where a process has its events from: the database, or entries that another process has read.
import type pg from 'pg';
import type { Settings } from '../config/settings.ts';
import { MAX_EVENT_BYTES } from '../config/table.ts';
import {
  createPool,
  createReaderPool,
  openReader,
  openSession,
  TRANSACTION_SETTINGS,
  waitForDatabase,
} from '../db/connect.ts';
import { EdgeFeed } from '../edge/edge-feed.ts';
import type { Feed, FeedListener } from '../feed/feed.ts';
import { OutboxFeed } from '../feed/outbox-feed.ts';
import { startRetention } from '../feed/retention.ts';
import { watchTableSwaps } from '../feed/table-swaps.ts';
import { startWakeup, type Wakeup } from '../feed/wakeup.ts';
import type { Witnesses } from '../feed/witnesses.ts';
import type { Log } from '../log.ts';
import type { Metrics } from '../metrics.ts';
import type { PageLimits } from '../outbox/events.ts';
import { readInstallation } from '../outbox/start.ts';
import type { EntryReader } from '../stream/reader.ts';

export interface Source {
  readonly feed: Feed;
  /** Whether events come as soon as they are committed, by LISTEN or from the first process; and its own gate. */
  readonly wakeup: Pick<Wakeup, 'listening' | 'gate'>;
  start(listener: FeedListener): void;
  close(): Promise<void>;
}

export interface SourceOptions {
  databaseUrl: string;
  settings: Settings['relay'];
  witnesses?: Witnesses;
  log: Log;
  metrics: Metrics;
}

/** A query that takes longer has lost its connection: pages are index scans of milliseconds. */
export const QUERY_TIMEOUT_MS = 15_000;
/** Retention may look at every row of a slot. */
const RETENTION_TIMEOUT_MS = 120_000;
/** While its connection hangs, the gate cannot notify the other nodes. */
const GATE_TIMEOUT_MS = 3_000;
/** Of the live feed. Replays read smaller pages, and their clients drain each before the next. */
const PAGE: PageLimits = { events: 20_000, bytes: 32 * 1024 * 1024, payloadBytes: MAX_EVENT_BYTES };

const limitsOf = ({ windowBytes, windowEvents }: Settings['relay']) => ({
  recent: { bytes: windowBytes, events: windowEvents },
  page: PAGE,
});

/** Which stream is that of this database; a database that is away is waited for. */
export async function findInstallation(databaseUrl: string, pool: pg.Pool, log: Log): Promise<string> {
  let installation = '';
  const check = async () => {
    installation = await readInstallation(pool);
  };
  await waitForDatabase({ url: databaseUrl, name: 'recado', log, check });
  return installation;
}

/** For what is beside the reading: retention, the metrics. */
export function createRelayPool(databaseUrl: string, log: Log): pg.Pool {
  return createPool({
    url: databaseUrl,
    name: 'recado relay',
    max: 2,
    onConnect: async (client) => {
      await client.query(TRANSACTION_SETTINGS);
    },
    queryTimeoutMs: RETENTION_TIMEOUT_MS,
    log,
  });
}

/**
 * All that touches the database for its own sake: reading, the gate, retention, swapped tables.
 * @param pool createRelayPool()
 */
export function readDatabase({ pool, ...options }: SourceOptions & { pool: pg.Pool }): Source {
  const { databaseUrl, settings, log, metrics } = options;
  const gatePool = createPool({
    url: databaseUrl,
    name: 'recado notify',
    max: 1,
    queryTimeoutMs: GATE_TIMEOUT_MS,
    log,
  });
  const feed = new OutboxFeed({
    ...options,
    ...limitsOf(settings),
    connect: () => openReader({ url: databaseUrl, name: 'recado feed', queryTimeoutMs: QUERY_TIMEOUT_MS }),
    onRead: (read) => wakeup?.onRead(read),
  });
  let closers: { close(): Promise<void> }[] = [];
  let wakeup: Wakeup | null = null;
  return {
    feed,
    wakeup: {
      get listening() {
        return wakeup?.listening ?? false;
      },
      get gate() {
        return wakeup?.gate ?? 'open';
      },
    },
    start(listener) {
      wakeup = startWakeup({
        databaseUrl,
        connect: () => openSession({ url: databaseUrl, name: 'recado gate' }),
        pool: gatePool,
        mayCloseGate: true,
        wake: () => feed.wake(),
        safetyReadMs: settings.safetyReadMs,
        paceMs: settings.paceMs,
        log,
        metrics,
      });
      closers = [wakeup, startRetention({ pool, feed, log, metrics }), watchTableSwaps({ pool, log })];
      feed.start(listener);
    },
    async close() {
      await Promise.all([feed, ...closers].map((part) => part.close()));
      await gatePool.end();
    },
  };
}

/** Entries that another process has read, and the database where they do not suffice. */
export function readEntries({ stream, ...options }: SourceOptions & { stream: EntryReader }): Source {
  const pool = createReaderPool({
    url: options.databaseUrl,
    name: 'recado edge',
    max: 1,
    queryTimeoutMs: QUERY_TIMEOUT_MS,
    log: options.log,
  });
  const feed = new EdgeFeed({ ...options, ...limitsOf(options.settings), stream, pool });
  return {
    feed,
    wakeup: {
      get listening() {
        return feed.streaming;
      },
      gate: 'open',
    },
    start: (listener) => feed.start(listener),
    async close() {
      await feed.close();
      await pool.end();
    },
  };
}
