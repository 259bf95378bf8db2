// Assembles one relay process, and closes its parts in order.
import { createServer } from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';
import type pg from 'pg';
import { createVerifier } from '../auth/token.ts';
import type { Settings } from '../config/settings.ts';
import { MAX_EVENT_BYTES } from '../config/table.ts';
import { consoleRoutes } from '../console/console.ts';
import { createPool, createReaderPool } from '../db/connect.ts';
import { Replay } from '../delivery/catch-up/replay.ts';
import { Trace } from '../delivery/recent-emits.ts';
import { SlowClients } from '../delivery/slow-clients.ts';
import { Subscribers } from '../delivery/subscribers.ts';
import { errorText } from '../errors.ts';
import { gaugeInstances } from '../evolution/overview.ts';
import { syncRoutes } from '../evolution/route.ts';
import { Witnesses } from '../feed/recent/witnesses.ts';
import { serveBelow } from '../http/base-path.ts';
import { listen } from '../http/listen.ts';
import { gaugeProcess } from '../http/probes.ts';
import { answer } from '../http/router.ts';
import type { Log } from '../log.ts';
import {
  createMetrics,
  leaveOut,
  type Metrics,
  OF_ALL_PROCESSES,
  OF_AN_EDGE,
  OF_THE_READER,
} from '../metrics.ts';
import type { PageLimits } from '../outbox/events.ts';
import type { EntryReader } from '../stream/reader.ts';
import { RedisReader } from '../stream/redis-reader.ts';
import { sendAway } from '../transport/drain.ts';
import { Admission } from '../transport/limits/admission.ts';
import { TIMEOUTS, watchArrivals } from '../transport/limits/arrivals.ts';
import { Refusals } from '../transport/limits/refusals.ts';
import { Sockets } from '../transport/socketio.ts';
import { MAX_HEADER_BYTES, Streams } from '../transport/sse.ts';
import { TicketBox } from '../transport/tickets.ts';
import { countAtFirstProcess, entriesOfFirstProcess } from './entries.ts';
import { isWorker, joinAsWorker } from './processes.ts';
import { createRelayPool, findInstallation, QUERY_TIMEOUT_MS, readDatabase, readEntries } from './source.ts';
import { startSpans } from './spans.ts';

export interface RelayOptions {
  /** A direct connection, not a transaction pooler. */
  databaseUrl: string;
  jwt: Settings['jwt'];
  settings: Pick<Settings, 'http' | 'roomPrefix' | 'relay' | 'stream' | 'tracing'>;
  /** The database has the sample clinics: the console hands out their tokens and writes to them. */
  demo?: boolean;
  log: Log;
}

export interface Relay {
  /** Where clients connect; empty in a worker, which gets its connections from the first process. */
  readonly url: string;
  readonly port: number;
  readonly metrics: Metrics;
  /** Resolves after the first read of events. */
  ready(): Promise<void>;
  /** Refuses new clients, reports not ready, and disconnects the clients over DRAIN_SECONDS. */
  drain(): Promise<void>;
  /** Disconnects every client, so that it moves to another node. Safe at any moment, also twice. */
  close(): Promise<void>;
}

/** Only a connection to a database that does not answer takes longer to close. */
const CLOSE_WITHIN_MS = 2_000;
const REPLAY_SESSIONS = 2;
/** Nobody waits longer for a page. */
const CONSOLE_SETTINGS = 'set statement_timeout = 2000';
/** Small, since a client reads most of one page before the next is written. */
const REPLAY_PAGE: PageLimits = { events: 1_000, bytes: 256 * 1024, payloadBytes: MAX_EVENT_BYTES };

/**
 * Listens, and starts reading. Waits for a database that is down.
 * @throws RecadoError `port_in_use`, `listen_failed`
 */
export async function startRelay(options: RelayOptions): Promise<Relay> {
  const { databaseUrl, jwt, settings, demo = false, log } = options;
  // An edge holds at most three sessions: for its feed, for replays, and for the console. Spans need a fourth.
  const isEdge = isWorker || settings.stream.url !== null;
  const metrics = createMetrics();
  leaveOut(metrics, isEdge ? OF_THE_READER : OF_AN_EDGE);
  // The first process counts these for all its workers.
  if (isWorker) leaveOut(metrics, settings.stream.url === null ? OF_ALL_PROCESSES : OF_AN_EDGE);
  const trace = new Trace();
  const slowClients = new SlowClients(log, metrics);
  // The time-outs close connections whose request arrives too slowly.
  const server = createServer({ ...TIMEOUTS, maxHeaderSize: MAX_HEADER_BYTES });
  const replayPool = createReaderPool({
    url: databaseUrl,
    name: 'recado replay',
    max: isEdge ? 1 : REPLAY_SESSIONS,
    queryTimeoutMs: QUERY_TIMEOUT_MS,
    log,
  });
  const witnesses = new Witnesses(replayPool);
  const pool = createRelayPool(databaseUrl, log);
  const { endpoint } = settings.tracing;
  const spans =
    endpoint === null
      ? null
      : await startSpans({ endpoint, pool, trace, log }).catch((error: unknown) => {
          // The variable may be meant for other programs of the machine: the relay serves without spans.
          log.say('spans_failed', { error: errorText(error) });
          return null;
        });
  const reading = { databaseUrl, settings: settings.relay, witnesses, log, metrics };
  const stream = await findEntries(settings.stream.url, databaseUrl, replayPool, log);
  const source = stream
    ? readEntries({ ...reading, stream, ...(isWorker && { onDatabaseRead: countAtFirstProcess }) })
    : readDatabase({ ...reading, pool });
  const { feed, wakeup } = source;
  const consolePool = createPool({
    url: databaseUrl,
    name: 'recado console',
    max: isEdge ? 1 : 3,
    log,
    onConnect: async (client) => {
      await client.query(CONSOLE_SETTINGS);
    },
  });
  const routes = {
    ...(await consoleRoutes({
      pool: consolePool,
      roomPrefix: settings.roomPrefix,
      demo: demo ? jwt : null,
    })),
    ...syncRoutes(consolePool),
  };
  const verifier = createVerifier(jwt, {
    onFault: (fault) => log.say('jwks_failed', { error: fault.message }),
  });
  const subscribers = new Subscribers({
    verifier,
    feed,
    trace,
    slowClients,
    replay: new Replay(replayPool, REPLAY_PAGE, metrics),
    witnesses,
    roomPrefix: settings.roomPrefix,
    bufferBytes: settings.relay.clientBufferBytes,
    log,
    metrics,
  });
  const admission = new Admission(settings.http);
  const refusals = new Refusals(log, metrics);
  const arrivals = watchArrivals(server, settings.http, refusals);
  const sockets = new Sockets({
    server,
    subscribers,
    admission,
    arrivals,
    refusals,
    bufferBytes: settings.relay.clientBufferBytes,
    slowClients,
  });
  arrivals.watchRequests();
  serveBelow(server, settings.http.basePath);
  // A worker gets its connections from the first process.
  const { url, port } = isWorker ? { url: '', port: 0 } : await listen(server, settings.http);

  const link = isWorker
    ? joinAsWorker({
        server,
        io: sockets.io,
        metrics,
        trace,
        slowClients,
        state() {
          gaugeProcess({ metrics, subscribers, feed, wakeup });
          return { ready: feed.ready, listening: wakeup.listening };
        },
      })
    : null;
  const tickets = link?.tickets ?? new TicketBox();
  const streams = new Streams({ subscribers, admission, refusals, tickets });
  source.start(subscribers);
  server.on('request', (request, response) => {
    answer(request, response, {
      feed,
      wakeup,
      subscribers,
      streams,
      metrics,
      trace,
      slowClients,
      pool,
      link,
      hasStream: settings.stream.url !== null,
      routes,
      gauges: [gaugeInstances],
      settings: settings.http,
      closing: admission.closed,
      demo,
      log,
    });
  });

  let closing: Promise<void> | null = null;
  async function close(): Promise<void> {
    link?.close();
    subscribers.close();
    streams.close();
    await sockets.close();
    // The feed holds no state that could be lost, so closing need not wait for it.
    await Promise.race([closeDatabase(), sleep(CLOSE_WITHIN_MS, undefined, { ref: false })]);
    link?.leave();
  }
  async function closeDatabase(): Promise<void> {
    await Promise.all([source.close(), spans?.close()]);
    await Promise.all([pool.end(), replayPool.end(), consolePool.end()]);
  }
  return {
    url,
    port,
    metrics,
    ready: () => feed.firstRead,
    drain() {
      admission.close();
      const open = () => [...sockets.open, ...streams.open];
      const closePort = () => void (link ? link.vacate() : server.close());
      return sendAway(open, settings.http.drainSeconds * 1_000, closePort);
    },
    close() {
      closing ??= close();
      return closing;
    },
  };
}

/** @returns where entries come from; null if this process reads the database itself */
async function findEntries(
  streamUrl: string | null,
  databaseUrl: string,
  pool: pg.Pool,
  log: Log,
): Promise<EntryReader | null> {
  if (isWorker) return entriesOfFirstProcess();
  if (streamUrl === null) return null;
  return new RedisReader(
    { url: streamUrl, installation: await findInstallation(databaseUrl, pool, log) },
    log,
  );
}
