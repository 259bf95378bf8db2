// The few routes beside Socket.IO.

import { timingSafeEqual } from 'node:crypto';
import type { IncomingMessage, Server, ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import type { Settings } from './config.ts';
import { describe, RecadoError } from './errors.ts';
import type { Feed } from './feed.ts';
import type { Log } from './log.ts';
import type { Metrics } from './metrics.ts';
import type { Sockets } from './sockets.ts';
import type { Trace } from './trace.ts';
import type { Wakeup } from './wakeup.ts';

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
  sockets: Sockets;
  metrics: Metrics;
  trace: Trace;
  /** Where several processes share the port. */
  link: AllProcesses | null;
  settings: Settings['http'];
  log: Log;
}

interface Reply {
  status: number;
  body: unknown;
  type?: string;
}

type Route = (request: IncomingMessage, context: Context) => Reply | Promise<Reply>;

const routes: Record<string, Route> = {
  'GET /healthz': () => ({ status: 200, body: { status: 'ok' } }),
  'GET /readyz': (_request, context) => readiness(context),
  'GET /metrics': async (request, context) => {
    if (!isOperator(request, context.settings)) return forbidden;
    const { metrics, sockets, link } = context;
    metrics.sockets.set(sockets.count);
    const text = link ? await link.metrics() : await metrics.registry.metrics();
    return { status: 200, body: text, type: metrics.registry.contentType };
  },
  'GET /trace': (request, { settings, trace }) => {
    if (!isOperator(request, settings)) return forbidden;
    const id = new URL(request.url ?? '/', 'http://relay').searchParams.get('id') ?? '';
    if (!/^\d{1,18}$/.test(id)) {
      return refusal(400, 'id_invalid', 'The id of an event is expected: /trace?id=123.');
    }
    return { status: 200, body: { emitted: trace.find(BigInt(id)) } };
  },
};

const notFound = refusal(404, 'not_found', 'There is nothing here. Socket.IO is under /socket.io/.');
const forbidden = refusal(
  403,
  'operators_only',
  'This is for operators: call it from the relay itself, or set OPERATOR_TOKEN and send it as Bearer token.',
);

/** Answers what is not Socket.IO's. An error becomes a 500 without its text, which is in the log. */
export function answer(request: IncomingMessage, response: ServerResponse, context: Context): void {
  const { pathname } = new URL(request.url ?? '/', 'http://relay');
  if (pathname.startsWith('/socket.io/')) return;
  const route = routes[`${request.method === 'HEAD' ? 'GET' : request.method} ${pathname}`];
  void Promise.resolve(route ? route(request, context) : notFound)
    .catch((error: unknown): Reply => {
      context.log.say('http_failed', { path: pathname, error: describe(error) });
      return refusal(500, 'internal_error', 'Something went wrong here; the log of the relay says what.');
    })
    .then(({ status, body, type = 'application/json; charset=utf-8' }) => {
      response.writeHead(status, {
        'content-type': type,
        'cache-control': 'no-store',
        'x-content-type-options': 'nosniff',
        'x-frame-options': 'DENY',
        'referrer-policy': 'no-referrer',
      });
      response.end(typeof body === 'string' ? body : `${JSON.stringify(body)}\n`);
    });
}

function refusal(status: number, code: string, message: string): Reply {
  return { status, body: { error: { code, message } } };
}

/** 503 where clients cannot be served, with what is missing. A deaf doorbell costs a second, not the service. */
async function readiness({ feed, wakeup, link }: Context): Promise<Reply> {
  const own = { pid: process.pid, ready: feed.ready, listening: wakeup.listening };
  const { expected, workers } = link ? await link.workers() : { expected: 1, workers: [own] };
  const unready = expected - workers.filter((worker) => worker.ready).length;
  const deaf = workers.filter((worker) => !worker.listening).length;
  const of = expected > 1 ? (count: number) => ` (${count} of ${expected} processes)` : () => '';
  const checks = {
    database: unready === 0 ? 'ok' : `events cannot be read; see the log${of(unready)}`,
    listen: deaf === 0 ? 'ok' : `not listening; events arrive with the safety reads${of(deaf)}`,
  };
  return { status: unready === 0 ? 200 : 503, body: { ready: unready === 0, checks } };
}

function isOperator(request: IncomingMessage, { operatorToken }: Settings['http']): boolean {
  if (operatorToken === null) return isLoopback(request.socket.remoteAddress) && !cameThroughProxy(request);
  const given = Buffer.from(request.headers.authorization ?? '');
  const expected = Buffer.from(`Bearer ${operatorToken}`);
  return given.length === expected.length && timingSafeEqual(given, expected);
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
