// Clients over Socket.IO: the handshake, token refresh, and a close that takes bounded time. delivery/subscribers.ts
// decides which events a client gets.
import type { Server as HttpServer, IncomingMessage } from 'node:http';
import { Server, type Socket } from 'socket.io';
import { bearerFrom } from '../auth/token.ts';
import { TokenError } from '../auth/token-error.ts';
import type { Encoded } from '../delivery/encode.ts';
import { parseEventChoice } from '../delivery/event-choice.ts';
import { hearingOf } from '../delivery/hears.ts';
import type { SlowClients } from '../delivery/slow-clients.ts';
import { type ClientConnection, type Origin, Subscriber } from '../delivery/subscriber.ts';
import type { Subscribers } from '../delivery/subscribers.ts';
import { errorText, RecadoError } from '../errors.ts';
import { beginSession, hearingIn, RelayAdapter } from './adapter.ts';
import type { Leaving } from './drain.ts';
import type { Admission, Place } from './limits/admission.ts';
import type { Arrivals } from './limits/arrivals.ts';
import { REFRESH_COST } from './limits/budget.ts';
import type { Refusals } from './limits/refusals.ts';
import { announceSessions, clientsOf, guardPolling } from './polling.ts';
import { type EngineConnection, type SocketWriter, writerOf } from './socket-writer.ts';
import { budgetOf, MeteredWebSockets, meterOf } from './websockets.ts';

export interface SocketsOptions {
  server: HttpServer;
  subscribers: Subscribers;
  admission: Admission;
  arrivals: Arrivals;
  refusals: Refusals;
  /** Bytes that may wait for one client. */
  bufferBytes: number;
  slowClients: SlowClients;
}

interface ConnectionState {
  readonly place: Place;
  /** Whether it has a subscriber, or one in its handshake: a connection may have one at a time. */
  subscribed: boolean;
  /** How many CONNECTs it has sent. */
  attempts: number;
}

interface SocketData {
  subscriber: Subscriber;
}

type Client = Socket<ClientEvents, Record<string, never>, Record<string, never>, SocketData>;
interface ClientEvents {
  'auth:refresh': (token: unknown, ack: unknown) => void;
}

/** Larger than any token and position together, so that a position that is too long gets an answer. */
export const MAX_FRAME_BYTES = 64 * 1024;
/** A connection without a handshake within this time is closed. */
const CONNECT_WITHIN_MS = 10_000;
/** On close, connections that are still open after this are destroyed. */
const CLOSE_WITHIN_MS = 1_000;

export class Sockets {
  readonly #options: SocketsOptions;
  readonly #io: Server<ClientEvents, Record<string, never>, Record<string, never>, SocketData>;
  readonly #states = new WeakMap<EngineConnection, ConnectionState>();
  /** One handler for all sockets, here and below: a closure for each would take memory while its connection lasts. */
  readonly #onRefresh: (this: Client, token: unknown, ack: unknown) => void;
  readonly #onDisconnect: (this: Client) => void;
  #closing = false;

  constructor(options: SocketsOptions) {
    this.#options = options;
    const refresh = this.#refresh.bind(this);
    this.#onRefresh = function (token, ack) {
      budgetOf(meterOf(this.conn)).spend(REFRESH_COST);
      this.data.subscriber.refreshed = refresh(this.data.subscriber, token, ack);
    };
    const states = this.#states;
    this.#onDisconnect = function () {
      const state = states.get(this.conn);
      if (state) state.subscribed = false;
      options.subscribers.remove(this.data.subscriber);
    };
    const { corsOrigin } = options.admission.settings;
    this.#io = new Server(options.server, {
      adapter: RelayAdapter,
      connectionStateRecovery: { skipMiddlewares: false },
      // Credentials let pages of another origin send a load balancer's cookie (withCredentials). Browsers refuse * with
      // credentials, so `true` answers with the page's own origin.
      cors: { origin: corsOrigin === '*' ? true : [...corsOrigin], credentials: true },
      allowRequest: (request, decide) => this.#allow(request, decide),
      connectTimeout: CONNECT_WITHIN_MS,
      maxHttpBufferSize: MAX_FRAME_BYTES,
      perMessageDeflate: false,
      wsEngine: MeteredWebSockets,
      httpCompression: false,
      serveClient: false,
      pingInterval: 25_000,
      pingTimeout: 20_000,
    });
    this.#io.use((socket, next) => void this.#admit(socket, next));
    this.#io.on('connection', (socket) => this.#welcome(socket));
    guardPolling(this.#io.engine, options.admission, options.refusals);
    announceSessions(this.#io.engine);
    const onPacket = function (this: EngineConnection) {
      // The client makes the relay answer but does not read the answers.
      const bytes = writerOf(this).waiting();
      if (bytes <= options.bufferBytes) return;
      const { account = null, address = 'unknown' } = states.get(this)?.place ?? {};
      options.slowClients.note({ account, address, bytes });
      writerOf(this).close(true);
    };
    const onClose = function (this: EngineConnection) {
      states.get(this)?.place.leave();
    };
    this.#io.engine.on('connection', (connection: EngineConnection) => {
      const place = options.admission.enter(connection.request);
      states.set(connection, { place, subscribed: false, attempts: 0 });
      connection.on('packet', onPacket);
      connection.on('close', onClose);
    });
  }

  /** A worker takes connections from the first process through it. */
  get io(): Pick<Server, 'engine'> {
    return this.#io;
  }

  #allow(request: IncomingMessage, decide: (error: string | null, allowed: boolean) => void): void {
    // Later requests of a session carry its id.
    const hasSession = new URL(request.url ?? '/', 'http://relay').searchParams.has('sid');
    const { admission, refusals } = this.#options;
    const code = hasSession ? null : admission.refuses(request);
    if (code)
      refusals.note(code, { address: admission.addressOf(request), origin: request.headers.origin ?? '' });
    decide(code, code === null);
  }

  async #admit(socket: Client, next: (error?: Error) => void): Promise<void> {
    const { subscribers, refusals } = this.#options;
    const state = this.#states.get(socket.conn);
    if (!state || state.subscribed) {
      refusals.note('second_connect', { address: state?.place.address ?? 'unknown' });
      writerOf(socket.conn).close(true);
      return;
    }
    state.subscribed = true;
    state.attempts += 1;
    // The first is free: every client needs one token verified.
    if (state.attempts > 1) budgetOf(meterOf(socket.conn)).spend(REFRESH_COST);
    const { address } = state.place;
    try {
      const identity = await subscribers.identify(bearerFrom(socket.handshake));
      const budget = state.place.moveTo(identity.accountId);
      if (!budget) {
        throw new RecadoError('too_many_of_account', 'The account has as many connections as it may have.');
      }
      budgetOf(meterOf(socket.conn)).shareWith(budget);
      const auth: Record<string, unknown> = socket.handshake.auth;
      const choice = parseEventChoice(auth.events);
      const hearing = hearingOf({ identity, choice });
      // A returning client that hears something else than before has to refetch.
      const last = hearingIn(auth.offset, socket);
      const changed = socket.recovered && last.hearing !== hearing;
      // The offset is the last position that the client received. auth.position may be the one its page began
      // with.
      const given = socket.recovered ? auth.offset : auth.position;
      const isThere = () => socket.conn.readyState === 'open';
      const found = await subscribers.findOrigin(identity.accountId, given, isThere);
      const origin: Origin = changed && found.resync === null ? { position: null, resync: 'topics' } : found;
      // The client sets "recovered" when it gets the same pid again, and then an app that follows Socket.IO's
      // documentation does not refetch. A new session prevents that.
      if (!socket.recovered || origin.resync !== null) beginSession(socket, hearing);
      const connection = new SocketConnection(socket, address, auth.bare === true);
      if (socket.recovered && last.marked) connection.mark(hearing);
      socket.data.subscriber = new Subscriber(connection, identity, choice, origin, socket.recovered);
      next();
    } catch (error) {
      const code = error instanceof RecadoError ? error.code : 'internal_error';
      if (code === 'events_invalid' || (error instanceof TokenError && error.permanent)) {
        refusals.note(code, { address });
        state.subscribed = false;
        const message = errorText(error);
        next(Object.assign(new Error(message), { data: { code, message } }));
        return;
      }
      // A stock client does not retry after a middleware error, but does after its transport closes.
      refusals.note(code, { address, error: errorText(error) });
      // Once it is closed, next() only cleans up.
      socket.conn.once('close', () => next());
      writerOf(socket.conn).close(true);
    }
  }

  #welcome(socket: Client): void {
    forgetHandshake(socket);
    socket.on('auth:refresh', this.#onRefresh);
    socket.on('disconnect', this.#onDisconnect);
    void this.#options.subscribers.add(socket.data.subscriber);
  }

  async #refresh(subscriber: Subscriber, token: unknown, ack: unknown): Promise<void> {
    const { subscribers } = this.#options;
    const answer = (result: unknown) => typeof ack === 'function' && ack(result);
    await subscriber.refreshed;
    try {
      const identity = await subscribers.identify(bearerFrom({ auth: { token }, headers: {} }));
      if (identity.accountId !== subscriber.identity.accountId) {
        answer({ ok: false, code: 'token_of_another_account' });
        return;
      }
      subscribers.renew(subscriber, identity);
      answer({ ok: true, expiresAt: new Date(identity.expiresAt).toISOString() });
    } catch (error) {
      answer({ ok: false, code: error instanceof RecadoError ? error.code : 'internal_error' });
    }
  }

  get open(): Leaving[] {
    return Object.values(clientsOf(this.#io.engine)).map(writerOf);
  }

  /** Closes every transport, so that clients move to another node at once. */
  async close(): Promise<void> {
    if (this.#closing) return;
    this.#closing = true;
    // Comes before io.close(), which would tell the clients not to reconnect.
    this.#io.engine.close();
    // io.close() waits for every connection, even one whose client is frozen or has left.
    const patience = setTimeout(() => {
      for (const connection of this.#options.arrivals.connections) connection.destroy();
    }, CLOSE_WITHIN_MS);
    await this.#io.close();
    clearTimeout(patience);
  }
}

/** A class because there is one for every client, and an object of closures would take more memory. */
class SocketConnection implements ClientConnection {
  readonly #socket: Client;
  readonly address: string;
  readonly #writer: SocketWriter;
  readonly #bare: boolean;
  #hearing = '';

  /** @param bare the client's handlers take one argument; see Encoded.bare */
  constructor(socket: Client, address: string, bare: boolean) {
    this.#socket = socket;
    this.address = address;
    this.#writer = writerOf(socket.conn);
    this.#bare = bare;
  }

  get id(): string {
    return this.#socket.id;
  }

  get open(): boolean {
    return this.#socket.connected;
  }

  backlog(): number {
    return this.#writer.backlog();
  }

  write(encoded: Encoded): number {
    const marked = this.#hearing === '' ? encoded : encoded.marked(this.#hearing);
    return this.#writer.write(this.#bare ? marked.bare : marked);
  }

  mark(hearing: string): void {
    this.#hearing = hearing;
  }

  drained(): Promise<void> {
    return this.#writer.drained();
  }

  close(discard: boolean): void {
    this.#writer.close(discard);
  }

  joinRoom(room: string): void {
    void this.#socket.join(room);
  }

  leaveRoom(room: string): void {
    void this.#socket.leave(room);
  }
}

/**
 * Frees the handshake and its token, which would take memory as long as the connection lasts; nothing reads them again.
 * Socket.IO's page on memory usage allows dropping the request. A token in the headers is kept: a client that rejoins
 * over the same transport needs it again.
 */
function forgetHandshake(socket: Client): void {
  const { handshake, conn } = socket;
  if (handshake.headers.authorization !== undefined) return;
  Object.assign(handshake, { auth: {}, headers: {} });
  Object.assign(conn.request, { headers: {}, rawHeaders: [] });
  Object.assign(conn, { request: null });
}
