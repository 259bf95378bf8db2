// Everybody who hears events, whatever he is connected by: position → replay → join → live.
//
// Whatever a client hears goes through here: a batch of the feed to the accounts whose clients are live, and to a
// client that comes back what it missed, until in one tick its position is the feed's; in that tick it joins.
// sockets.ts and stream.ts bring clients in and write to them.

import { Expiry } from '../auth/expiry.ts';
import { Revocations } from '../auth/revocations.ts';
import type { Identity, Verifier } from '../auth/token.ts';
import { TokenError } from '../auth/token-error.ts';
import { describe } from '../errors.ts';
import type { Backlog, Batch, Feed, FeedListener } from '../feed/feed.ts';
import type { Witnesses } from '../feed/witnesses.ts';
import type { Log } from '../log.ts';
import type { Metrics } from '../metrics.ts';
import type { OutboxEvent, Session } from '../outbox/events.ts';
import { covers, formatPosition, horizon, type Position, parsePosition, sees } from '../outbox/position.ts';
import {
  type Delivery,
  erase,
  isErasure,
  REVOKE,
  type ResyncReason,
  resyncPayload,
  toDeliveries,
} from './deliveries.ts';
import { Encoded } from './encode.ts';
import type { Trace } from './recent-emits.ts';
import type { Replay, ReplayPage } from './replay.ts';
import { WorkTurns } from './turns.ts';

export interface SubscribersOptions {
  verifier: Verifier;
  feed: Feed;
  replay: Replay;
  witnesses: Witnesses;
  trace: Trace;
  roomPrefix: string;
  /** Bytes that may wait for one client. */
  bufferBytes: number;
  log: Log;
  metrics: Metrics;
}

/** Where a client goes on from. */
export interface Origin {
  /** null: from now on. */
  readonly position: Position | null;
  /** Why the position it came with is not honoured. */
  readonly resync: ResyncReason | null;
}

/** How a client is written to. */
export interface Connection {
  /** For the log. */
  readonly id: string;
  readonly open: boolean;
  /** Bytes that wait for the client to read. */
  backlog(): number;
  /** @returns bytes that wait for the client to read */
  write(encoded: Encoded): number;
  /** Resolves when the client has read some of its backlog, or is gone. */
  drained(): Promise<void>;
  /**
   * Sends the client away so that it comes back.
   * @param discard do not wait for what is still to be read
   */
  close(discard: boolean): void;
  /** It goes live, or back to a replay. */
  enter(room: string): void;
  leave(room: string): void;
}

/** At most so many events are taken out of the window for a client at a time. */
const RECALL_EVENTS = 1_000;
/** At most so much is replayed to a client in one tick, or one event that is larger. */
const REPLAY_CHUNK_BYTES = 64 * 1024;
/** Name, position and framing of an event, roughly. */
const ENVELOPE_BYTES = 300;
/** A replay goes on when no more than this waits for its client. */
const REPLAY_BACKLOG_BYTES = 128 * 1024;
/** Or a quarter of how long events are kept, where that is less. */
const REFRESH_EVERY_MS = 15 * 60_000;

/** One client. */
export class Subscriber {
  readonly connection: Connection;
  identity: Identity;
  position: Position | null;
  readonly resync: ResyncReason | null;
  /** Whether it knows that it is connected: it resumed, or was told relay:ready or relay:resync. */
  greeted: boolean;

  constructor(connection: Connection, identity: Identity, { position, resync }: Origin, resumed: boolean) {
    this.connection = connection;
    this.identity = identity;
    this.position = position;
    this.resync = resync;
    this.greeted = resumed;
  }
}

export class Subscribers implements FeedListener {
  readonly #options: SubscribersOptions;
  readonly #revocations = new Revocations();
  /** Of every state. */
  readonly #all = new Set<Subscriber>();
  readonly #expiry = new Expiry<Subscriber>(({ connection }) => connection.close(false));
  /** Those that are live, by account. */
  readonly #live = new Map<string, Set<Subscriber>>();
  /** Number of the batch with which each live account was last told a position; least recent first. */
  readonly #told = new Map<string, number>();
  /** Number of the newest batch when it was last time to refresh by the clock, and the time before that. */
  #tick = { at: Date.now(), newest: 0, before: 0 };
  readonly #unknownNames = new Set<string>();
  readonly #turns = new WorkTurns();

  constructor(options: SubscribersOptions) {
    this.#options = options;
  }

  /** Of every state, for the gauge. */
  get count(): number {
    return this.#all.size;
  }

  // ---------------------------------------------------------------------------------------------------------
  // Live

  onBatch(batch: Batch): void {
    const { metrics, trace, roomPrefix, bufferBytes } = this.#options;
    const byAccount = new Map<string, OutboxEvent[]>();
    const forAll: OutboxEvent[] = [];
    for (const event of batch.events) {
      if (!event.known && !event.event.startsWith('relay:')) this.#reportUnknown(event.event);
      if (isErasure(event) && event.account !== null) this.#forget(event.account, event.id);
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
      const sockets = this.#live.get(account)?.size ?? 0;
      const emitted = { at: now, room: roomPrefix + account, sockets };
      for (const { id } of events) trace.note(id, emitted);
      if (!this.#told.has(account)) continue;
      const deliveries = toDeliveries(events, { ...batch, complete: true });
      if (deliveries.length === 0) continue;
      if (bytesOf(deliveries) > bufferBytes / 2) this.#toReplay(account, batch);
      else this.#toAccount(account, deliveries);
      metrics.eventsEmitted.inc(deliveries.length);
      for (const event of events) {
        metrics.commitToEmit.observe(Math.max(0, now - event.capturedAt) / 1000);
      }
    }
    this.#refreshQuietAccounts();
  }

  onBacklog(backlog: Backlog): void {
    for (const account of [...this.#live.keys()]) {
      if (backlog.touches(account)) this.#toReplay(account, backlog);
    }
    this.#refreshQuietAccounts();
  }

  accounts(): string[] {
    return [...this.#live.keys()];
  }

  onLost(reason: 'epoch' | 'retention'): void {
    const { feed } = this.#options;
    const position = formatPosition({ epoch: feed.epoch, seen: feed.seen });
    // The new window counts from the start.
    this.#tick = { at: Date.now(), newest: 0, before: 0 };
    // A copy: each of them moves to the end of the map, where the loop would find it again.
    for (const account of [...this.#told.keys()]) {
      this.#toAccount(account, [{ event: 'relay:resync', payload: resyncPayload(reason), position }]);
    }
  }

  async beforeBatch(session: Session, events: readonly OutboxEvent[] | null): Promise<void> {
    const revoked =
      events && new Set(events.filter(({ event }) => event === REVOKE).map(({ account }) => account ?? ''));
    if (revoked?.size === 0) return;
    // At once, however many: thirty thousand in a batch took nine seconds one by one.
    await this.#revocations.read(session, revoked && [...revoked]);
    for (const { identity, connection } of this.#all) {
      if (revoked && !revoked.has(identity.accountId)) continue;
      if (this.#revocations.refuses(identity)) connection.close(true);
    }
  }

  #toAccount(account: string, deliveries: readonly Delivery[]): void {
    const { metrics, feed } = this.#options;
    const members = this.#live.get(account);
    if (!members) return;
    const encoded = new Encoded(deliveries);
    for (const subscriber of members) this.#send(subscriber, encoded);
    metrics.deliveries.inc(members.size * deliveries.length);
    for (const { event, payload } of deliveries) if (event === 'relay:resync') this.#countResync(payload);
    this.#told.delete(account);
    // Not where the last of them was sent away just now.
    if (members.size > 0) this.#told.set(account, feed.window.newest);
  }

  /**
   * What is held in memory of an account is blanked, up to the event that says so: one that was committed since may
   * be in the same batch. Who is being sent it comes back, and reads what is left.
   */
  #forget(account: string, through: bigint): void {
    this.#options.feed.window.forget(account, through, erase);
    const live = this.#live.get(account);
    for (const subscriber of this.#all) {
      if (subscriber.identity.accountId !== account || live?.has(subscriber)) continue;
      subscriber.connection.close(true);
    }
  }

  /** More than a connection should hold at once: each member reads it at its own pace, as if it came back. */
  #toReplay(account: string, { epoch, seen }: Pick<Batch, 'epoch' | 'seen'>): void {
    const members = [...(this.#live.get(account) ?? [])];
    for (const subscriber of members) {
      this.#unjoin(subscriber);
      subscriber.position = { epoch, seen };
      void this.#bringUp(subscriber);
    }
  }

  /** Writes, and sends away who does not read: past the budget a client costs memory that is not its own. */
  #send({ connection }: Subscriber, encoded: Encoded): void {
    const { bufferBytes, metrics, log } = this.#options;
    try {
      const bytes = connection.write(encoded);
      if (bytes <= bufferBytes) return;
      metrics.slowConsumers.inc();
      log.say('socket_too_slow', { socket: connection.id, bytes });
    } catch (error) {
      // It comes back with the position before what could not be written.
      log.say('socket_failed', { socket: connection.id, error: describe(error) });
    }
    connection.close(true);
  }

  /**
   * Tells an account that heard nothing for long where the others are, before the window forgets its position; and
   * from time to time anyway, or a client that was quiet for longer than the retention would have to refetch after
   * the next restart, though it was there all along.
   */
  #refreshQuietAccounts(): void {
    const { feed } = this.#options;
    const { aging, newest } = feed.window;
    const now = Date.now();
    if (now - this.#tick.at > Math.min(REFRESH_EVERY_MS, feed.retentionMs / 4)) {
      this.#tick = { at: now, newest, before: this.#tick.newest };
    }
    const due = Math.max(aging, this.#tick.before);
    const position = formatPosition({ epoch: feed.epoch, seen: feed.seen });
    for (const [account, batch] of this.#told) {
      if (batch >= due) return;
      this.#toAccount(account, [positionNews(position)]);
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
  // On the way in

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
   * Where a client goes on from, if that can be honoured.
   * @param given what it sent as its position; null: nothing
   * @param isThere whether the client still waits for it
   * @throws RecadoError `feed_not_ready`: a passing fault
   */
  async findOrigin(account: string, given: unknown, isThere: () => boolean): Promise<Origin> {
    const { feed, replay, witnesses } = this.#options;
    if (!feed.ready) await feed.read();
    if (given === undefined || given === null) return { position: null, resync: null };
    const position = typeof given === 'string' ? parsePosition(given) : null;
    if (!position) return { position: null, resync: 'unreadable' };
    if (position.epoch !== feed.epoch || !(await witnesses.attest(position))) {
      return { position: null, resync: 'epoch' };
    }
    if (!covers(feed.seen, horizon(position))) {
      // Another node, or the database itself, was ahead of this one. Nothing visible now may be hidden after this.
      await feed.read();
      if (!covers(feed.seen, horizon(position))) return { position: null, resync: 'future' };
    }
    if (!feed.window.reaches(position.seen)) {
      const page = await replay.page(account, position, feed.seen, isThere);
      if (page.tooOld) return { position: null, resync: 'retention' };
    }
    return { position, resync: null };
  }

  /** Takes a client in: it is told what it missed, and then whatever happens, until it is removed. */
  async add(subscriber: Subscriber): Promise<void> {
    this.#all.add(subscriber);
    // Revoked while it was on its way in, when it could not be found here yet.
    if (this.#revocations.refuses(subscriber.identity)) {
      subscriber.connection.close(true);
      return;
    }
    this.#expiry.add(subscriber, subscriber.identity.refusedFrom);
    await this.#bringUp(subscriber);
  }

  /** Forgets a client that is gone. */
  remove(subscriber: Subscriber): void {
    this.#expiry.remove(subscriber, subscriber.identity.refusedFrom);
    this.#all.delete(subscriber);
    this.#unjoin(subscriber);
  }

  /** A fresh token of the same account. */
  renew(subscriber: Subscriber, identity: Identity): void {
    this.#expiry.remove(subscriber, subscriber.identity.refusedFrom);
    subscriber.identity = identity;
    if (subscriber.connection.open) this.#expiry.add(subscriber, identity.refusedFrom);
  }

  /** No timer of a client is left. */
  close(): void {
    this.#expiry.close();
  }

  // ---------------------------------------------------------------------------------------------------------
  // Replay, then join

  async #bringUp(subscriber: Subscriber): Promise<void> {
    const { connection } = subscriber;
    try {
      await this.#catchUp(subscriber);
    } catch (error) {
      if (!connection.open) return;
      this.#options.log.say('replay_failed', { socket: connection.id, error: describe(error) });
      connection.close(true);
    }
  }

  /** Sends what the client missed. The join, and the check that nothing is missing, are in one tick. */
  async #catchUp(subscriber: Subscriber): Promise<void> {
    const { feed, replay, metrics } = this.#options;
    const { identity, resync, connection } = subscriber;
    const account = identity.accountId;
    let { position } = subscriber;
    let source = 'window';
    while (connection.open) {
      if (position && position.epoch !== feed.epoch) {
        // Just now. It was told that it recovered; it comes back and hears the truth.
        connection.close(true);
        return;
      }
      if (!position) {
        this.#join(subscriber);
        this.#greet(subscriber, resync);
        return;
      }
      if (position.seen === feed.seen && !position.batch) {
        this.#join(subscriber);
        metrics.replays.inc({ source });
        // Also after a replay: it is how a client knows that what follows is live.
        if (subscriber.greeted) {
          this.#send(subscriber, new Encoded([positionNews(formatPosition(position))]));
        } else this.#greet(subscriber, null);
        return;
      }
      const from = position;
      let page = await this.#turns.take(account, () => this.#recall(account, from));
      if (from.epoch !== feed.epoch) continue;
      if (!page) {
        source = 'table';
        page = await replay.page(account, position, feed.seen, () => connection.open);
      }
      if (page.tooOld) {
        // Retention overtook a slow client, which was told that it recovered, too.
        connection.close(true);
        return;
      }
      await this.#sendPage(subscriber, page, position.epoch);
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
  async #sendPage(subscriber: Subscriber, page: ReplayPage, epoch: string): Promise<void> {
    const { connection } = subscriber;
    for (let rest = page.events; rest.length > 0; ) {
      const { events, bytes, complete } = takeChunk(rest);
      while (connection.open && !this.#fits(connection, bytes)) await connection.drained();
      if (!connection.open) return;
      const run = { ...page, epoch, complete: complete && page.complete };
      await this.#turns.take(subscriber.identity.accountId, () => {
        if (connection.open) this.#sendReplay(subscriber, toDeliveries(events, run));
      });
      rest = rest.slice(events.length);
    }
  }

  /** A single event always fits when nothing waits before it. */
  #fits(connection: Connection, bytes: number): boolean {
    const waiting = connection.backlog();
    if (waiting === 0) return true;
    return waiting <= REPLAY_BACKLOG_BYTES && waiting + bytes <= this.#options.bufferBytes;
  }

  #sendReplay(subscriber: Subscriber, deliveries: readonly Delivery[]): void {
    if (deliveries.length === 0) return;
    this.#send(subscriber, new Encoded(deliveries));
    this.#options.metrics.deliveries.inc(deliveries.length);
    for (const { event, payload } of deliveries) if (event === 'relay:resync') this.#countResync(payload);
  }

  #join(subscriber: Subscriber): void {
    const { accountId } = subscriber.identity;
    const members = this.#live.get(accountId) ?? new Set();
    this.#live.set(accountId, members.add(subscriber));
    subscriber.connection.enter(this.#options.roomPrefix + accountId);
    // The position it was just told, or has, is the feed's; the account's own may be older.
    if (!this.#told.has(accountId)) this.#told.set(accountId, this.#options.feed.window.newest);
  }

  #unjoin(subscriber: Subscriber): void {
    const { accountId } = subscriber.identity;
    const members = this.#live.get(accountId);
    if (!members?.delete(subscriber)) return;
    subscriber.connection.leave(this.#options.roomPrefix + accountId);
    if (members.size > 0) return;
    this.#live.delete(accountId);
    this.#told.delete(accountId);
  }

  /** The first thing a client hears that did not resume: where it is now. */
  #greet(subscriber: Subscriber, resync: ResyncReason | null): void {
    const { feed } = this.#options;
    const position = formatPosition({ epoch: feed.epoch, seen: feed.seen });
    const { identity } = subscriber;
    const payload = JSON.stringify({
      accountId: identity.accountId,
      expiresAt: new Date(identity.expiresAt).toISOString(),
    });
    if (resync) this.#countResync(resyncPayload(resync));
    const greeting = resync
      ? { event: 'relay:resync', payload: resyncPayload(resync), position }
      : { event: 'relay:ready', payload, position };
    subscriber.greeted = true;
    this.#send(subscriber, new Encoded([greeting]));
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
