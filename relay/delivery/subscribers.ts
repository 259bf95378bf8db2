// Every client of this process, from handshake to disconnect, whatever its transport:
// position → replay → join → live.
//
// This file decides who may subscribe, and from which position (findOrigin). catch-up/catch-up.ts replays and joins,
// live/live-accounts.ts delivers live events. The transports (transport/socketio.ts, transport/sse.ts) add and remove
// clients.
import { Expiry } from '../auth/expiry.ts';
import { Revocations } from '../auth/revocations.ts';
import type { Identity, Verifier } from '../auth/token.ts';
import { TokenError } from '../auth/token-error.ts';
import type { Backlog, Batch, Feed, FeedListener } from '../feed/feed.ts';
import type { Witnesses } from '../feed/recent/witnesses.ts';
import type { Log } from '../log.ts';
import type { Metrics } from '../metrics.ts';
import type { OutboxEvent, Session } from '../outbox/events.ts';
import { covers, horizon, parsePosition } from '../outbox/position.ts';
import { CatchUp } from './catch-up/catch-up.ts';
import type { Replay } from './catch-up/replay.ts';
import { ClientWriter } from './client-writer.ts';
import { erase, isErasure, REVOKE } from './deliveries.ts';
import { hearingOf, hears, hearsTheSame, unmarkPosition } from './hears.ts';
import { LiveAccounts, type ToCatchUp } from './live/live-accounts.ts';
import type { Trace } from './recent-emits.ts';
import type { SlowClients } from './slow-clients.ts';
import type { Origin, Subscriber } from './subscriber.ts';

export interface SubscribersOptions {
  verifier: Verifier;
  feed: Feed;
  replay: Replay;
  witnesses: Witnesses;
  trace: Trace;
  slowClients: SlowClients;
  roomPrefix: string;
  /** Bytes that may wait for one client. */
  bufferBytes: number;
  log: Log;
  metrics: Metrics;
}

export class Subscribers implements FeedListener {
  readonly #options: SubscribersOptions;
  readonly #revocations = new Revocations();
  /** Live and catching up. */
  readonly #all = new Set<Subscriber>();
  readonly #expiry = new Expiry<Subscriber>(({ connection }) => connection.close(false));
  readonly #live: LiveAccounts;
  readonly #catchUp: CatchUp;

  constructor(options: SubscribersOptions) {
    this.#options = options;
    const writer = new ClientWriter(options);
    this.#live = new LiveAccounts({ ...options, writer });
    this.#catchUp = new CatchUp({ ...options, writer, live: this.#live });
  }

  /** How many clients of this process would be sent an event. */
  countHearing({ account, ...event }: Pick<OutboxEvent, 'account' | 'event' | 'audience'>): number {
    return [...this.#all].filter(
      (subscriber) => subscriber.identity.accountId === account && hears(subscriber, event),
    ).length;
  }

  /** Live and catching up, for the gauge. */
  get count(): number {
    return this.#all.size;
  }

  // ---------------------------------------------------------------------------------------------------------
  // Called by the feed

  async beforeBatch(session: Session, events: readonly OutboxEvent[] | null): Promise<void> {
    const revoked =
      events && new Set(events.filter(({ event }) => event === REVOKE).map(({ account }) => account ?? ''));
    if (revoked?.size === 0) return;
    // One query for all accounts: 30,000 accounts in a batch took nine seconds with a query each.
    await this.#revocations.read(session, revoked && [...revoked]);
    for (const subscriber of this.#all) {
      const { identity, connection } = subscriber;
      if (revoked && !revoked.has(identity.accountId)) continue;
      if (this.#revocations.refuses(identity)) connection.close(true);
      else this.#take(subscriber, this.#revocations.narrow(identity));
    }
  }

  onBatch(batch: Batch): void {
    for (const event of batch.events) {
      if (isErasure(event) && event.account !== null) this.#erase(event.account, event.id);
    }
    this.#live.onBatch(batch, this.#startCatchUp);
  }

  onBacklog(backlog: Backlog): void {
    this.#live.onBacklog(backlog, this.#startCatchUp);
  }

  accounts(): string[] {
    return this.#live.accounts();
  }

  onLost(reason: 'epoch' | 'retention'): void {
    this.#live.onLost(reason);
  }

  readonly #startCatchUp: ToCatchUp = (subscriber) => void this.#catchUp.run(subscriber);

  /**
   * Blanks the account's events in memory up to the erasure; later events of the same batch stay. Replays under way may
   * hold erased events, so their clients reconnect and read what is left.
   */
  #erase(account: string, through: bigint): void {
    this.#options.feed.recent.forget(account, through, erase);
    for (const subscriber of this.#all) {
      if (subscriber.identity.accountId !== account || this.#live.has(subscriber)) continue;
      subscriber.connection.close(true);
    }
  }

  // ---------------------------------------------------------------------------------------------------------
  // Called by the transports

  /**
   * Verifies the token of a handshake or request.
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
    return this.#revocations.narrow(identity);
  }

  /**
   * Decides where a client's replay starts, or why it gets relay:resync.
   * @param given the position that the client sent; null if it sent none
   * @param isThere whether the client is still connected
   * @throws RecadoError `feed_not_ready`: a temporary fault
   */
  async findOrigin(account: string, given: unknown, isThere: () => boolean): Promise<Origin> {
    const { feed, replay, witnesses } = this.#options;
    if (!feed.ready) await feed.read();
    if (given === undefined || given === null) return { position: null, resync: null };
    const position = typeof given === 'string' ? parsePosition(unmarkPosition(given).position) : null;
    if (!position) return { position: null, resync: 'unreadable' };
    if (position.epoch !== feed.epoch || !(await witnesses.attest(position))) {
      return { position: null, resync: 'epoch' };
    }
    if (!covers(feed.seen, horizon(position))) {
      // Another node may have read further than this one. A position still ahead after a read is ahead of the database.
      await feed.read(horizon(position));
      if (!covers(feed.seen, horizon(position))) return { position: null, resync: 'future' };
    }
    if (!feed.recent.reaches(position.seen)) {
      const page = await replay.page(account, position, feed.seen, isThere);
      if (page.tooOld) return { position: null, resync: 'retention' };
    }
    return { position, resync: null };
  }

  /** Delivers to a client until it is removed. Resolves when it is live or disconnected. */
  async add(subscriber: Subscriber): Promise<void> {
    this.#all.add(subscriber);
    const { connection, identity, position, resync } = subscriber;
    const from = resync ?? (position === null ? 'here' : 'its position');
    this.#options.log.say('client_came', { socket: connection.id, account: identity.accountId, from });
    // The token may have been revoked during the handshake, when beforeBatch() did not know this client yet.
    if (this.#revocations.refuses(identity) || this.#revocations.narrow(identity) !== identity) {
      connection.close(true);
      return;
    }
    this.#expiry.add(subscriber, identity.refusedFrom);
    await this.#catchUp.run(subscriber);
  }

  remove(subscriber: Subscriber): void {
    const { connection, identity } = subscriber;
    this.#options.log.say('client_left', { socket: connection.id, account: identity.accountId });
    this.#expiry.remove(subscriber, identity.refusedFrom);
    this.#all.delete(subscriber);
    this.#live.leave(subscriber);
  }

  /** Replaces a client's token with a fresh one of the same account. */
  renew(subscriber: Subscriber, identity: Identity): void {
    this.#expiry.remove(subscriber, subscriber.identity.refusedFrom);
    this.#take(subscriber, identity);
    if (subscriber.connection.open) this.#expiry.add(subscriber, identity.refusedFrom);
  }

  /** From now on the client hears what the new identity may hear. If that differs, it is told to refetch. */
  #take(subscriber: Subscriber, identity: Identity): void {
    const { identity: before, connection, choice } = subscriber;
    if (hearsTheSame(before, identity)) {
      subscriber.identity = identity;
      return;
    }
    connection.mark(hearingOf({ identity, choice }));
    if (this.#live.has(subscriber)) {
      this.#live.changeTopics(subscriber, identity);
    } else {
      subscriber.identity = identity;
      subscriber.position = null;
      subscriber.resync = 'topics';
    }
  }

  /** Stops the expiry timer. */
  close(): void {
    this.#expiry.close();
  }
}
