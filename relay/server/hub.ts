// A hub: it reads the outbox for all edges, and serves no clients. Its parts put together, and taken apart in order.
import { randomBytes } from 'node:crypto';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Settings } from '../config/settings.ts';
import { MAX_EVENT_BYTES } from '../config/table.ts';
import { createPool, openReader, openSession, TRANSACTION_SETTINGS } from '../db/connect.ts';
import { errorText } from '../errors.ts';
import type { Batch, FeedListener } from '../feed/feed.ts';
import { OutboxFeed } from '../feed/outbox-feed.ts';
import { startRetention } from '../feed/retention.ts';
import { watchTableSwaps } from '../feed/table-swaps.ts';
import { startWakeup } from '../feed/wakeup.ts';
import { listen } from '../http/listen.ts';
import { isOperator } from '../http/operators.ts';
import type { Log } from '../log.ts';
import { createMetrics, type Metrics } from '../metrics.ts';
import { readLoad } from '../outbox/load.ts';
import { readInstallation, readServer } from '../outbox/start.ts';
import { Hub, type HubStep } from '../stream/hub.ts';
import { RedisWriter } from '../stream/redis-writer.ts';

export interface HubOptions {
  /** A direct connection, not a transaction pooler. */
  databaseUrl: string;
  streamUrl: string;
  settings: Pick<Settings, 'http' | 'relay' | 'stream'>;
  log: Log;
}

export interface RunningHub {
  /** Of the probes. */
  readonly url: string;
  readonly metrics: Metrics;
  /** Resolves when events are read for the first time. */
  ready(): Promise<void>;
  close(): Promise<void>;
}

const QUERY_TIMEOUT_MS = 15_000;
const RETENTION_TIMEOUT_MS = 120_000;
const GATE_TIMEOUT_MS = 3_000;
const CLOSE_WITHIN_MS = 2_000;
/** Nobody is served from its memory. */
const RECENT = { bytes: 1, events: 1 };
const PAGE = { events: 20_000, bytes: 32 * 1024 * 1024, payloadBytes: MAX_EVENT_BYTES };

/**
 * Begins to read and to append; a database or a stream that is away is waited for.
 * @throws RecadoError `port_in_use`, `listen_failed`
 */
export async function startHub(options: HubOptions): Promise<RunningHub> {
  const { databaseUrl, streamUrl, settings, log } = options;
  const metrics = createMetrics();
  const pool = createPool({
    url: databaseUrl,
    name: 'recado hub',
    max: 2,
    onConnect: async (client) => {
      await client.query(TRANSACTION_SETTINGS);
    },
    queryTimeoutMs: RETENTION_TIMEOUT_MS,
    log,
  });
  const gatePool = createPool({
    url: databaseUrl,
    name: 'recado notify',
    max: 1,
    queryTimeoutMs: GATE_TIMEOUT_MS,
    log,
  });
  const installation = await readInstallation(pool);
  let server = '';
  const feed = new OutboxFeed({
    connect: async () => {
      const session = await openReader({
        url: databaseUrl,
        name: 'recado feed',
        queryTimeoutMs: QUERY_TIMEOUT_MS,
      });
      server = await readServer(session);
      return session;
    },
    recent: RECENT,
    page: PAGE,
    onRead: (read) => wakeup.onRead(read),
    log,
    metrics,
  });
  const writer = new RedisWriter({
    address: { url: streamUrl, installation },
    limits: settings.stream,
    onAsk: () => hub.ask(),
    onEntry: (entry) => hub.onEntry(entry),
    log,
  });
  const hub = new Hub({
    name: newName(),
    append: (entries) => writer.append(entries),
    read: () => feed.read(),
    log,
    metrics,
  });
  const wakeup = startWakeup({
    databaseUrl,
    connect: () => openSession({ url: databaseUrl, name: 'recado gate' }),
    pool: gatePool,
    mayCloseGate: true,
    wake: () => feed.wake(),
    safetyReadMs: settings.relay.safetyReadMs,
    paceMs: settings.relay.paceMs,
    log,
    metrics,
  });
  feed.start(listenerOf(hub, () => server));
  const retention = startRetention({ pool, feed, log, metrics });
  const swaps = watchTableSwaps({ pool, log });

  async function readChecks(): Promise<{ ready: boolean; checks: Record<string, string> }> {
    const checks = {
      database: feed.ready ? 'ok' : 'events cannot be read; see the log',
      listen: wakeup.listening ? 'ok' : 'not listening; events arrive with the safety reads',
      stream: writer.isReady ? 'ok' : 'Redis does not answer; edges read the database; see the log',
      role: hub.appends ? 'appends' : 'stands by',
    };
    return { ready: feed.ready && writer.isReady, checks };
  }
  async function metricsText(): Promise<string> {
    metrics.feedReady.set(feed.ready ? 1 : 0);
    metrics.listening.set(wakeup.listening ? 1 : 0);
    const load = await readLoad(pool);
    metrics.notifyQueue.set(load.notifyQueue);
    metrics.oldestTransaction.set(load.oldestTransactionSeconds);
    metrics.outboxBytes.set(load.outboxBytes);
    metrics.captureFailures.set(load.captureFailures);
    return metrics.registry.metrics();
  }
  async function answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const path = request.url?.split('?', 1)[0];
    if (path === '/healthz') return send(response, 200, { status: 'ok' });
    if (path === '/readyz') {
      const { ready, checks } = await readChecks();
      return send(response, ready ? 200 : 503, { ready, checks });
    }
    if (path !== '/metrics') return send(response, 404, { error: { code: 'not_found' } });
    if (!isOperator(request, { settings: settings.http, demo: false })) {
      return send(response, 403, { error: { code: 'operators_only' } });
    }
    response.writeHead(200, { 'content-type': metrics.registry.contentType, 'cache-control': 'no-store' });
    response.end(await metricsText());
  }
  const probes = createServer((request, response) => {
    answer(request, response).catch((error: unknown) => {
      log.say('http_failed', { path: request.url ?? '', error: errorText(error) });
      send(response, 500, { error: { code: 'internal_error' } });
    });
  });
  const { url } = await listen(probes, settings.http);

  let closing: Promise<void> | null = null;
  async function close(): Promise<void> {
    await hub.close();
    writer.close();
    probes.closeAllConnections();
    probes.close();
    await Promise.race([closeDatabase(), sleep(CLOSE_WITHIN_MS, undefined, { ref: false })]);
  }
  async function closeDatabase(): Promise<void> {
    await Promise.all([retention.close(), swaps.close(), wakeup.close(), feed.close()]);
    await Promise.all([pool.end(), gatePool.end()]);
  }
  return {
    url,
    metrics,
    ready: () => feed.firstRead,
    close() {
      closing ??= close();
      return closing;
    },
  };
}

/** The elder of two hubs comes first in the order of names. */
function newName(): string {
  return `${Date.now().toString(16).padStart(12, '0')}-${randomBytes(4).toString('hex')}`;
}

function listenerOf(hub: Hub, server: () => string): FeedListener {
  const toStep = (batch: Omit<Batch, 'events'>): Omit<HubStep, 'events' | 'backlog'> => ({
    epoch: batch.epoch,
    server: server(),
    seen: batch.seen,
    bound: batch.bound,
  });
  return {
    onBatch: (batch) => hub.take({ ...toStep(batch), events: batch.events, backlog: false }),
    onBacklog: (backlog) => hub.take({ ...toStep(backlog), events: [], backlog: true }),
    accounts: () => [],
    onLost: () => hub.startOver(),
  };
}

function send(response: ServerResponse, status: number, body: unknown): void {
  response.writeHead(status, {
    'content-type': 'application/json; charset=utf-8',
    'cache-control': 'no-store',
  });
  response.end(`${JSON.stringify(body)}\n`);
}
