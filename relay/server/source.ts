// Where a process's events come from: the database, or entries that another process has read.
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
import { Silence } from '../db/silence.ts';
import { EdgeFeed, type EdgeFeedOptions } from '../edge/edge-feed.ts';
import type { Feed, FeedListener } from '../feed/feed.ts';
import { OutboxFeed } from '../feed/outbox-feed.ts';
import type { Witnesses } from '../feed/recent/witnesses.ts';
import { startRetention } from '../feed/retention.ts';
import { watchTableSwaps } from '../feed/table-swaps.ts';
import { startWakeup, type Wakeup } from '../feed/wakeup.ts';
import type { Log } from '../log.ts';
import type { Metrics } from '../metrics.ts';
import type { PageLimits } from '../outbox/events.ts';
import { readInstallation } from '../outbox/start.ts';

export interface Source {
  readonly feed: Feed;
  /**
   * Whether events arrive as soon as they are committed, by LISTEN or as entries; and the state of this node's gate.
   */
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

/** Counts reads of the database in `metrics`, unless another callback is given. */
export type EntriesOptions = SourceOptions &
  Pick<EdgeFeedOptions, 'stream'> &
  Partial<Pick<EdgeFeedOptions, 'onDatabaseRead'>>;

/** Pages are index scans of milliseconds: a query that takes longer than this has lost its connection. */
export const QUERY_TIMEOUT_MS = 15_000;
/** How long the next safety read may be late. Longer than a read waits for a locked table. */
const SILENT_MS = 2_500;
/** Retention may scan every row of a slot. */
const RETENTION_TIMEOUT_MS = 120_000;
/** Short, since the gate cannot notify the other nodes while its connection hangs. */
const GATE_TIMEOUT_MS = 3_000;
/** For the live feed. Replays read smaller pages, since clients read each one before the next. */
const PAGE: PageLimits = { events: 20_000, bytes: 32 * 1024 * 1024, payloadBytes: MAX_EVENT_BYTES };

const limitsOf = ({ windowBytes, windowEvents }: Settings['relay']) => ({
  recent: { bytes: windowBytes, events: windowEvents },
  page: PAGE,
});

/** The id of the installation, which names its stream. Waits for a database that is down. */
export async function findInstallation(databaseUrl: string, pool: pg.Pool, log: Log): Promise<string> {
  let installation = '';
  const check = async () => {
    installation = await readInstallation(pool);
  };
  await waitForDatabase({ url: databaseUrl, name: 'recado', log, check });
  return installation;
}

/** For the work beside the feed, such as retention and metrics. */
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
 * Everything that a process does with the database on its own: reading, the gate, retention, swapped tables.
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
  const silence = new Silence(settings.safetyReadMs + SILENT_MS);
  const feed = new OutboxFeed({
    ...options,
    ...limitsOf(settings),
    connect: () =>
      openReader({ url: databaseUrl, name: 'recado feed', queryTimeoutMs: QUERY_TIMEOUT_MS, silence }),
    onRead(read) {
      silence.end();
      wakeup?.onRead(read);
    },
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

/** Takes entries that another process has read, and reads the database only where they do not suffice. */
export function readEntries({ stream, ...options }: EntriesOptions): Source {
  const pool = createReaderPool({
    url: options.databaseUrl,
    name: 'recado edge',
    max: 1,
    queryTimeoutMs: QUERY_TIMEOUT_MS,
    log: options.log,
  });
  const onDatabaseRead: EdgeFeedOptions['onDatabaseRead'] = (reason) =>
    options.metrics.edgeReads.inc({ reason });
  const feed = new EdgeFeed({ onDatabaseRead, ...options, ...limitsOf(options.settings), stream, pool });
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
