// Decides who is an operator.
import { timingSafeEqual } from 'node:crypto';
import type { IncomingMessage } from 'node:http';
import { RefusedRequest, type RequestContext } from './reply.ts';

/** @throws RefusedRequest `operators_only` */
export function refuseOthersThanOperators(request: IncomingMessage, context: RequestContext): void {
  if (isOperator(request, context)) return;
  throw new RefusedRequest(
    403,
    'operators_only',
    'Only operators may see this: set OPERATOR_TOKEN, and send it as a bearer token.',
  );
}

/**
 * Without OPERATOR_TOKEN nobody is an operator, except in the demo. A loopback address proves nothing: it may be a
 * proxy.
 */
export function isOperator(
  request: IncomingMessage,
  { settings: { operatorToken }, demo }: Pick<RequestContext, 'settings' | 'demo'>,
): boolean {
  if (operatorToken === null) return demo && isLocal(request);
  const given = Buffer.from(request.headers.authorization ?? '');
  const expected = Buffer.from(`Bearer ${operatorToken}`);
  return given.length === expected.length && timingSafeEqual(given, expected);
}

/**
 * Whether the request comes from this machine itself, and not from a foreign page in a browser here: that would carry
 * the page's origin or, after DNS rebinding, the page's host name.
 */
export function isLocal(request: IncomingMessage): boolean {
  const { host, origin, 'sec-fetch-site': site } = request.headers;
  if (!isLoopback(request.socket.remoteAddress) || cameThroughProxy(request)) return false;
  if (!/^(localhost|127(\.\d{1,3}){3}|\[::1\])(:\d+)?$/i.test(host ?? '')) return false;
  if (origin !== undefined && origin !== `http://${host}`) return false;
  return site === undefined || site === 'same-origin' || site === 'none';
}

/** Behind a proxy on this machine, every request comes from loopback. */
function cameThroughProxy({ headers }: IncomingMessage): boolean {
  return ['x-forwarded-for', 'x-real-ip', 'forwarded', 'via'].some((name) => name in headers);
}

function isLoopback(address: string | undefined): boolean {
  return address === '::1' || /^(::ffff:)?127\./.test(address ?? '');
}
