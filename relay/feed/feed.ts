// The loop: wake → read what became visible → hand it on. One per process; it reads for every account.
import { setTimeout as sleep } from 'node:timers/promises';
import type pg from 'pg';
import { errorText, RecadoError } from '../errors.ts';
import type { Log } from '../log.ts';
import type { Metrics } from '../metrics.ts';
import { findTouched, isSmallBatch, readBatch, readSmallBatch } from '../outbox/batches.ts';
import type { OutboxEvent, Page, PageLimits, Session } from '../outbox/events.ts';
import { cut, isTooOld, NOTHING, type Snapshot, witnessOf } from '../outbox/position.ts';
import { findForeign, type Largest, readLargest, readStart, startNewEpoch } from '../outbox/start.ts';
import { LockedSlots } from './locked-slots.ts';
import { RecentEvents, type RecentEventsLimits } from './recent-events.ts';
import { warmUp } from './warm-up.ts';
import type { Witnesses } from './witnesses.ts';

/** Events that became visible together. */
export interface Batch {
  readonly epoch: string;
  /** What was seen before. */
  readonly seen: Snapshot;
  /** What is seen after it. */
  readonly bound: Snapshot;
  /** In the order of their ids. */
  readonly events: readonly OutboxEvent[];
}

/** More events became visible together than are read at once: a large transaction, or the node was behind. */
export interface Backlog {
  readonly epoch: string;
  readonly seen: Snapshot;
  readonly bound: Snapshot;
  /** Whether it may have events of the account. */
  touches(account: string): boolean;
}

export interface FeedListener {
  /** Called synchronously: whoever joins a room between two batches misses none and gets none twice. */
  onBatch(batch: Batch): void;
  /** Called synchronously, instead of onBatch(): its events are not handed on, and are to be read from the table. */
  onBacklog(backlog: Backlog): void;
  /** Accounts that a backlog is to be looked through for. */
  accounts(): string[];
  /** Events were lost to this node, or are another database's: everybody must refetch. */
  onLost(reason: 'epoch' | 'retention'): void;
  /**
   * Resolves before these events are handed on. null: some may have been missed, by a new session or by retention.
   * What it reads with the session is at least as new as the events.
   */
  beforeBatch?(session: Session, events: readonly OutboxEvent[] | null): Promise<void>;
}

export interface FeedOptions {
  /** Opens a session for reading (openReader). */
  connect: () => Promise<pg.Client>;
  recent: RecentEventsLimits;
  page: PageLimits;
  /** Told which transactions were handed on. */
  witnesses?: Witnesses;
  /** Told of every read: its snapshot, uncut, and how many transactions it found events of. */
  onRead?: (read: { now: Snapshot; transactions: number }) => void;
  log: Log;
  metrics: Metrics;
}

/** So many events of the last batch are looked for again after a new connection. */
const MOST_REMEMBERED = 1_000;

const NOBODY: FeedListener = { onBatch() {}, onBacklog() {}, accounts: () => [], onLost() {} };

export class Feed {
  readonly #options: FeedOptions;
  readonly #stopping = new AbortController();
  #listener: FeedListener = NOBODY;
  #running: Promise<void> = Promise.resolve();
  #session: pg.Client | null = null;
  #epoch: string | null = null;
  #seen: Snapshot = NOTHING;
  /** Transactions of the last batch, with their witnesses. */
  #lastBatch = new Map<bigint, number>();
  /** Whether the last batch was small. */
  #small = true;
  readonly #lockedSlots: LockedSlots;
  #recent: RecentEvents;
  #retentionMs = Number.POSITIVE_INFINITY;
  #ready = false;
  readonly #firstRead = withResolvers();
  #wakeRequested = true;
  #onWake: () => void = () => {};
  #readers: PromiseWithResolvers[] = [];

  constructor(options: FeedOptions) {
    this.#options = options;
    this.#lockedSlots = new LockedSlots(options.log);
    this.#recent = new RecentEvents(NOTHING, options.recent);
  }

  /** Whether the last read succeeded. */
  get ready(): boolean {
    return this.#ready;
  }

  /** Resolves with the first successful read. */
  get firstRead(): Promise<void> {
    return this.#firstRead.promise;
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

  /** How long events are kept, as it was when the feed connected. */
  get retentionMs(): number {
    return this.#retentionMs;
  }

  get recent(): RecentEvents {
    return this.#recent;
  }

  start(listener: FeedListener): void {
    this.#listener = listener;
    this.#running = this.#run();
  }

  /** Read soon. Any number of calls before the read begins are one. */
  wake(): void {
    this.#wakeRequested = true;
    this.#onWake();
  }

  /**
   * Resolves after a read that began after the call.
   * @throws RecadoError `feed_not_ready` if that read failed
   */
  async read(): Promise<void> {
    if (this.#stopping.signal.aborted) throw notReady();
    const reader = withResolvers();
    this.#readers.push(reader);
    this.wake();
    await reader.promise;
  }

  async close(): Promise<void> {
    this.#stopping.abort();
    this.#onWake();
    await this.#session?.end().catch(() => undefined);
    await this.#running;
  }

  async #run(): Promise<void> {
    const { log, metrics } = this.#options;
    let failures = 0;
    while (!this.#stopping.signal.aborted) {
      try {
        await this.#readUntilBroken(() => {
          if (failures > 0) log.say('feed_recovered', { failures });
          failures = 0;
        });
      } catch (error) {
        this.#ready = false;
        this.#rejectReaders();
        if (this.#stopping.signal.aborted) break;
        failures += 1;
        metrics.feedFailures.inc();
        log.say('feed_failed', { error: errorText(error), failures });
        await this.#backOff(failures);
      }
    }
    this.#ready = false;
    this.#rejectReaders();
  }

  async #readUntilBroken(onRead: () => void): Promise<void> {
    const session = await this.#connect();
    this.#session = session;
    let broken: Error | null = null;
    // Without a listener the process would die of it. The next query fails too, and says so.
    session.on('error', (error) => {
      broken = error;
      this.wake();
    });
    try {
      await this.#begin(session);
      this.#wakeRequested = true;
      while (!this.#stopping.signal.aborted) {
        await this.#untilWoken();
        if (this.#stopping.signal.aborted) return;
        if (broken) throw broken;
        this.#wakeRequested = false;
        await this.#poll(session);
        this.#ready = true;
        this.#firstRead.resolve();
        onRead();
      }
    } finally {
      this.#session = null;
      await session.end().catch(() => undefined);
    }
  }

  /** close() does not wait for a database that does not answer. */
  async #connect(): Promise<pg.Client> {
    const { signal } = this.#stopping;
    const connecting = this.#options.connect();
    let stop!: () => void;
    const stopped = new Promise<null>((resolve) => {
      stop = () => resolve(null);
      signal.addEventListener('abort', stop);
    });
    try {
      const session = await Promise.race([connecting, stopped]);
      if (session) return session;
    } finally {
      signal.removeEventListener('abort', stop);
    }
    connecting.then((late) => late.end()).catch(() => undefined);
    throw notReady();
  }

  /** The first connection begins at what is visible; later ones go on where the last ended, in the same epoch. */
  async #begin(session: pg.Client): Promise<void> {
    let start = await readStart(session);
    this.#retentionMs = start.retentionMs;
    if (start.epoch === this.#epoch && (await this.#isOtherHistory(session))) {
      // The database has gone back in time without becoming another one: a storage snapshot was restored, or a crash
      // undid what was committed asynchronously.
      await startNewEpoch(session, start.epoch);
      start = await readStart(session);
    }
    // After the start: whatever is written from there on comes by as an event.
    await this.#listener.beforeBatch?.(session, null);
    if (start.epoch === this.#epoch) return;
    const lost = this.#epoch !== null;
    this.#epoch = start.epoch;
    await this.#startOver(session, start.now, start.largest);
    if (lost) this.#lose('epoch');
  }

  /** Whether something that was handed on is not in the database: the last batch, and the largest transaction. */
  async #isOtherHistory(session: pg.Client): Promise<boolean> {
    const claimed = new Map(this.#lastBatch);
    const { xmax, witness } = this.#seen;
    if (witness !== undefined) claimed.set(xmax - 1n, witness);
    return (await findForeign(session, claimed)).size > 0;
  }

  async #startOver(session: pg.Client, now: Snapshot, largest: Largest | null): Promise<void> {
    this.#seen = largest === null ? NOTHING : cut(now, largest.xid, largest.witness);
    this.#lastBatch.clear();
    this.#lockedSlots.clear();
    this.#options.witnesses?.clear();
    const { recent, page, witnesses } = this.#options;
    this.#recent = new RecentEvents(this.#seen, recent);
    this.#recent = await warmUp(session, { now, seen: this.#seen, recent, page, witnesses });
  }

  #lose(reason: 'epoch' | 'retention'): void {
    this.#options.log.say('feed_lost', { reason });
    this.#listener.onLost(reason);
  }

  /** Reads what became visible and hands it on. */
  async #poll(session: pg.Client): Promise<void> {
    const { metrics } = this.#options;
    const readers = this.#readers;
    this.#readers = [];
    let page: Page;
    try {
      if (!(await this.#lockedSlots.takeBack(session))) await startNewEpoch(session, this.epoch);
      page = await this.#readAround(session);
      if (page.epoch !== this.#epoch) {
        // relay.new_epoch(), called beneath us.
        await this.#begin(session);
        page = { ...page, events: [] };
      } else if (isTooOld(this.#seen, page.emptied)) {
        const start = await readStart(session);
        await this.#listener.beforeBatch?.(session, null);
        await this.#startOver(session, start.now, start.largest);
        this.#lose('retention');
        page = { ...page, events: [] };
      } else if (page.more) {
        await this.#passOver(session, page.now);
      } else {
        await this.#listener.beforeBatch?.(session, page.events);
        this.#handOn(page.now, page.events);
      }
    } catch (error) {
      this.#readers.push(...readers);
      throw error;
    }
    metrics.eventsRead.inc(page.events.length);
    const transactions = new Set(page.events.map(({ xid }) => xid)).size;
    this.#options.onRead?.({ now: page.now, transactions });
    for (const reader of readers) reader.resolve();
  }

  /** What became visible, without the slots that are locked. */
  async #readAround(session: pg.Client): Promise<Page> {
    try {
      return await this.#readBatch(session);
    } catch (error) {
      if (!(await this.#lockedSlots.leaveOut(session, this.#seen, error))) throw error;
      return await this.#readBatch(session);
    }
  }

  async #readBatch(session: pg.Client): Promise<Page> {
    const { page: limits } = this.#options;
    const { leftOut } = this.#lockedSlots;
    // Where the last batch was small, this one probably is.
    const small = this.#small ? await readSmallBatch(session, this.#seen, limits, leftOut) : null;
    const page = small ?? (await readBatch(session, this.#seen, limits, leftOut));
    this.#small = !page.more && isSmallBatch(page.events);
    return page;
  }

  #handOn(now: Snapshot, events: readonly OutboxEvent[]): void {
    const seen = this.#seen;
    const bound = this.#boundOf(now, events);
    this.#remember(events);
    this.#seen = bound;
    this.#recent.add(events, bound);
    this.#listener.onBatch({ epoch: this.epoch, seen, bound, events });
  }

  /**
   * More than a page. It is not read here: accounts that have events in it read them at their own pace, and for all
   * others it is simply seen, so that a million events of one account hold nobody else up.
   */
  async #passOver(session: pg.Client, now: Snapshot): Promise<void> {
    const { log, metrics } = this.#options;
    const seen = this.#seen;
    const { leftOut } = this.#lockedSlots;
    const largest = await readLargest(session, now, leftOut);
    const bound = largest ? cut(now, largest.xid, largest.witness) : cut(now, seen.xmax - 1n, seen.witness);
    const asked = new Set(this.#listener.accounts());
    const touched = await findTouched(session, [...asked], seen, bound, leftOut);
    // Some of its events may be revocations.
    await this.#listener.beforeBatch?.(session, null);
    log.say('feed_backlog', { accounts: touched?.size ?? asked.size });
    metrics.backlogs.inc();
    this.#seen = bound;
    this.#lastBatch.clear();
    this.#recent.clear(bound);
    this.#listener.onBacklog({
      epoch: this.epoch,
      seen,
      bound,
      // Who came meanwhile was not looked for.
      touches: (account) => touched === null || touched.has(account) || !asked.has(account),
    });
  }

  /** What is seen after a batch. */
  #boundOf(now: Snapshot, events: readonly OutboxEvent[]): Snapshot {
    let largest = this.#seen.xmax - 1n;
    let { witness } = this.#seen;
    for (const event of events) {
      if (event.xid < largest) continue;
      largest = event.xid;
      witness = witnessOf(event);
    }
    return cut(now, largest, witness);
  }

  #remember(events: readonly OutboxEvent[]): void {
    if (events.length === 0) return;
    this.#lastBatch = new Map(events.slice(-MOST_REMEMBERED).map((event) => [event.xid, witnessOf(event)]));
    this.#options.witnesses?.note(events);
  }

  async #untilWoken(): Promise<void> {
    if (this.#wakeRequested || this.#readers.length > 0 || this.#stopping.signal.aborted) return;
    await new Promise<void>((resolve) => {
      this.#onWake = resolve;
    });
  }

  #rejectReaders(): void {
    for (const reader of this.#readers.splice(0)) reader.reject(notReady());
  }

  /** Half a second, doubling to ten, with jitter: many nodes come back to one database. */
  async #backOff(failures: number): Promise<void> {
    const delay = Math.min(10_000, 250 * 2 ** Math.min(failures, 6)) * (0.5 + Math.random() / 2);
    await sleep(delay, undefined, { signal: this.#stopping.signal }).catch(() => undefined);
  }
}

function notReady(): RecadoError {
  return new RecadoError('feed_not_ready', 'The database cannot be read at the moment; try again.');
}

interface PromiseWithResolvers {
  promise: Promise<void>;
  resolve: () => void;
  reject: (error: Error) => void;
}

function withResolvers(): PromiseWithResolvers {
  let resolve!: () => void;
  let reject!: (error: Error) => void;
  const promise = new Promise<void>((yes, no) => {
    resolve = yes;
    reject = no;
  });
  return { promise, resolve, reject };
}
