// Live delivery sends each batch of the feed to the live clients of its accounts. A batch that is too large for that
// is left to catch-up (../catch-up/catch-up.ts).
import type { Identity } from '../../auth/token.ts';
import type { Backlog, Batch, Feed } from '../../feed/feed.ts';
import type { Log } from '../../log.ts';
import type { Metrics } from '../../metrics.ts';
import type { OutboxEvent } from '../../outbox/events.ts';
import { formatPosition } from '../../outbox/position.ts';
import type { ClientWriter } from '../client-writer.ts';
import {
  type Delivery,
  isSent,
  positionEvent,
  resyncOf,
  resyncPayload,
  toDeliveries,
} from '../deliveries.ts';
import { Encoded } from '../encode.ts';
import { FailedCaptures } from '../failed-captures.ts';
import { hearingOf } from '../hears.ts';
import type { Trace } from '../recent-emits.ts';
import type { Subscriber } from '../subscriber.ts';
import type { Share } from './audible.ts';
import { Members } from './members.ts';

export interface LiveAccountsOptions {
  feed: Feed;
  writer: ClientWriter;
  trace: Trace;
  roomPrefix: string;
  /** Bytes that may wait for one client. */
  bufferBytes: number;
  log: Log;
  metrics: Metrics;
}

/** Receives a client that is no longer live. Its position is set to where its replay starts. */
export type ToCatchUp = (subscriber: Subscriber) => void;

/** Quiet accounts get a position this often, or every quarter of the retention if that is shorter. */
const REFRESH_EVERY_MS = 15 * 60_000;
const MOST_UNKNOWN_NAMES = 1_000;

export class LiveAccounts {
  readonly #options: LiveAccountsOptions;
  readonly #members = new Map<string, Members>();
  /** For each live account, the number of the newest batch when it last received a position; least recent first. */
  readonly #lastPositionAt = new Map<string, number>();
  /** The newest batch at the last timed refresh, and at the one before. */
  #lastRefresh = { at: Date.now(), newest: 0, previousNewest: 0 };
  readonly #unknownNames = new Set<string>();
  readonly #failedCaptures: FailedCaptures;

  constructor(options: LiveAccountsOptions) {
    this.#options = options;
    this.#failedCaptures = new FailedCaptures(options.log);
  }

  accounts(): string[] {
    return [...this.#members.keys()];
  }

  has(subscriber: Subscriber): boolean {
    return this.#members.get(subscriber.identity.accountId)?.has(subscriber) ?? false;
  }

  join(subscriber: Subscriber): void {
    const { roomPrefix, feed } = this.#options;
    const { accountId } = subscriber.identity;
    const members = this.#members.get(accountId) ?? new Members();
    this.#members.set(accountId, members);
    members.add(subscriber);
    subscriber.connection.joinRoom(roomPrefix + accountId);
    // The new member's position is the feed's. Other members may have an older position, and the oldest counts.
    if (!this.#lastPositionAt.has(accountId)) this.#lastPositionAt.set(accountId, feed.recent.newest);
  }

  leave(subscriber: Subscriber): void {
    const { accountId } = subscriber.identity;
    const members = this.#members.get(accountId);
    if (!members?.delete(subscriber)) return;
    subscriber.connection.leaveRoom(this.#options.roomPrefix + accountId);
    if (members.size > 0) return;
    this.#members.delete(accountId);
    this.#lastPositionAt.delete(accountId);
  }

  onBatch(batch: Batch, toCatchUp: ToCatchUp): void {
    const { metrics, trace, roomPrefix } = this.#options;
    const now = Date.now();
    const { elsewhere = [] } = batch;
    if (elsewhere.length > 0) {
      const named = new Set(elsewhere);
      this.#moveAccounts((account) => elsewhere === 'all' || named.has(account), batch, toCatchUp);
    }
    for (const [account, events] of this.#byAccount(batch.events)) {
      const members = this.#members.get(account);
      const room = roomPrefix + account;
      const shares = members?.share(events) ?? null;
      const heardBy = shares && countListeners(shares);
      for (const event of events) {
        const sockets = heardBy ? (heardBy.get(event) ?? 0) : (members?.size ?? 0);
        trace.note(event, { at: now, room, sockets });
      }
      if (!members) continue;
      const emitted = shares
        ? this.#emitShares(account, members, shares, batch, toCatchUp)
        : this.#emitToAll(account, members, events, batch, toCatchUp);
      if (emitted === 0) continue;
      metrics.eventsEmitted.inc(emitted);
      for (const event of events) {
        metrics.commitToEmit.observe(Math.max(0, now - event.capturedAt) / 1000);
      }
    }
    this.#refreshQuietAccounts();
  }

  /** @returns how many events were sent */
  #emitToAll(
    account: string,
    members: Members,
    events: readonly OutboxEvent[],
    batch: Batch,
    toCatchUp: ToCatchUp,
  ): number {
    const deliveries = toDeliveries(events, { ...batch, complete: true });
    if (deliveries.length === 0) return 0;
    if (this.#areTooLarge(deliveries)) this.#moveToCatchUp([...members], batch, toCatchUp);
    else this.#writeToAccount(account, deliveries);
    return deliveries.length;
  }

  /** @returns how many events at least one client heard */
  #emitShares(
    account: string,
    members: Members,
    shares: readonly Share[],
    batch: Batch,
    toCatchUp: ToCatchUp,
  ): number {
    let withoutPosition = members.size;
    const emitted = new Set<OutboxEvent>();
    for (const { events, members: listeners } of shares) {
      const deliveries = toDeliveries(events, { ...batch, complete: true });
      if (deliveries.length === 0) continue;
      if (this.#areTooLarge(deliveries)) this.#moveToCatchUp(listeners, batch, toCatchUp);
      else this.#write(listeners, listeners.length, deliveries);
      withoutPosition -= listeners.length;
      for (const event of events) if (isSent(event)) emitted.add(event);
    }
    // Members that heard nothing keep an old position.
    if (withoutPosition === 0) this.#notePosition(account);
    return emitted.size;
  }

  /** Replaces a live client's identity and tells the client to refetch. */
  changeTopics(subscriber: Subscriber, identity: Identity): void {
    const { feed } = this.#options;
    const members = this.#members.get(identity.accountId);
    if (!members?.delete(subscriber)) return;
    subscriber.identity = identity;
    members.add(subscriber);
    const position = formatPosition({ epoch: feed.epoch, seen: feed.seen });
    this.#write([subscriber], 1, [resyncOf('topics', hearingOf(subscriber), position)]);
  }

  onBacklog(backlog: Backlog, toCatchUp: ToCatchUp): void {
    this.#moveAccounts(backlog.touches, backlog, toCatchUp);
    this.#refreshQuietAccounts();
  }

  /** Moves accounts whose events are not in the batch to catch-up. */
  #moveAccounts(
    isElsewhere: (account: string) => boolean,
    batch: Pick<Batch, 'epoch' | 'seen'>,
    toCatchUp: ToCatchUp,
  ): void {
    for (const [account, members] of [...this.#members]) {
      if (isElsewhere(account)) this.#moveToCatchUp([...members], batch, toCatchUp);
    }
  }

  onLost(reason: 'epoch' | 'retention'): void {
    const { feed } = this.#options;
    const position = formatPosition({ epoch: feed.epoch, seen: feed.seen });
    // The feed restarts its batch numbers.
    this.#lastRefresh = { at: Date.now(), newest: 0, previousNewest: 0 };
    // Loops over a copy: writing moves an account to the end of the map, where the loop would meet it again.
    for (const account of [...this.#lastPositionAt.keys()]) {
      this.#writeToAccount(account, [{ event: 'relay:resync', payload: resyncPayload(reason), position }]);
    }
  }

  /** Each account's events, together with those for every account, in the order of their ids. */
  #byAccount(events: readonly OutboxEvent[]): Map<string, OutboxEvent[]> {
    const byAccount = new Map<string, OutboxEvent[]>();
    const forAll: OutboxEvent[] = [];
    for (const event of events) {
      if (!event.known && !event.event.startsWith('relay:')) this.#reportUnknown(event.event);
      this.#failedCaptures.note(event);
      if (event.account === null) {
        forAll.push(event);
        continue;
      }
      const ofAccount = byAccount.get(event.account);
      if (ofAccount) ofAccount.push(event);
      else byAccount.set(event.account, [event]);
    }
    if (forAll.length === 0) return byAccount;
    for (const account of this.#lastPositionAt.keys()) {
      const merged = [...(byAccount.get(account) ?? []), ...forAll];
      byAccount.set(
        account,
        merged.sort((a, b) => (a.id < b.id ? -1 : 1)),
      );
    }
    return byAccount;
  }

  #writeToAccount(account: string, deliveries: readonly Delivery[]): void {
    const members = this.#members.get(account);
    if (!members) return;
    this.#write(members, members.size, deliveries);
    this.#notePosition(account);
  }

  #write(to: Iterable<Subscriber>, count: number, deliveries: readonly Delivery[]): void {
    const { metrics, writer } = this.#options;
    const encoded = new Encoded(deliveries);
    for (const subscriber of to) writer.write(subscriber, encoded);
    metrics.deliveries.inc(count * deliveries.length);
    writer.countResyncs(deliveries);
  }

  /** Records that every member of the account has just received a position. */
  #notePosition(account: string): void {
    this.#lastPositionAt.delete(account);
    // The write may have disconnected the last member.
    if (this.#members.has(account)) this.#lastPositionAt.set(account, this.#options.feed.recent.newest);
  }

  #areTooLarge(deliveries: readonly Delivery[]): boolean {
    return bytesOf(deliveries) > this.#options.bufferBytes / 2;
  }

  /** As after a reconnect, each member reads from the start of the batch at its own pace. */
  #moveToCatchUp(
    members: readonly Subscriber[],
    { epoch, seen }: Pick<Batch, 'epoch' | 'seen'>,
    toCatchUp: ToCatchUp,
  ): void {
    for (const subscriber of members) {
      this.leave(subscriber);
      subscriber.position = { epoch, seen };
      toCatchUp(subscriber);
    }
  }

  /**
   * Sends the current position to accounts without recent events, for two reasons. The recent events in memory must
   * reach back to every live client's position. And a client whose position is older than the retention would have to
   * refetch after the next restart.
   */
  #refreshQuietAccounts(): void {
    const { feed } = this.#options;
    const { aging, newest } = feed.recent;
    const now = Date.now();
    if (now - this.#lastRefresh.at > Math.min(REFRESH_EVERY_MS, feed.retentionMs / 4)) {
      this.#lastRefresh = { at: now, newest, previousNewest: this.#lastRefresh.newest };
    }
    const due = Math.max(aging, this.#lastRefresh.previousNewest);
    const position = formatPosition({ epoch: feed.epoch, seen: feed.seen });
    for (const [account, batch] of this.#lastPositionAt) {
      if (batch >= due) return;
      this.#writeToAccount(account, [positionEvent(position)]);
    }
  }

  #reportUnknown(event: string): void {
    const { metrics, log } = this.#options;
    metrics.unknownEvents.inc();
    if (this.#unknownNames.has(event) || this.#unknownNames.size >= MOST_UNKNOWN_NAMES) return;
    this.#unknownNames.add(event);
    log.say('event_unknown', { name: event });
  }
}

function countListeners(shares: readonly Share[]): Map<OutboxEvent, number> {
  const listeners = new Map<OutboxEvent, number>();
  for (const { events, members } of shares) {
    for (const event of events) listeners.set(event, (listeners.get(event) ?? 0) + members.length);
  }
  return listeners;
}

function bytesOf(deliveries: readonly Delivery[]): number {
  let bytes = 0;
  for (const { payload, position } of deliveries) bytes += Buffer.byteLength(payload) + position.length;
  return bytes;
}
