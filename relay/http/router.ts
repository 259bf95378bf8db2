// The HTTP routes other than Socket.IO's.
import type { IncomingMessage, ServerResponse } from 'node:http';
import { TokenError } from '../auth/token-error.ts';
import { errorText } from '../errors.ts';
import type { Log } from '../log.ts';
import { refuseOthersThanOperators } from './operators.ts';
import { metricsText, readiness } from './probes.ts';
import {
  emittedBy,
  RefusedRequest,
  type Reply,
  type RequestContext,
  type Route,
  type Routes,
} from './reply.ts';

const ownRoutes: Routes = {
  'GET /healthz': () => ({ status: 200, body: { status: 'ok' } }),
  'GET /readyz': (_request, context) => readiness(context),
  'GET /metrics': async (request, context) => {
    refuseOthersThanOperators(request, context);
    return { status: 200, body: await metricsText(context), type: context.metrics.registry.contentType };
  },
  'GET /trace': async (request, context) => {
    refuseOthersThanOperators(request, context);
    const id = new URL(request.url ?? '/', 'http://relay').searchParams.get('id') ?? '';
    if (!/^\d{1,18}$/.test(id)) {
      return refusal(400, 'id_invalid', 'The id of an event is expected: /trace?id=123.');
    }
    return { status: 200, body: await emittedBy(context, BigInt(id)) };
  },
};

/** Answers every request except Socket.IO's. An error becomes a 500, and its text only appears in the log. */
export function answer(request: IncomingMessage, response: ServerResponse, context: RequestContext): void {
  // URL would throw on paths such as "//", which clients do send.
  const path = request.url?.split('?', 1)[0] ?? '/';
  if (path.startsWith('/socket.io/')) return;
  if (path === '/events') {
    context.streams.answer(request, response);
    return;
  }
  if (path === '/events/ticket') {
    context.streams.answerTicket(request, response);
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
    .map((key) => key.split(' '))
    .filter(([, route]) => route === path || route === pattern)
    .map(([method]) => method);
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
