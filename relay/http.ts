// The few routes beside Socket.IO.

import { timingSafeEqual } from 'node:crypto';
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Settings } from './config.ts';
import { describe } from './errors.ts';
import type { Feed } from './feed.ts';
import type { Log } from './log.ts';
import type { Metrics } from './metrics.ts';
import type { Sockets } from './sockets.ts';
import type { Wakeup } from './wakeup.ts';

export interface Context {
  feed: Feed;
  wakeup: Wakeup;
  sockets: Sockets;
  metrics: Metrics;
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
    const { metrics, sockets } = context;
    metrics.sockets.set(sockets.count);
    return { status: 200, body: await metrics.registry.metrics(), type: metrics.registry.contentType };
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
      });
      response.end(typeof body === 'string' ? body : `${JSON.stringify(body)}\n`);
    });
}

function refusal(status: number, code: string, message: string): Reply {
  return { status, body: { error: { code, message } } };
}

/** 503 where clients cannot be served, with what is missing. A deaf doorbell costs a second, not the service. */
function readiness({ feed, wakeup }: Context): Reply {
  const checks = {
    database: feed.ready ? 'ok' : 'events cannot be read; see the log',
    listen: wakeup.listening ? 'ok' : 'not listening; events arrive with the safety reads',
  };
  return { status: feed.ready ? 200 : 503, body: { ready: feed.ready, checks } };
}

function isOperator(request: IncomingMessage, { operatorToken }: Settings['http']): boolean {
  if (operatorToken === null) return isLoopback(request.socket.remoteAddress);
  const given = Buffer.from(request.headers.authorization ?? '');
  const expected = Buffer.from(`Bearer ${operatorToken}`);
  return given.length === expected.length && timingSafeEqual(given, expected);
}

function isLoopback(address: string | undefined): boolean {
  return address === '::1' || /^(::ffff:)?127\./.test(address ?? '');
}
