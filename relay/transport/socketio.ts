// Clients over Socket.IO: the handshake, token refresh, and a close that takes bounded time. Which events a client
// gets is decided in delivery/subscribers.ts.
import type { Server as HttpServer, IncomingMessage } from 'node:http';
import { Server, type Socket } from 'socket.io';
import { bearerFrom } from '../auth/token.ts';
import { TokenError } from '../auth/token-error.ts';
import type { Encoded } from '../delivery/encode.ts';
import { type ClientConnection, Subscriber } from '../delivery/subscriber.ts';
import type { Subscribers } from '../delivery/subscribers.ts';
import { describe, RecadoError } from '../errors.ts';
import type { Log } from '../log.ts';
import type { Metrics } from '../metrics.ts';
import type { Admission, Place } from './admission.ts';
import type { Arrivals } from './arrivals.ts';
import { REFRESH_COST } from './budget.ts';
import { announceSessions, guardPolling } from './polling.ts';
import type { Refusals } from './refusals.ts';
import { newSessionId, RelayAdapter, type Wire, wireOf } from './socket-writer.ts';
import { budgetOf, MeteredWebSockets } from './websockets.ts';

export interface SocketsOptions {
  server: HttpServer;
  subscribers: Subscribers;
  admission: Admission;
  arrivals: Arrivals;
  refusals: Refusals;
  /** Bytes that may wait for one client. */
  bufferBytes: number;
  log: Log;
  metrics: Metrics;
}

/** What is known of a connection beside its socket. */
interface Known {
  readonly place: Place;
  /** It has a subscriber, or one on its way in: there is one for each connection. */
  taken: boolean;
  /** CONNECTs it has sent. */
  attempts: number;
}

interface SocketData {
  subscriber: Subscriber;
}

type Client = Socket<ClientEvents, Record<string, never>, Record<string, never>, SocketData>;
interface ClientEvents {
  'auth:refresh': (token: unknown, ack: unknown) => void;
}

/** A token and an offset of any client of ours fit, and an offset that is too long gets an answer instead of a closed transport. */
export const MAX_FRAME_BYTES = 64 * 1024;
/** A connection that sends no handshake in this time is closed. */
const CONNECT_WITHIN_MS = 10_000;
/** Who has not closed its end by then, when we close, is not waited for. */
const CLOSE_WITHIN_MS = 1_000;

export class Sockets {
  readonly #options: SocketsOptions;
  readonly #io: Server<ClientEvents, Record<string, never>, Record<string, never>, SocketData>;
  readonly #known = new WeakMap<Socket['conn'], Known>();
  /** Of all sockets, as the handlers below: a closure for each would stay as long as its connection. */
  readonly #onRefresh: (this: Client, token: unknown, ack: unknown) => void;
  readonly #onDisconnect: (this: Client) => void;
  #closing = false;

  constructor(options: SocketsOptions) {
    this.#options = options;
    const refresh = this.#refresh.bind(this);
    this.#onRefresh = function (token, ack) {
      budgetOf(meterOf(this.conn)).spend(REFRESH_COST);
      void refresh(this.data.subscriber, token, ack);
    };
    const known = this.#known;
    this.#onDisconnect = function () {
      const connection = known.get(this.conn);
      if (connection) connection.taken = false;
      options.subscribers.remove(this.data.subscriber);
    };
    const { corsOrigin } = options.admission.settings;
    this.#io = new Server(options.server, {
      adapter: RelayAdapter,
      connectionStateRecovery: { skipMiddlewares: false },
      // With credentials, so that a load balancer's cookie is sent by pages of another origin (withCredentials). Browsers
      // take no * beside them: the page's own origin is named instead.
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
    const { bufferBytes } = options;
    const onPacket = function (this: Socket['conn']) {
      // It makes us answer and does not read the answers.
      if (wireOf(this).waiting() <= bufferBytes) return;
      options.metrics.slowConsumers.inc();
      wireOf(this).close(true);
    };
    const onClose = function (this: Socket['conn']) {
      known.get(this)?.place.leave();
    };
    this.#io.engine.on('connection', (connection: Socket['conn']) => {
      const place = options.admission.enter(connection.request);
      known.set(connection, { place, taken: false, attempts: 0 });
      connection.on('packet', onPacket);
      connection.on('close', onClose);
    });
  }

  /** For the process that hands out the connections. */
  get io(): Pick<Server, 'engine'> {
    return this.#io;
  }

  #allow(request: IncomingMessage, decide: (error: string | null, allowed: boolean) => void): void {
    // Later requests of a session that is there already bring its id.
    const known = new URL(request.url ?? '/', 'http://relay').searchParams.has('sid');
    const { admission, refusals } = this.#options;
    const code = known ? null : admission.refuses(request);
    if (code)
      refusals.note(code, { address: admission.addressOf(request), origin: request.headers.origin ?? '' });
    decide(code, code === null);
  }

  async #admit(socket: Client, next: (error?: Error) => void): Promise<void> {
    const { subscribers, refusals } = this.#options;
    const known = this.#known.get(socket.conn);
    if (!known || known.taken) {
      refusals.note('second_connect', { address: known?.place.address ?? 'unknown' });
      wireOf(socket.conn).close(true);
      return;
    }
    known.taken = true;
    known.attempts += 1;
    // The first one is free: every client verifies one token.
    if (known.attempts > 1) budgetOf(meterOf(socket.conn)).spend(REFRESH_COST);
    const { address } = known.place;
    try {
      const identity = await subscribers.identify(bearerFrom(socket.handshake));
      const budget = known.place.moveTo(identity.accountId);
      if (!budget) {
        throw new RecadoError('too_many_of_account', 'The account has as many connections as it may have.');
      }
      budgetOf(meterOf(socket.conn)).shareWith(budget);
      const auth: Record<string, unknown> = socket.handshake.auth;
      // The offset is what the client saw last; auth.position may be what its page once began with.
      const given = socket.recovered ? auth.offset : auth.position;
      const isThere = () => socket.conn.readyState === 'open';
      const origin = await subscribers.findOrigin(identity.accountId, given, isThere);
      // "recovered" on the client means: the same pid. An app that follows Socket.IO's documentation skips its
      // refetch then.
      if (socket.recovered && origin.resync !== null) forgetSession(socket);
      const connection = new SocketConnection(socket, auth.bare === true);
      socket.data.subscriber = new Subscriber(connection, identity, origin, socket.recovered);
      next();
    } catch (error) {
      const code = error instanceof RecadoError ? error.code : 'internal_error';
      if (error instanceof TokenError && error.permanent) {
        refusals.note(code, { address });
        known.taken = false;
        next(Object.assign(new Error(error.message), { data: { code, message: error.message } }));
        return;
      }
      // A stock client never retries after an error of a middleware; it does when its transport closes.
      refusals.note(code, { address, error: describe(error) });
      // Once it is closed, next() only cleans up.
      socket.conn.once('close', () => next());
      wireOf(socket.conn).close(true);
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
    const answer = typeof ack === 'function' ? (ack as (result: unknown) => void) : () => {};
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

  /** Closes every transport, so that clients move to another node at once. */
  async close(): Promise<void> {
    if (this.#closing) return;
    this.#closing = true;
    // Before io.close(), which would tell the clients not to come back.
    this.#io.engine.close();
    // io.close() waits for every connection, also for those whose client is frozen or gone.
    const patience = setTimeout(() => {
      for (const connection of this.#options.arrivals.connections) connection.destroy();
    }, CLOSE_WITHIN_MS);
    await this.#io.close();
    clearTimeout(patience);
  }
}

/** Whose budget pays: the websocket's, which is metered below Socket.IO, or the polling session's. */
function meterOf(connection: Socket['conn']): object {
  const { transport } = connection as { transport: { name: string; socket?: object } };
  return (transport.name === 'websocket' && transport.socket) || connection;
}

/** A class, not an object of closures: there is one for every client. */
class SocketConnection implements ClientConnection {
  readonly #socket: Client;
  readonly #wire: Wire;
  readonly #bare: boolean;

  /** @param bare its handlers take one argument; see Encoded.bare */
  constructor(socket: Client, bare: boolean) {
    this.#socket = socket;
    this.#wire = wireOf(socket.conn);
    this.#bare = bare;
  }

  get id(): string {
    return this.#socket.id;
  }

  get open(): boolean {
    return this.#socket.connected;
  }

  backlog(): number {
    return this.#wire.backlog();
  }

  write(encoded: Encoded): number {
    return this.#wire.write(this.#bare ? encoded.bare : encoded);
  }

  drained(): Promise<void> {
    return this.#wire.drained();
  }

  close(discard: boolean): void {
    this.#wire.close(discard);
  }

  joinRoom(room: string): void {
    void this.#socket.join(room);
  }

  leaveRoom(room: string): void {
    void this.#socket.leave(room);
  }
}

/**
 * Nobody reads the handshake again, so neither it nor its token stays in memory as long as the connection.
 * Socket.IO's page on memory usage says that the request may be forgotten. Only where its headers brought a token it
 * may be asked for once more, by a client that joins again over the same transport.
 */
function forgetHandshake(socket: Client): void {
  const { handshake } = socket;
  if (handshake.headers.authorization !== undefined) return;
  handshake.auth = {};
  handshake.headers = {};
  (socket.conn as { request: IncomingMessage | null }).request = null;
}

function forgetSession(socket: Client): void {
  const session = socket as unknown as { pid: string; recovered: boolean };
  session.pid = newSessionId();
  session.recovered = false;
}
