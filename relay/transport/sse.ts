// Clients over Server-Sent Events, for programs without Socket.IO: GET /events with a bearer token, and the position
// as Last-Event-ID. A browser's EventSource cannot send a header and uses a ticket instead (tickets.ts). These clients
// get the same events as sockets, through the same code (delivery/subscribers.ts).
//
//   curl -N -H "Authorization: Bearer $TOKEN" http://localhost:3000/events
import type { IncomingMessage, ServerResponse } from 'node:http';
import { bearerFrom } from '../auth/token.ts';
import { TokenError } from '../auth/token-error.ts';
import { type EventChoice, parseEventChoice } from '../delivery/event-choice.ts';
import { type ClientConnection, Subscriber } from '../delivery/subscriber.ts';
import type { Subscribers } from '../delivery/subscribers.ts';
import { errorText, RecadoError } from '../errors.ts';
import type { Leaving } from './drain.ts';
import type { Admission, Place, Refusal } from './limits/admission.ts';
import type { Refusals } from './limits/refusals.ts';
import { TICKET_SECONDS, type Tickets } from './tickets.ts';

export interface StreamsOptions {
  subscribers: Subscribers;
  admission: Admission;
  refusals: Refusals;
  tickets: Tickets;
}

/** How often a comment line is sent, so that proxies keep the connection and a vanished client is noticed. */
const PING_EVERY_MS = 25_000;
/** How soon an EventSource reconnects. */
const RETRY_MS = 1_000;
/** Limit for the request line and headers: the longest position, a token, and what proxies add. */
export const MAX_HEADER_BYTES = 48 * 1024;

const STATUS_OF: Record<Refusal, number> = {
  relay_closing: 503,
  origin_refused: 403,
  too_many_connections: 429,
  relay_full: 429,
};

export class Streams {
  readonly #options: StreamsOptions;
  readonly #open = new Map<ServerResponse, Leaving>();
  #count = 0;

  constructor(options: StreamsOptions) {
    this.#options = options;
  }

  /** Answers a request for /events, whatever its method. */
  answer(request: IncomingMessage, response: ServerResponse): void {
    if (this.#isAdmitted('GET', request, response)) void this.#stream(request, response);
  }

  /** Answers a request for /events/ticket, whatever its method. */
  answerTicket(request: IncomingMessage, response: ServerResponse): void {
    if (this.#isAdmitted('POST', request, response)) void this.#issueTicket(request, response);
  }

  /** Also answers the requests that are not admitted. */
  #isAdmitted(method: string, request: IncomingMessage, response: ServerResponse): boolean {
    const { admission, refusals } = this.#options;
    const { origin } = request.headers;
    const code = admission.refuses(request);
    if (code) {
      refusals.note(code, { address: admission.addressOf(request), origin: origin ?? '' });
      refuse(response, STATUS_OF[code], code, 'This connection is not accepted.');
      return false;
    }
    // Admission has checked that the origin is known.
    if (origin !== undefined) {
      response.setHeader('access-control-allow-origin', origin);
      response.setHeader('access-control-allow-credentials', 'true');
      response.setHeader('vary', 'Origin');
    }
    if (request.method === 'OPTIONS') {
      response.writeHead(204, {
        'access-control-allow-methods': method,
        'access-control-allow-headers': 'authorization, last-event-id',
        'access-control-max-age': '86400',
      });
      response.end();
      return false;
    }
    if (request.method === method) return true;
    response.setHeader('allow', method);
    const sentence = `${request.method} was received, but only ${method} is answered here.`;
    refuse(response, 405, 'method_not_allowed', sentence);
    return false;
  }

  async #issueTicket(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { subscribers, admission, tickets } = this.#options;
    const place = admission.enter(request);
    response.once('close', () => place.leave());
    try {
      const token = bearerFrom({ auth: {}, headers: request.headers });
      const { accountId } = await subscribers.identify(token);
      const ticket = await tickets.keep(token, accountId);
      if (ticket === null) {
        throw new RecadoError('too_many_tickets', 'The account has as many unused tickets as it may have.');
      }
      response.writeHead(201, JSON_HEADERS);
      response.end(`${JSON.stringify({ ticket, expiresIn: TICKET_SECONDS })}\n`);
    } catch (error) {
      this.#refuse(error, place, response);
    }
  }

  async #stream(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { subscribers, admission } = this.#options;
    const place = admission.enter(request);
    response.once('close', () => place.leave());
    this.#count += 1;
    const id = `stream ${this.#count}`;
    try {
      const choice = chosenEvents(request);
      const identity = await subscribers.identify(await this.#tokenOf(request));
      if (!place.moveTo(identity.accountId)) {
        throw new RecadoError('too_many_of_account', 'The account has as many connections as it may have.');
      }
      const isThere = () => !response.destroyed;
      const origin = await subscribers.findOrigin(identity.accountId, lastEventId(request), isThere);
      if (response.destroyed) return;
      this.#begin(response);
      const connection = connectionOf(response, id, place.address);
      // There is no session to compare topics with, so every connection gets relay:ready, which has their fingerprint.
      const subscriber = new Subscriber(connection, identity, choice, origin, false);
      response.once('close', () => subscribers.remove(subscriber));
      await subscribers.add(subscriber);
    } catch (error) {
      this.#refuse(error, place, response);
    }
  }

  async #tokenOf({ headers, url = '' }: IncomingMessage): Promise<string> {
    const ticket = queryOf(url).get('ticket');
    if (ticket === null) return bearerFrom({ auth: {}, headers });
    const token = await this.#options.tickets.take(ticket);
    if (token !== null) return token;
    throw new TokenError(
      'ticket_unknown',
      `The ticket is unknown here, was used, or is older than ${TICKET_SECONDS} seconds. Request a new one: POST /events/ticket.`,
    );
  }

  #refuse(error: unknown, { address }: Place, response: ServerResponse): void {
    const { refusals } = this.#options;
    const code = error instanceof RecadoError ? error.code : 'internal_error';
    if (error instanceof TokenError && error.permanent) {
      refusals.note(code, { address });
      response.setHeader('www-authenticate', 'Bearer');
      refuse(response, 401, code, error.message);
      return;
    }
    if (error instanceof RecadoError && error.code === 'events_invalid') {
      refusals.note(code, { address });
      refuse(response, 400, code, error.message);
      return;
    }
    refusals.note(code, { address, error: errorText(error) });
    response.setHeader('retry-after', '1');
    refuse(response, 503, code, 'Events cannot be read at the moment; try again.');
  }

  #begin(response: ServerResponse): void {
    response.writeHead(200, {
      'content-type': 'text/event-stream; charset=utf-8',
      // A proxy that compresses would hold events back; x-accel-buffering tells nginx not to.
      'cache-control': 'no-store, no-transform',
      'x-accel-buffering': 'no',
      'x-content-type-options': 'nosniff',
    });
    response.write(`retry: ${RETRY_MS}\n\n`);
    const pings = setInterval(() => response.write(': ping\n\n'), PING_EVERY_MS);
    this.#open.set(response, { polls: false, close: () => void response.end() });
    response.once('close', () => {
      clearInterval(pings);
      this.#open.delete(response);
    });
  }

  get open(): Leaving[] {
    return [...this.#open.values()];
  }

  /** Ends every stream, so that clients move to another node. */
  close(): void {
    for (const stream of this.open) stream.close();
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

/** Polyfills of EventSource send it in the query, where it needs no CORS permission. */
function lastEventId({ headers, url = '' }: IncomingMessage): string | null {
  const given = queryOf(url).get('lastEventId');
  return String(headers['last-event-id'] ?? '') || given || null;
}

function connectionOf(response: ServerResponse, id: string, address: string): ClientConnection {
  return {
    id,
    address,
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
        // The callback runs once everything before it is sent. 'drain' would only come after a large backlog.
        else socket.write('', done);
      });
    },
    close: (discard) => void (discard ? response.destroy() : response.end()),
    // Not needed: relay:ready has the fingerprint on the next connection.
    mark() {},
    joinRoom() {},
    leaveRoom() {},
  };
}

const JSON_HEADERS = { 'content-type': 'application/json; charset=utf-8', 'cache-control': 'no-store' };

function refuse(response: ServerResponse, status: number, code: string, message: string): void {
  if (response.headersSent) {
    response.destroy();
    return;
  }
  response.writeHead(status, JSON_HEADERS);
  response.end(`${JSON.stringify({ error: { code, message } })}\n`);
}
