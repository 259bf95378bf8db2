// Assembles a hub, and closes its parts in order. A hub reads the outbox for all edges and serves no clients.
import { randomBytes } from 'node:crypto';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Settings } from '../config/settings.ts';
import { errorText } from '../errors.ts';
import { gaugeInstances } from '../evolution/overview.ts';
import type { Batch, FeedListener } from '../feed/feed.ts';
import { listen } from '../http/listen.ts';
import { isOperator } from '../http/operators.ts';
import { gaugeDatabase } from '../http/probes.ts';
import type { Log } from '../log.ts';
import { createMetrics, leaveOut, type Metrics, OF_AN_EDGE } from '../metrics.ts';
import { readServer } from '../outbox/start.ts';
import { Hub } from '../stream/hub.ts';
import { RedisWriter } from '../stream/redis-writer.ts';
import { createRelayPool, findInstallation, readDatabase } from './source.ts';

export interface HubOptions {
  /** A direct connection, not a transaction pooler. */
  databaseUrl: string;
  streamUrl: string;
  settings: Pick<Settings, 'http' | 'relay' | 'stream'>;
  log: Log;
}

export interface RunningHub {
  /** Where the probes are. */
  readonly url: string;
  readonly metrics: Metrics;
  /** Resolves after the first read of events. */
  ready(): Promise<void>;
  close(): Promise<void>;
}

/** Only a connection to a database that does not answer takes longer to close. */
const CLOSE_WITHIN_MS = 2_000;
/** No client is served from a hub's memory. */
const NO_MEMORY = { windowBytes: 1, windowEvents: 1 };

/**
 * Starts reading and appending. Waits for a database or stream that is down.
 * @throws RecadoError `port_in_use`, `listen_failed`
 */
export async function startHub(options: HubOptions): Promise<RunningHub> {
  const { databaseUrl, streamUrl, settings, log } = options;
  const metrics = createMetrics();
  leaveOut(metrics, OF_AN_EDGE);
  const pool = createRelayPool(databaseUrl, log);
  const installation = await findInstallation(databaseUrl, pool, log);
  const { feed, wakeup, ...source } = readDatabase({
    databaseUrl,
    settings: { ...settings.relay, ...NO_MEMORY },
    pool,
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
  source.start(listenerOf(hub));

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
    await gaugeDatabase({ metrics, feed, pool, gauges: [gaugeInstances], log });
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
    await source.close();
    await pool.end();
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

/** Names sort by start time, so the older of two hubs comes first. */
function newName(): string {
  return `${Date.now().toString(16).padStart(12, '0')}-${randomBytes(4).toString('hex')}`;
}

function listenerOf(hub: Hub): FeedListener {
  let server = '';
  const toStep = ({ epoch, seen, bound }: Omit<Batch, 'events'>) => ({ epoch, server, seen, bound });
  return {
    // Every new session may belong to another server.
    async beforeBatch(session, events) {
      if (events === null) server = await readServer(session);
    },
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
