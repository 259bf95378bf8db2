// One client: handshake → replay → join → live.
//
// Whatever a client hears goes through here: a batch of the feed to the rooms that are live, and to a client that
// comes back what it missed, until in one tick its position is the feed's; in that tick it joins.
import type { Server as HttpServer, IncomingMessage } from 'node:http';
import type { Socket as NetworkSocket } from 'node:net';
import { Server, type Socket } from 'socket.io';
import { backlog, closeTransport, drained, Encoded, newSessionId, RelayAdapter, write } from './adapter.ts';
import type { Admission } from './admission.ts';
import { type Delivery, type ResyncReason, resyncPayload, toDeliveries } from './delivery.ts';
import { describe, RecadoError } from './errors.ts';
import type { Batch, Feed, FeedListener } from './feed.ts';
import type { Log } from './log.ts';
import type { Metrics } from './metrics.ts';
import type { OutboxEvent, Revocation } from './outbox.ts';
import { covers, formatPosition, horizon, type Position, parsePosition, sees } from './position.ts';
import type { Replay, ReplayPage } from './replay.ts';
import { Revocations } from './revocations.ts';
import { bearerFrom, type Identity, TokenError, type Verifier } from './token.ts';
import type { Trace } from './trace.ts';

export interface SocketsOptions {
  server: HttpServer;
  verifier: Verifier;
  feed: Feed;
  replay: Replay;
  trace: Trace;
  admission: Admission;
  roomPrefix: string;
  /** Bytes that may wait for one socket. */
  bufferBytes: number;
  log: Log;
  metrics: Metrics;
}

interface SocketData {
  identity: Identity;
  /** Its handlers take one argument; see Encoded.bare. */
  bare: boolean;
  /** Where to go on from; null: from now on. */
  position: Position | null;
  /** Why the position it came with is not honoured. */
  resync: ResyncReason | null;
  /** Whether it was told relay:ready or relay:resync. */
  greeted: boolean;
  expiry: NodeJS.Timeout | undefined;
}

type Client = Socket<ClientEvents, Record<string, never>, Record<string, never>, SocketData>;
interface ClientEvents {
  'auth:refresh': (token: unknown, ack: unknown) => void;
}

/** At most so many events are taken out of the window for a client at a time. */
const RECALL_EVENTS = 1_000;
/** At most so much is replayed to a client in one tick, or one event that is larger. */
const REPLAY_CHUNK_BYTES = 64 * 1024;
/** Name, position and framing of an event, roughly. */
const ENVELOPE_BYTES = 300;
/** A replay goes on when no more than this waits for its client. */
const REPLAY_BACKLOG_BYTES = 128 * 1024;
/** An offset of any client of ours fits, and one that is too long gets an answer instead of a closed transport. */
const MAX_FRAME_BYTES = 256 * 1024;
/** A connection that sends no handshake in this time is closed. */
const CONNECT_WITHIN_MS = 10_000;
/** Who has not closed its end by then, when we close, is not waited for. */
const CLOSE_WITHIN_MS = 1_000;
/** Timers over 24.8 days fire at once. */
const LONGEST_TIMER_MS = 2 ** 31 - 1;

export class Sockets implements FeedListener {
  readonly #options: SocketsOptions;
  readonly #io: Server<ClientEvents, Record<string, never>, Record<string, never>, SocketData>;
  readonly #revocations = new Revocations();
  /** Number of the batch with which each live account was last told a position; least recent first. */
  readonly #told = new Map<string, number>();
  readonly #unknownNames = new Set<string>();
  readonly #connections = new Set<NetworkSocket>();
  #closing = false;

  constructor(options: SocketsOptions) {
    this.#options = options;
    const { corsOrigin } = options.admission.settings;
    this.#io = new Server(options.server, {
      adapter: RelayAdapter,
      connectionStateRecovery: { skipMiddlewares: false },
      cors: { origin: corsOrigin === '*' ? '*' : [...corsOrigin] },
      allowRequest: (request, decide) => this.#allow(request, decide),
      connectTimeout: CONNECT_WITHIN_MS,
      maxHttpBufferSize: MAX_FRAME_BYTES,
      perMessageDeflate: false,
      httpCompression: false,
      serveClient: false,
      pingInterval: 25_000,
      pingTimeout: 20_000,
    });
    this.#io.use((socket, next) => void this.#admit(socket, next));
    this.#io.on('connection', (socket) => void this.#welcome(socket));
    options.server.on('connection', (connection: NetworkSocket) => {
      this.#connections.add(connection);
      connection.once('close', () => this.#connections.delete(connection));
    });
    this.#io.engine.on('connection', (connection: Socket['conn']) => {
      connection.once('close', options.admission.enter(connection.request));
    });
  }

  /** For the process that hands out the connections. */
  get io(): Pick<Server, 'engine'> {
    return this.#io;
  }

  /** Sockets of every state, for the gauge. */
  get count(): number {
    return this.#io.of('/').sockets.size;
  }

  // ---------------------------------------------------------------------------------------------------------
  // Live

  onBatch(batch: Batch): void {
    const { metrics, trace, roomPrefix, bufferBytes } = this.#options;
    const byAccount = new Map<string, OutboxEvent[]>();
    const forAll: OutboxEvent[] = [];
    for (const event of batch.events) {
      if (!event.known && !event.event.startsWith('relay:')) this.#reportUnknown(event.event);
      if (event.account === null) {
        forAll.push(event);
        continue;
      }
      const events = byAccount.get(event.account);
      if (events) events.push(event);
      else byAccount.set(event.account, [event]);
    }
    if (forAll.length > 0) {
      for (const account of this.#told.keys()) {
        const events = [...(byAccount.get(account) ?? []), ...forAll];
        byAccount.set(
          account,
          events.sort((a, b) => (a.id < b.id ? -1 : 1)),
        );
      }
    }
    const now = Date.now();
    for (const [account, events] of byAccount) {
      const room = roomPrefix + account;
      const sockets = this.#io.of('/').adapter.rooms.get(room)?.size ?? 0;
      const emitted = { at: now, room, sockets };
      for (const { id } of events) trace.note(id, emitted);
      if (!this.#told.has(account)) continue;
      const deliveries = toDeliveries(events, batch);
      if (deliveries.length === 0) continue;
      if (bytesOf(deliveries) > bufferBytes / 2) this.#toReplay(account, batch, events[0]!.id);
      else this.#toRoom(account, deliveries);
      metrics.eventsEmitted.inc(deliveries.length);
      for (const event of events) {
        metrics.commitToEmit.observe(Math.max(0, now - event.capturedAt) / 1000);
      }
    }
    if (batch.complete) this.#refreshQuietRooms();
  }

  onLost(reason: 'epoch' | 'retention'): void {
    const { feed } = this.#options;
    const position = formatPosition({ epoch: feed.epoch, seen: feed.seen });
    // A copy: each of them moves to the end of the map, where the loop would find it again.
    for (const account of [...this.#told.keys()]) {
      this.#toRoom(account, [{ event: 'relay:resync', payload: resyncPayload(reason), position }]);
    }
  }

  onRevocations(account: string | null, revocations: readonly Revocation[]): void {
    this.#revocations.replace(account, revocations);
    for (const socket of this.#io.of('/').sockets.values()) {
      const { identity } = socket.data;
      if (account !== null && identity.accountId !== account) continue;
      if (this.#revocations.refuses(identity)) closeTransport(socket, true);
    }
  }

  #toRoom(account: string, deliveries: readonly Delivery[]): void {
    const { metrics, roomPrefix, feed } = this.#options;
    const { sockets, adapter } = this.#io.of('/');
    const members = adapter.rooms.get(roomPrefix + account);
    if (!members) return;
    const encoded = new Encoded(deliveries);
    for (const id of members) {
      const socket = sockets.get(id);
      if (socket) this.#send(socket, encoded);
    }
    metrics.deliveries.inc(members.size * deliveries.length);
    for (const { event, payload } of deliveries) if (event === 'relay:resync') this.#countResync(payload);
    this.#told.delete(account);
    this.#told.set(account, feed.window.newest);
  }

  /** More than a socket should hold at once: each member reads it at its own pace, as if it came back. */
  #toReplay(account: string, { epoch, seen, bound }: Batch, first: bigint): void {
    const { sockets, adapter } = this.#io.of('/');
    const room = this.#options.roomPrefix + account;
    for (const id of [...(adapter.rooms.get(room) ?? [])]) {
      const socket = sockets.get(id);
      if (!socket) continue;
      void socket.leave(room);
      socket.data.position = { epoch, seen, batch: { bound, through: first - 1n } };
      void this.#bringUp(socket);
    }
    this.#told.delete(account);
  }

  /** Writes, and sends away who does not read: past the budget a client costs memory that is not its own. */
  #send(socket: Client, encoded: Encoded): void {
    const { bufferBytes, metrics, log } = this.#options;
    try {
      write(socket, socket.data.bare ? encoded.bare : encoded);
      const bytes = backlog(socket);
      if (bytes <= bufferBytes) return;
      metrics.slowConsumers.inc();
      log.say('socket_too_slow', { socket: socket.id, bytes });
    } catch (error) {
      // It comes back with the position before what could not be written.
      log.say('socket_failed', { socket: socket.id, error: describe(error) });
    }
    closeTransport(socket, true);
  }

  /** Tells a room that heard nothing for long where the others are, before the window forgets its position. */
  #refreshQuietRooms(): void {
    const { feed } = this.#options;
    const { aging } = feed.window;
    const position = formatPosition({ epoch: feed.epoch, seen: feed.seen });
    for (const [account, batch] of this.#told) {
      if (batch >= aging) return;
      this.#toRoom(account, [positionNews(position)]);
    }
  }

  #reportUnknown(event: string): void {
    const { metrics, log } = this.#options;
    metrics.unknownEvents.inc();
    if (this.#unknownNames.has(event) || this.#unknownNames.size >= 1_000) return;
    this.#unknownNames.add(event);
    log.say('event_unknown', { name: event });
  }

  #countResync(payload: string): void {
    const { reason } = JSON.parse(payload) as { reason: ResyncReason };
    this.#options.metrics.resyncs.inc({ reason });
  }

  // ---------------------------------------------------------------------------------------------------------
  // Handshake

  #allow(request: IncomingMessage, decide: (error: string | null, allowed: boolean) => void): void {
    // Later requests of a session that is there already bring its id.
    const known = new URL(request.url ?? '/', 'http://relay').searchParams.has('sid');
    const code = known ? null : this.#options.admission.refuses(request);
    if (code) {
      this.#options.metrics.refused.inc({ code });
      this.#options.log.say('connection_refused', { code, origin: request.headers.origin ?? '' });
    }
    decide(code, code === null);
  }

  async #admit(socket: Client, next: (error?: Error) => void): Promise<void> {
    const { log, metrics } = this.#options;
    try {
      const identity = await this.identify(bearerFrom(socket.handshake));
      const { position, resync } = await this.#findPosition(socket, identity.accountId);
      const auth: Record<string, unknown> = socket.handshake.auth;
      const bare = auth.bare === true;
      socket.data = { identity, bare, position, resync, greeted: false, expiry: undefined };
      // "recovered" on the client means: the same pid. An app that follows Socket.IO's documentation skips its
      // refetch then.
      if (socket.recovered && resync !== null) forgetSession(socket);
      next();
    } catch (error) {
      const code = error instanceof RecadoError ? error.code : 'internal_error';
      metrics.refused.inc({ code });
      if (error instanceof TokenError && error.permanent) {
        log.say('handshake_refused', { socket: socket.id, code });
        next(Object.assign(new Error(error.message), { data: { code, message: error.message } }));
        return;
      }
      // A stock client never retries after an error of a middleware; it does when its transport closes.
      log.say('handshake_deferred', { socket: socket.id, code, error: describe(error) });
      // Once it is closed, next() only cleans up.
      socket.conn.once('close', () => next());
      closeTransport(socket, true);
    }
  }

  /**
   * Whose token it is, of a handshake or of a request.
   * @throws TokenError
   */
  async identify(token: string): Promise<Identity> {
    const identity = await this.#options.verifier.verify(token);
    if (this.#revocations.refuses(identity)) {
      throw new TokenError(
        'token_revoked',
        'The token was revoked before it expired; sign in again for a new one.',
      );
    }
    return identity;
  }

  /**
   * Where the client goes on from, if that can be honoured.
   * @throws RecadoError `feed_not_ready`: a passing fault
   */
  async #findPosition(
    socket: Client,
    account: string,
  ): Promise<{ position: Position | null; resync: ResyncReason | null }> {
    const { feed, replay } = this.#options;
    if (!feed.ready) await feed.read();
    const auth: Record<string, unknown> = socket.handshake.auth;
    // The offset is what the client saw last; auth.position may be what its page once began with.
    const given = socket.recovered ? auth.offset : auth.position;
    if (given === undefined || given === null) return { position: null, resync: null };
    const position = typeof given === 'string' ? parsePosition(given) : null;
    if (!position) return { position: null, resync: 'unreadable' };
    if (position.epoch !== feed.epoch) return { position: null, resync: 'epoch' };
    if (!covers(feed.seen, horizon(position))) {
      // Another node, or the database itself, was ahead of this one. Nothing visible now may be hidden after this.
      await feed.read();
      if (!covers(feed.seen, horizon(position))) return { position: null, resync: 'future' };
    }
    if (!feed.window.reaches(position.seen)) {
      const page = await replay.page(account, position, feed.seen);
      if (page.tooOld) return { position: null, resync: 'retention' };
    }
    return { position, resync: null };
  }

  // ---------------------------------------------------------------------------------------------------------
  // Replay, then join

  async #welcome(socket: Client): Promise<void> {
    socket.on('auth:refresh', (token, ack) => void this.#refresh(socket, token, ack));
    socket.once('disconnect', () => this.#leave(socket));
    // Revoked while it was on its way in, when it was no socket yet that could be found.
    if (this.#revocations.refuses(socket.data.identity)) {
      closeTransport(socket, true);
      return;
    }
    this.#expireAt(socket);
    await this.#bringUp(socket);
  }

  async #bringUp(socket: Client): Promise<void> {
    try {
      await this.#catchUp(socket);
    } catch (error) {
      this.#options.log.say('replay_failed', { socket: socket.id, error: describe(error) });
      closeTransport(socket, true);
    }
  }

  /** Sends what the client missed. The join, and the check that nothing is missing, are in one tick. */
  async #catchUp(socket: Client): Promise<void> {
    const { feed, replay, metrics } = this.#options;
    const { identity, resync } = socket.data;
    const account = identity.accountId;
    let { position } = socket.data;
    let source = 'window';
    while (socket.connected) {
      if (feed.midBatch) {
        await feed.finished();
        continue;
      }
      if (position && position.epoch !== feed.epoch) {
        // Just now. It was told that it recovered; it comes back and hears the truth.
        closeTransport(socket, true);
        return;
      }
      if (!position) {
        this.#join(socket);
        this.#greet(socket, resync);
        return;
      }
      if (position.seen === feed.seen && !position.batch) {
        this.#join(socket);
        metrics.replays.inc({ source });
        // Also after a replay: it is how a client knows that what follows is live.
        if (socket.recovered || socket.data.greeted) {
          this.#send(socket, new Encoded([positionNews(formatPosition(position))]));
        } else this.#greet(socket, null);
        return;
      }
      let page = this.#recall(account, position);
      if (!page) {
        source = 'table';
        page = await replay.page(account, position, feed.seen);
      }
      if (page.tooOld) {
        // Retention overtook a slow client, which was told that it recovered, too.
        closeTransport(socket, true);
        return;
      }
      await this.#sendPage(socket, page, position.epoch);
      position = page.next;
    }
  }

  /** What the window holds for a position, in pages like those of the table; null: it does not reach so far back. */
  #recall(account: string, position: Position): ReplayPage | null {
    const { feed } = this.#options;
    const { epoch, seen, batch } = position;
    if (!feed.window.reaches(seen) || !covers(feed.seen, horizon(position))) return null;
    const bound = batch?.bound ?? feed.seen;
    const missed = feed.window.unseen(account, position).filter((event) => sees(bound, event.xid));
    const events = missed.slice(0, RECALL_EVENTS);
    const complete = events.length === missed.length;
    const next: Position = complete
      ? { epoch, seen: bound }
      : { epoch, seen, batch: { bound, through: events.at(-1)!.id } };
    return { tooOld: false, events, seen, bound, complete, next };
  }

  /** In chunks, each when the client has read most of what was sent before. */
  async #sendPage(socket: Client, page: ReplayPage, epoch: string): Promise<void> {
    for (let rest = page.events; rest.length > 0; ) {
      const { events, bytes, complete } = takeChunk(rest);
      while (socket.connected && !this.#fits(socket, bytes)) await drained(socket);
      if (!socket.connected) return;
      this.#sendReplay(socket, toDeliveries(events, { ...page, epoch, complete: complete && page.complete }));
      rest = rest.slice(events.length);
      // Others get their turn between two chunks.
      await new Promise(setImmediate);
    }
  }

  /** A single event always fits when nothing waits before it. */
  #fits(socket: Client, bytes: number): boolean {
    const waiting = backlog(socket);
    if (waiting === 0) return true;
    return waiting <= REPLAY_BACKLOG_BYTES && waiting + bytes <= this.#options.bufferBytes;
  }

  #sendReplay(socket: Client, deliveries: readonly Delivery[]): void {
    if (deliveries.length === 0) return;
    this.#send(socket, new Encoded(deliveries));
    this.#options.metrics.deliveries.inc(deliveries.length);
    for (const { event, payload } of deliveries) if (event === 'relay:resync') this.#countResync(payload);
  }

  #join(socket: Client): void {
    const { accountId } = socket.data.identity;
    void socket.join(this.#options.roomPrefix + accountId);
    // The position it was just told, or has, is the feed's; the room's own may be older.
    if (!this.#told.has(accountId)) this.#told.set(accountId, this.#options.feed.window.newest);
  }

  /** The first thing a client hears that did not resume: where it is now. */
  #greet(socket: Client, resync: ResyncReason | null): void {
    const { feed } = this.#options;
    const position = formatPosition({ epoch: feed.epoch, seen: feed.seen });
    const { identity } = socket.data;
    const payload = JSON.stringify({
      accountId: identity.accountId,
      expiresAt: new Date(identity.expiresAt).toISOString(),
    });
    if (resync) this.#countResync(resyncPayload(resync));
    const greeting = resync
      ? { event: 'relay:resync', payload: resyncPayload(resync), position }
      : { event: 'relay:ready', payload, position };
    socket.data.greeted = true;
    this.#send(socket, new Encoded([greeting]));
  }

  #leave(socket: Client): void {
    clearTimeout(socket.data.expiry);
    const { accountId } = socket.data.identity;
    if (!this.#io.of('/').adapter.rooms.has(this.#options.roomPrefix + accountId)) {
      this.#told.delete(accountId);
    }
  }

  // ---------------------------------------------------------------------------------------------------------
  // Tokens over time

  #expireAt(socket: Client): void {
    clearTimeout(socket.data.expiry);
    const remaining = socket.data.identity.refusedFrom - Date.now();
    socket.data.expiry = setTimeout(
      () => {
        if (socket.data.identity.refusedFrom <= Date.now()) closeTransport(socket);
        else this.#expireAt(socket);
      },
      Math.min(Math.max(remaining, 0), LONGEST_TIMER_MS),
    );
  }

  async #refresh(socket: Client, token: unknown, ack: unknown): Promise<void> {
    const answer = typeof ack === 'function' ? (ack as (result: unknown) => void) : () => {};
    try {
      const identity = await this.identify(bearerFrom({ auth: { token }, headers: {} }));
      if (identity.accountId !== socket.data.identity.accountId) {
        answer({ ok: false, code: 'token_of_another_account' });
        return;
      }
      socket.data.identity = identity;
      if (socket.connected) this.#expireAt(socket);
      answer({ ok: true, expiresAt: new Date(identity.expiresAt).toISOString() });
    } catch (error) {
      answer({ ok: false, code: error instanceof RecadoError ? error.code : 'internal_error' });
    }
  }

  /** Closes every transport, so that clients move to another node at once. */
  async close(): Promise<void> {
    if (this.#closing) return;
    this.#closing = true;
    for (const socket of this.#io.of('/').sockets.values()) clearTimeout(socket.data.expiry);
    // Before io.close(), which would tell the clients not to come back.
    this.#io.engine.close();
    // io.close() waits for every connection, also for those whose client is frozen or gone.
    const patience = setTimeout(() => {
      for (const connection of this.#connections) connection.destroy();
    }, CLOSE_WITHIN_MS);
    await this.#io.close();
    clearTimeout(patience);
  }
}

/** The beginning of what is to be sent, as long as a chunk may be, and at least one event. */
function takeChunk(events: readonly OutboxEvent[]): {
  events: readonly OutboxEvent[];
  bytes: number;
  complete: boolean;
} {
  let count = 0;
  let bytes = 0;
  for (const { payload } of events) {
    const more = Buffer.byteLength(payload ?? '') + ENVELOPE_BYTES;
    if (count > 0 && bytes + more > REPLAY_CHUNK_BYTES) break;
    count += 1;
    bytes += more;
  }
  return { events: events.slice(0, count), bytes, complete: count === events.length };
}

function bytesOf(deliveries: readonly Delivery[]): number {
  let bytes = 0;
  for (const { payload, position } of deliveries) bytes += Buffer.byteLength(payload) + position.length;
  return bytes;
}

function positionNews(position: string): Delivery {
  return { event: 'relay:position', payload: JSON.stringify(position), position: '' };
}

function forgetSession(socket: Client): void {
  const session = socket as unknown as { pid: string; recovered: boolean };
  session.pid = newSessionId();
  session.recovered = false;
}
