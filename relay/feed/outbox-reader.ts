// Reads relay.events for every account: each poll hands on what became visible since the last one.
import type { Metrics } from '../metrics.ts';
import { findTouched, isSmallBatch, readBatch, readSmallBatch } from '../outbox/batches.ts';
import type { OutboxEvent, Page, PageLimits, Session } from '../outbox/events.ts';
import { cut, isTooOld, NOTHING, type Snapshot, union, witnessOf } from '../outbox/position.ts';
import { type LockedNow, NONE_LOCKED } from '../outbox/slots.ts';
import {
  findForeign,
  readLargest,
  readStart,
  type Start,
  settleEpoch,
  startNewEpoch,
} from '../outbox/start.ts';
import type { Step } from '../stream/rule.ts';
import { type FeedListener, notReady } from './feed.ts';
import { LockedSlots, type LockedSlotsOptions } from './locked-slots.ts';
import { RecentEvents, type RecentEventsLimits } from './recent/recent-events.ts';
import { warmUp } from './recent/warm-up.ts';
import type { Witnesses } from './recent/witnesses.ts';

export interface OutboxReaderOptions extends LockedSlotsOptions {
  recent: RecentEventsLimits;
  page: PageLimits;
  /** Told which transactions were handed on. */
  witnesses?: Witnesses;
  /** Called after every read, with the number of transactions whose events it found. */
  onRead?: (read: { transactions: number }) => void;
  metrics: Metrics;
}

/** A new session looks up this many events of the last batch, to know whether it is the same database. */
const MOST_REMEMBERED = 1_000;

const NOBODY: FeedListener = { onBatch() {}, onBacklog() {}, accounts: () => [], onLost() {} };

export class OutboxReader {
  readonly #options: OutboxReaderOptions;
  listener: FeedListener = NOBODY;
  #epoch: string | null = null;
  #seen: Snapshot = NOTHING;
  /** The same after the last read of the table. What other processes read was not skipped. */
  #passed: Snapshot = NOTHING;
  /** Transactions of the last batch, with their witnesses. */
  #lastBatch = new Map<bigint, number>();
  /** Whether the last batch was small. */
  #small = true;
  readonly #lockedSlots: LockedSlots;
  #recent: RecentEvents;
  #retentionMs = Number.POSITIVE_INFINITY;

  constructor(options: OutboxReaderOptions) {
    this.#options = options;
    this.#lockedSlots = new LockedSlots(options);
    this.#recent = new RecentEvents(NOTHING, options.recent);
  }

  /** @throws RecadoError `feed_not_ready` before the first successful connection */
  get epoch(): string {
    if (this.#epoch === null) throw notReady();
    return this.#epoch;
  }

  /** What was handed on. */
  get seen(): Snapshot {
    return this.#seen;
  }

  /** Whether a slot that another program has locked, or had, is not read. */
  get skips(): boolean {
    return this.#lockedSlots.skips;
  }

  /** How long events are kept, as of the last begin(). */
  get retentionMs(): number {
    return this.#retentionMs;
  }

  get recent(): RecentEvents {
    return this.#recent;
  }

  /** The first session begins at what is visible now. Later ones continue, while the epoch is the same. */
  async begin(session: Session): Promise<void> {
    // To know whether the same epoch is still the same database, every slot is read.
    const isSame = this.#epoch !== null && (await settleEpoch(session)) === this.#epoch;
    const locked = isSame ? NONE_LOCKED : await this.#lockedSlots.findFirst(session);
    let start = await readStart(session, locked.slots);
    this.#retentionMs = start.retentionMs;
    if (start.epoch === this.#epoch && (await this.#isOtherHistory(session))) {
      // The database has gone back in time without becoming another one: a storage snapshot was restored, or a crash
      // undid what was committed asynchronously.
      await startNewEpoch(session, start.epoch);
      start = await readStart(session);
    }
    // After readStart(): what is written later arrives as an event.
    await this.listener.beforeBatch?.(session, null);
    if (start.epoch !== this.#epoch) await this.#startOver(session, start, locked, 'epoch');
  }

  /** Whether the last batch, or the largest transaction that was handed on, is missing in the database. */
  async #isOtherHistory(session: Session): Promise<boolean> {
    const claimed = new Map(this.#lastBatch);
    const { xmax, witness } = this.#seen;
    if (witness !== undefined) claimed.set(xmax - 1n, witness);
    return (await findForeign(session, claimed)).size > 0;
  }

  /** A warm-up that fails leaves the memory empty, and its error is thrown once everything else is done. */
  async #startOver(
    session: Session,
    { epoch, now, largest }: Start,
    locked: LockedNow,
    reason: 'epoch' | 'retention',
  ): Promise<void> {
    const { recent: limits, page, witnesses } = this.#options;
    const isWhole = locked.slots.length === 0;
    const seen = largest === null ? NOTHING : cut(now, largest.xid, isWhole ? largest.witness : undefined);
    // Not two memories at a time.
    this.#recent.clear(this.#seen);
    witnesses?.startOver(largest);
    let recent = new RecentEvents(seen, limits);
    let failure: unknown;
    try {
      recent = await warmUp(session, { now, seen, recent: limits, page, witnesses, locked });
    } catch (error) {
      failure = error;
    }
    // An event that a locked slot has after this is missing in memory. Without clients, memory does not matter.
    const complete = this.#options.onSkipped ? now : recent.from;
    await this.#lockedSlots.startWithout(session, locked.slots, complete);
    const isFirst = this.#epoch === null;
    this.#epoch = epoch;
    this.#seen = seen;
    this.#passed = seen;
    this.#lastBatch.clear();
    this.#recent = recent;
    if (!isFirst) this.#lose(reason);
    if (failure !== undefined) throw failure;
  }

  #lose(reason: 'epoch' | 'retention'): void {
    this.#options.log.say('feed_lost', { reason });
    this.listener.onLost(reason);
  }

  async poll(session: Session): Promise<void> {
    await this.search(session);
    let page = await this.#readAround(session);
    if (page.epoch !== this.#epoch) {
      // Somebody called relay.new_epoch(), or a relay has skipped events.
      await this.begin(session);
      page = { ...page, events: [] };
    } else if (isTooOld(this.#seen, page.emptied)) {
      const start = await readStart(session);
      await this.listener.beforeBatch?.(session, null);
      await this.#startOver(session, start, NONE_LOCKED, 'retention');
      page = { ...page, events: [] };
    } else if (page.more) {
      await this.#passOver(session, page.now);
    } else {
      await this.listener.beforeBatch?.(session, page.events);
      this.#handOn(this.#boundOf(page.now, page.events), page.events);
    }
    this.#passed = this.#seen;
    const { log, metrics } = this.#options;
    const events = page.events.length;
    metrics.eventsRead.inc(events);
    const transactions = new Set(page.events.map(({ xid }) => xid)).size;
    if (events > 0) log.say('feed_read', { events, transactions });
    this.#options.onRead?.({ transactions });
  }

  /** Searches slots that were skipped, if they are free. */
  async search(session: Session): Promise<void> {
    await this.#lockedSlots.takeBack(session, this.#passed, this.epoch);
  }

  /** Reads what became visible, without the slots that are locked. */
  async #readAround(session: Session): Promise<Page> {
    try {
      return await this.#readBatch(session);
    } catch (error) {
      if (!(await this.#lockedSlots.leaveOut(session, this.#seen, error))) throw error;
      return await this.#readBatch(session);
    }
  }

  async #readBatch(session: Session): Promise<Page> {
    const { page: limits } = this.#options;
    const { leftOut } = this.#lockedSlots;
    // After a small batch, the next one is probably small.
    const small = this.#small ? await readSmallBatch(session, this.#seen, limits, leftOut) : null;
    const page = small ?? (await readBatch(session, this.#seen, limits, leftOut));
    this.#small = !page.more && isSmallBatch(page.events);
    return page;
  }

  /**
   * Takes a step that another process has read.
   * @param session for beforeBatch()
   */
  async take(session: Session, { bound, events, elsewhere }: Step): Promise<void> {
    // Events that are elsewhere were not read, and some of them may be revocations.
    await this.listener.beforeBatch?.(session, elsewhere === 'all' ? null : events);
    this.#options.metrics.eventsRead.inc(events.length);
    this.#handOn(bound, events, elsewhere);
  }

  /** Nothing new. The listener gives accounts that were quiet for long a fresh position. */
  rest(): void {
    this.listener.onBatch({ epoch: this.epoch, seen: this.#seen, bound: this.#seen, events: [] });
  }

  #handOn(bound: Snapshot, events: readonly OutboxEvent[], elsewhere: Step['elsewhere'] = []): void {
    const seen = this.#seen;
    this.#seen = bound;
    const batch = { epoch: this.epoch, seen, bound, events };
    if (elsewhere.length === 0) {
      this.#remember(events);
      this.#recent.add(events, bound);
      this.listener.onBatch(batch);
      return;
    }
    // Memory would have a gap. And the last event of a transaction, which is its witness, may be elsewhere.
    this.#lastBatch.clear();
    this.#recent.clear(bound);
    this.listener.onBatch({ ...batch, elsewhere });
  }

  /**
   * For more than a page, which is not read here. Clients of accounts with events in it read them at their own pace;
   * the position of all others moves past it. So a million events of one account delay nobody else.
   */
  async #passOver(session: Session, now: Snapshot): Promise<void> {
    const { log, metrics } = this.#options;
    const seen = this.#seen;
    const { leftOut } = this.#lockedSlots;
    const largest = await readLargest(session, now, leftOut);
    const bound = largest
      ? cut(now, largest.xid, this.skips ? undefined : largest.witness)
      : cut(now, seen.xmax - 1n, seen.witness);
    const asked = new Set(this.listener.accounts());
    const touched = await findTouched(session, [...asked], seen, bound, leftOut);
    // Some of its events may be revocations.
    await this.listener.beforeBatch?.(session, null);
    log.say('feed_backlog', { accounts: touched?.size ?? asked.size });
    metrics.backlogs.inc();
    this.#seen = bound;
    this.#lastBatch.clear();
    this.#recent.clear(bound);
    this.listener.onBacklog({
      epoch: this.epoch,
      seen,
      bound,
      // Accounts that came meanwhile were not searched for.
      touches: (account) => touched === null || touched.has(account) || !asked.has(account),
    });
  }

  /** The position after a batch. */
  #boundOf(now: Snapshot, events: readonly OutboxEvent[]): Snapshot {
    let largest = this.#seen.xmax - 1n;
    let { witness } = this.#seen;
    for (const event of events) {
      if (event.xid < largest) continue;
      largest = event.xid;
      // The last event of a transaction, which is its witness, may be in a slot that is not read.
      witness = this.skips ? undefined : witnessOf(event);
    }
    // An edge's position comes from other processes, and one of them may have read later.
    return union(this.#seen, cut(now, largest, witness));
  }

  #remember(events: readonly OutboxEvent[]): void {
    if (events.length === 0) return;
    const claimed = this.skips ? [] : events.slice(-MOST_REMEMBERED);
    this.#lastBatch = new Map(claimed.map((event) => [event.xid, witnessOf(event)]));
    this.#options.witnesses?.note(events);
  }
}
