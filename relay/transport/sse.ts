// Clients over Server-Sent Events, for programs without Socket.IO: GET /events with a bearer token, and the position
// as Last-Event-ID. They get the same events as sockets, through the same
// code (delivery/subscribers.ts).
//
//   curl -N -H "Authorization: Bearer $TOKEN" http://localhost:3000/events
import type { IncomingMessage, ServerResponse } from 'node:http';
import { bearerFrom } from '../auth/token.ts';
import { TokenError } from '../auth/token-error.ts';
import { type EventChoice, parseEventChoice } from '../delivery/event-choice.ts';
import { type ClientConnection, Subscriber } from '../delivery/subscriber.ts';
import type { Subscribers } from '../delivery/subscribers.ts';
import { errorText, RecadoError } from '../errors.ts';
import type { Log } from '../log.ts';
import type { Metrics } from '../metrics.ts';
import type { Admission } from './admission.ts';
import type { Refusals } from './refusals.ts';

export interface StreamsOptions {
  subscribers: Subscribers;
  admission: Admission;
  refusals: Refusals;
  log: Log;
  metrics: Metrics;
}

/** A line that is no event, so that proxies keep the connection and a vanished client is noticed. */
const PING_EVERY_MS = 25_000;
/** How soon an EventSource comes back. */
const RETRY_MS = 1_000;
/** Longest request line and headers: the longest position, a token, and what proxies add. */
export const MAX_HEADER_BYTES = 48 * 1024;

export class Streams {
  readonly #options: StreamsOptions;
  readonly #open = new Set<ServerResponse>();
  #count = 0;

  constructor(options: StreamsOptions) {
    this.#options = options;
  }

  /** Answers a request for /events, whatever its method. */
  answer(request: IncomingMessage, response: ServerResponse): void {
    const { admission, refusals } = this.#options;
    const { origin } = request.headers;
    const code = admission.refuses(request);
    if (code) {
      refusals.note(code, { address: admission.addressOf(request), origin: origin ?? '' });
      refuse(response, code === 'origin_refused' ? 403 : 429, code, 'This connection is not accepted.');
      return;
    }
    // The page that asks is of a known origin: admission has seen to that.
    if (origin !== undefined) {
      response.setHeader('access-control-allow-origin', origin);
      response.setHeader('access-control-allow-credentials', 'true');
      response.setHeader('vary', 'Origin');
    }
    if (request.method === 'OPTIONS') {
      response.writeHead(204, {
        'access-control-allow-methods': 'GET',
        'access-control-allow-headers': 'authorization, last-event-id',
        'access-control-max-age': '86400',
      });
      response.end();
    } else if (request.method === 'GET') void this.#stream(request, response);
    else {
      response.setHeader('allow', 'GET');
      refuse(
        response,
        405,
        'method_not_allowed',
        `${request.method} was received, but only GET is answered here.`,
      );
    }
  }

  async #stream(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { subscribers, admission, refusals } = this.#options;
    const place = admission.enter(request);
    response.once('close', () => place.leave());
    this.#count += 1;
    const id = `stream ${this.#count}`;
    try {
      const { headers } = request;
      const choice = chosenEvents(request);
      const identity = await subscribers.identify(bearerFrom({ auth: {}, headers }));
      if (!place.moveTo(identity.accountId)) {
        throw new RecadoError('too_many_of_account', 'The account has as many connections as it may have.');
      }
      const isThere = () => !response.destroyed;
      const origin = await subscribers.findOrigin(identity.accountId, lastEventId(request), isThere);
      if (response.destroyed) return;
      this.#begin(response);
      const connection = connectionOf(response, id);
      // No session tells whether its topics are those of last time: relay:ready does, on every connection.
      const subscriber = new Subscriber(connection, identity, choice, origin, false);
      response.once('close', () => subscribers.remove(subscriber));
      await subscribers.add(subscriber);
    } catch (error) {
      const code = error instanceof RecadoError ? error.code : 'internal_error';
      if (error instanceof TokenError && error.permanent) {
        refusals.note(code, { address: place.address });
        response.setHeader('www-authenticate', 'Bearer');
        refuse(response, 401, code, error.message);
        return;
      }
      if (error instanceof RecadoError && error.code === 'events_invalid') {
        refusals.note(code, { address: place.address });
        refuse(response, 400, code, error.message);
        return;
      }
      refusals.note(code, { address: place.address, error: errorText(error) });
      response.setHeader('retry-after', '1');
      refuse(response, 503, code, 'Events cannot be read at the moment; try again.');
    }
  }

  #begin(response: ServerResponse): void {
    response.writeHead(200, {
      'content-type': 'text/event-stream; charset=utf-8',
      // no-transform: a proxy that compresses would hold events back; x-accel-buffering says the same to nginx.
      'cache-control': 'no-store, no-transform',
      'x-accel-buffering': 'no',
      'x-content-type-options': 'nosniff',
    });
    response.write(`retry: ${RETRY_MS}\n\n`);
    const pings = setInterval(() => response.write(': ping\n\n'), PING_EVERY_MS);
    this.#open.add(response);
    response.once('close', () => {
      clearInterval(pings);
      this.#open.delete(response);
    });
  }

  /** Ends every stream, so that clients move to another node. */
  close(): void {
    for (const response of this.#open) response.end();
  }
}

/** `?events=appointments.*,doctors.deleted` */
function chosenEvents({ url = '' }: IncomingMessage): EventChoice | null {
  const given = queryOf(url).getAll('events');
  return given.length === 0 ? null : parseEventChoice(given.flatMap((names) => names.split(',')));
}

function queryOf(url: string): URLSearchParams {
  return new URLSearchParams(url.split('?', 2)[1]);
}

/** Polyfills of EventSource send it in the query, so as to need no permission for a header. */
function lastEventId({ headers, url = '' }: IncomingMessage): string | null {
  const given = queryOf(url).get('lastEventId');
  return (headers['last-event-id'] as string | undefined) || given || null;
}

function connectionOf(response: ServerResponse, id: string): ClientConnection {
  return {
    id,
    get open() {
      return !response.destroyed && !response.writableEnded;
    },
    backlog: () => response.writableLength,
    write(encoded) {
      response.write(encoded.stream);
      return response.writableLength;
    },
    async drained() {
      const { socket } = response;
      await new Promise<void>((resolve) => {
        const done = () => {
          response.off('close', done);
          resolve();
        };
        response.once('close', done);
        if (response.writableLength === 0 || !socket?.writable) done();
        // Called when all that was written before is gone. 'drain' comes only after much.
        else socket.write('', done);
      });
    },
    close: (discard) => void (discard ? response.destroy() : response.end()),
    joinRoom() {},
    leaveRoom() {},
  };
}

function refuse(response: ServerResponse, status: number, code: string, message: string): void {
  if (response.headersSent) {
    response.destroy();
    return;
  }
  response.writeHead(status, {
    'content-type': 'application/json; charset=utf-8',
    'cache-control': 'no-store',
  });
  response.end(`${JSON.stringify({ error: { code, message } })}\n`);
}
