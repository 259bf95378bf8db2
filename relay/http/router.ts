// The few routes beside Socket.IO.

import { timingSafeEqual } from 'node:crypto';
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { AddressInfo, Server } from 'node:net';
import type pg from 'pg';
import { TokenError } from '../auth/token-error.ts';
import type { Settings } from '../config/settings.ts';
import type { Trace } from '../delivery/recent-emits.ts';
import type { Subscribers } from '../delivery/subscribers.ts';
import { errorText, RecadoError } from '../errors.ts';
import type { Feed } from '../feed/feed.ts';
import type { Wakeup } from '../feed/wakeup.ts';
import type { Log } from '../log.ts';
import type { Metrics } from '../metrics.ts';
import { countProblems, readLoad } from '../outbox/load.ts';
import type { Streams } from '../transport/sse.ts';

/** What a process says of itself, and what /readyz shows of all. */
export interface WorkerState {
  pid: number;
  ready: boolean;
  listening: boolean;
}

/** The processes behind one port, of which this is one. */
export interface AllProcesses {
  /** The metrics of all, summed. */
  metrics(): Promise<string>;
  workers(): Promise<{ expected: number; workers: WorkerState[] }>;
}

export interface Context {
  feed: Feed;
  wakeup: Wakeup;
  subscribers: Subscribers;
  streams: Streams;
  metrics: Metrics;
  trace: Trace;
  pool: pg.Pool;
  /** Where several processes share the port. */
  link: AllProcesses | null;
  /** What else is answered: the console. */
  routes: Routes;
  /** What else is measured when somebody asks. */
  gauges: readonly ((pool: pg.Pool, metrics: Metrics) => Promise<void>)[];
  settings: Settings['http'];
  /** The demonstration: a browser on this machine is the operator. */
  demo: boolean;
  log: Log;
}

export interface Reply {
  status: number;
  /** Text and bytes are sent as they are, anything else as JSON. */
  body: unknown;
  type?: string;
  headers?: Record<string, string>;
}

export type Route = (request: IncomingMessage, context: Context) => Reply | Promise<Reply>;

/** By method and path: "GET /healthz". GET answers HEAD too, and a last part of * any name in its place. */
export type Routes = Readonly<Record<string, Route>>;

/** A request that is not answered, for a reason the caller may know. */
export class RefusedRequest extends RecadoError {
  readonly status: number;

  constructor(status: number, code: string, message: string) {
    super(code, message);
    this.status = status;
  }
}

const ownRoutes: Routes = {
  'GET /healthz': () => ({ status: 200, body: { status: 'ok' } }),
  'GET /readyz': (_request, context) => readiness(context),
  'GET /metrics': async (request, context) => {
    refuseOthersThanOperators(request, context);
    return { status: 200, body: await metricsText(context), type: context.metrics.registry.contentType };
  },
  'GET /trace': (request, context) => {
    refuseOthersThanOperators(request, context);
    const id = new URL(request.url ?? '/', 'http://relay').searchParams.get('id') ?? '';
    if (!/^\d{1,18}$/.test(id)) {
      return refusal(400, 'id_invalid', 'The id of an event is expected: /trace?id=123.');
    }
    return { status: 200, body: { emitted: context.trace.find(BigInt(id)) } };
  },
};

/** The metrics of all processes behind this port, as Prometheus reads them. */
export async function metricsText(context: Context): Promise<string> {
  await gauge(context);
  const { metrics, link } = context;
  return link ? await link.metrics() : await metrics.registry.metrics();
}

/** Answers what is not Socket.IO's. An error becomes a 500 without its text, which is in the log. */
export function answer(request: IncomingMessage, response: ServerResponse, context: Context): void {
  // Not by URL, which throws at what a client may well send, such as "//".
  const path = request.url?.split('?', 1)[0] ?? '/';
  if (path.startsWith('/socket.io/')) return;
  if (path === '/events') {
    context.streams.answer(request, response);
    return;
  }
  void find(
    request.method ?? 'GET',
    path,
    context.routes,
  )(request, context).then(
    (reply) => send(response, reply),
    (error: unknown) => send(response, replyTo(error, path, context.log)),
  );
}

function find(method: string, path: string, others: Routes): (...call: Parameters<Route>) => Promise<Reply> {
  const routes = { ...others, ...ownRoutes };
  const pattern = path.replace(/[^/]+$/, '*');
  const asked = method === 'HEAD' ? 'GET' : method;
  const route = routes[`${asked} ${path}`] ?? routes[`${asked} ${pattern}`];
  if (route) return async (request, context) => route(request, context);
  const methods = Object.keys(routes)
    .map((key) => key.split(' ') as [string, string])
    .filter(([, known]) => known === path || known === pattern)
    .map(([known]) => known);
  if (methods.length === 0) {
    return async () => refusal(404, 'not_found', 'There is nothing here. Socket.IO is under /socket.io/.');
  }
  const sentence = `${method} was received, but only ${methods.join(' and ')} is answered here.`;
  return async () => ({
    ...refusal(405, 'method_not_allowed', sentence),
    headers: { allow: methods.join(', ') },
  });
}

function send(response: ServerResponse, reply: Reply): void {
  const { status, body, type = 'application/json; charset=utf-8', headers } = reply;
  response.writeHead(status, {
    'content-type': type,
    'cache-control': 'no-store',
    'x-content-type-options': 'nosniff',
    'x-frame-options': 'DENY',
    'referrer-policy': 'no-referrer',
    ...headers,
  });
  response.end(typeof body === 'string' || body instanceof Uint8Array ? body : `${JSON.stringify(body)}\n`);
}

function replyTo(error: unknown, path: string, log: Log): Reply {
  if (error instanceof RefusedRequest) return refusal(error.status, error.code, error.message);
  if (error instanceof TokenError && error.permanent) return refusal(401, error.code, error.message);
  log.say('http_failed', { path, error: errorText(error) });
  return refusal(500, 'internal_error', 'Something went wrong here; the log of the relay says what.');
}

function refusal(status: number, code: string, message: string): Reply {
  return { status, body: { error: { code, message } } };
}

/**
 * The body of a request, parsed.
 * @throws RefusedRequest `body_not_json`, `body_too_large`
 */
export async function readJson(request: IncomingMessage, maxBytes: number): Promise<unknown> {
  const type = request.headers['content-type'] ?? '';
  // A form of a foreign page cannot send this type without asking first.
  if (!/^application\/json\b/.test(type)) {
    const sentence = `The body's type is ${JSON.stringify(type)}, but application/json is expected.`;
    throw new RefusedRequest(415, 'body_not_json', sentence);
  }
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of request as AsyncIterable<Buffer>) {
    bytes += chunk.length;
    if (bytes > maxBytes) {
      const sentence = `The body is longer than the ${maxBytes} bytes that are read here.`;
      throw new RefusedRequest(413, 'body_too_large', sentence);
    }
    chunks.push(chunk);
  }
  try {
    return JSON.parse(Buffer.concat(chunks).toString('utf8'));
  } catch {
    throw new RefusedRequest(400, 'body_not_json', 'The body cannot be parsed as JSON.');
  }
}

/** relay.check() plans every expression of the contract: not at each scrape. */
const CHECK_EVERY_MS = 60_000;
const checkedAt = new WeakMap<Metrics, number>();

/** Sets what each process knows of itself. One that shares its port does so all the time: another one is asked. */
export function gaugeProcess(context: Pick<Context, 'metrics' | 'subscribers' | 'feed' | 'wakeup'>): void {
  const { metrics, subscribers, feed, wakeup } = context;
  metrics.sockets.set(subscribers.count);
  metrics.feedReady.set(feed.ready ? 1 : 0);
  metrics.listening.set(wakeup.listening ? 1 : 0);
}

/** Sets what is measured only when somebody asks. A database that does not answer leaves the last values. */
async function gauge(context: Context): Promise<void> {
  const { metrics, feed, pool, gauges, log } = context;
  gaugeProcess(context);
  if (!feed.ready) return;
  try {
    const load = await readLoad(pool);
    metrics.notifyQueue.set(load.notifyQueue);
    metrics.oldestTransaction.set(load.oldestTransactionSeconds);
    metrics.outboxBytes.set(load.outboxBytes);
    metrics.captureFailures.set(load.captureFailures);
    for (const set of gauges) await set(pool, metrics);
    if (Date.now() - (checkedAt.get(metrics) ?? 0) < CHECK_EVERY_MS) return;
    checkedAt.set(metrics, Date.now());
    metrics.contractProblems.set(await countProblems(pool));
  } catch (error) {
    log.say('http_failed', { path: '/metrics', error: errorText(error) });
  }
}

/** 503 where clients cannot be served, with what is missing. Without LISTEN, events are up to a second late. */
async function readiness(context: Context): Promise<Reply> {
  const { ready, checks } = await readChecks(context);
  return { status: ready ? 200 : 503, body: { ready, checks } };
}

/** What clients need, and "ok" or what is wrong with it. */
export async function readChecks({ feed, wakeup, link }: Context): Promise<{
  ready: boolean;
  checks: Record<string, string>;
}> {
  const own = { pid: process.pid, ready: feed.ready, listening: wakeup.listening };
  const { expected, workers } = link ? await link.workers() : { expected: 1, workers: [own] };
  const unready = expected - workers.filter((worker) => worker.ready).length;
  const disconnected = workers.filter((worker) => !worker.listening).length;
  const of = expected > 1 ? (count: number) => ` (${count} of ${expected} processes)` : () => '';
  const checks = {
    database: unready === 0 ? 'ok' : `events cannot be read; see the log${of(unready)}`,
    listen:
      disconnected === 0 ? 'ok' : `not listening; events arrive with the safety reads${of(disconnected)}`,
  };
  return { ready: unready === 0, checks };
}

/** @throws RefusedRequest `operators_only` */
export function refuseOthersThanOperators(request: IncomingMessage, context: Context): void {
  if (isOperator(request, context)) return;
  throw new RefusedRequest(
    403,
    'operators_only',
    'This is for operators: set OPERATOR_TOKEN, and send it as Bearer token.',
  );
}

/** Without a token nobody is, whatever address he seems to come from: a proxy on this machine may hide it. */
export function isOperator(
  request: IncomingMessage,
  { settings: { operatorToken }, demo }: Pick<Context, 'settings' | 'demo'>,
): boolean {
  if (operatorToken === null) return demo && isLocal(request);
  const given = Buffer.from(request.headers.authorization ?? '');
  const expected = Buffer.from(`Bearer ${operatorToken}`);
  return given.length === expected.length && timingSafeEqual(given, expected);
}

/**
 * Whether somebody at this machine asks, and no foreign page in his browser: its requests carry its origin, and
 * one that made its own name lead here (DNS rebinding) carries that name.
 */
export function isLocal(request: IncomingMessage): boolean {
  const { host, origin, 'sec-fetch-site': site } = request.headers;
  if (!isLoopback(request.socket.remoteAddress) || cameThroughProxy(request)) return false;
  if (!/^(localhost|127(\.\d{1,3}){3}|\[::1\])(:\d+)?$/i.test(host ?? '')) return false;
  if (origin !== undefined && origin !== `http://${host}`) return false;
  return site === undefined || site === 'same-origin' || site === 'none';
}

/** A proxy on this machine makes everybody look like loopback. */
function cameThroughProxy({ headers }: IncomingMessage): boolean {
  return ['x-forwarded-for', 'x-real-ip', 'forwarded', 'via'].some((name) => name in headers);
}

function isLoopback(address: string | undefined): boolean {
  return address === '::1' || /^(::ffff:)?127\./.test(address ?? '');
}

export interface Listening {
  /** Where clients connect. */
  readonly url: string;
  readonly port: number;
}

/** @throws RecadoError `port_in_use`, `listen_failed` */
export async function listen(
  server: Server,
  { host, port }: Pick<Settings['http'], 'host' | 'port'>,
): Promise<Listening> {
  await new Promise<void>((resolve, reject) => {
    server.once('error', (error: NodeJS.ErrnoException) => {
      const taken = error.code === 'EADDRINUSE';
      const sentence = taken
        ? `Port ${port} of ${host} is in use by another program: stop it, or set PORT to another one (0 lets the system choose).`
        : `Cannot listen on ${host}:${port} (${error.message}): correct HOST and PORT.`;
      reject(new RecadoError(taken ? 'port_in_use' : 'listen_failed', sentence, { cause: error }));
    });
    server.listen({ host, port }, resolve);
  });
  const address = server.address() as AddressInfo;
  const shown = ['0.0.0.0', '::', '127.0.0.1'].includes(host) ? 'localhost' : host;
  const url = `http://${shown.includes(':') ? `[${shown}]` : shown}:${address.port}`;
  return { url, port: address.port };
}
