// The feed of an edge. It takes the entries that a hub has read, and reads the database itself only when the stream
// does not suffice: at the start, at a gap, for a client that is ahead, and while the stream or the hub is down.
//
// One loop advances the edge, a step at a time. stream/rule.ts decides what an entry means.
import type pg from 'pg';
import { errorText } from '../errors.ts';
import { type Feed, type FeedListener, notReady } from '../feed/feed.ts';
import { OutboxReader, type OutboxReaderOptions } from '../feed/outbox-reader.ts';
import { backOffMs } from '../feed/poll-loop.ts';
import type { RecentEvents } from '../feed/recent/recent-events.ts';
import { withResolvers } from '../feed/with-resolvers.ts';
import type { Session } from '../outbox/events.ts';
import type { Snapshot } from '../outbox/position.ts';
import { readServer } from '../outbox/start.ts';
import type { Entry } from '../stream/entry.ts';
import type { EntryReader } from '../stream/reader.ts';
import { judge, type Ruling } from '../stream/rule.ts';
import { EntryQueue } from './entry-queue.ts';
import { fewAtATime } from './few-at-a-time.ts';
import { Waiting } from './waiting.ts';

export interface EdgeFeedOptions extends OutboxReaderOptions {
  stream: EntryReader;
  /** Read-only sessions (createReaderPool). */
  pool: pg.Pool;
  /** Told of each read of the database. */
  onDatabaseRead: (reason: ReadReason) => void;
}

/** A hub appends at least every second. */
const SILENT_MS = 2_000;
/** Pause between two reads of the database while the stream is silent. */
const FALLBACK_MS = 250;
/** How long a client that is ahead waits for the hub before the database is read. */
const HUB_ANSWERS_MS = 250;
const REST_MS = 1_000;
/** How often a slot that is locked is looked at, so that it can be read again. */
const SEARCH_EVERY_MS = 1_000;
/** How often the database is asked, at most, whether an entry of another history is its own. */
const ASK_AGAIN_MS = 1_000;

/** Why an edge reads the database. */
export type ReadReason = 'start' | 'gap' | 'silence' | 'client' | 'foreign';

export class EdgeFeed implements Feed {
  readonly #options: EdgeFeedOptions;
  readonly #reader: OutboxReader;
  readonly #queue: EntryQueue;
  readonly #waiting = new Waiting();
  readonly #firstRead = withResolvers();
  #running: Promise<void> = Promise.resolve();
  #stopping = false;
  #onWake: () => void = () => {};
  /** From the database; null before the first read. */
  #server: string | null = null;
  #heardAt = 0;
  #streaming = true;
  #gap = false;
  /** Failed reads of the database since the last one that succeeded. */
  #failures = 0;
  /** Until then the database is read only for clients. */
  #readAgainAt = 0;
  #restAt = 0;
  #searchAt = 0;
  #refused = { history: '', until: 0 };

  constructor(options: EdgeFeedOptions) {
    this.#options = options;
    this.#reader = new OutboxReader(options);
    this.#queue = new EntryQueue({
      ...options,
      isOld: (entry) => this.#judge(entry).is === 'old',
      onEntries: () => this.#onWake(),
    });
  }

  /** Events come from the stream or, while that is silent, from the database. */
  get ready(): boolean {
    return this.#server !== null && !this.#gap && (this.#streaming || this.#failures === 0);
  }

  /** Whether events come from the stream. */
  get streaming(): boolean {
    return this.#server !== null && this.#streaming;
  }

  get firstRead(): Promise<void> {
    return this.#firstRead.promise;
  }

  get epoch(): string {
    return this.#reader.epoch;
  }

  get seen(): Snapshot {
    return this.#reader.seen;
  }

  get retentionMs(): number {
    return this.#reader.retentionMs;
  }

  get recent(): RecentEvents {
    return this.#reader.recent;
  }

  start(listener: FeedListener): void {
    this.#reader.listener = listener;
    this.#running = this.#run();
  }

  /** Asks the hub first, since the wanted entry is probably on its way; the database is read a moment later. */
  async read(wanted?: Snapshot): Promise<void> {
    if (this.#stopping) throw notReady();
    const awaited = wanted !== undefined && this.streaming;
    if (awaited) this.#options.stream.ask();
    const arrived = this.#waiting.add(wanted, awaited ? Date.now() + HUB_ANSWERS_MS : 0);
    this.#onWake();
    await arrived;
  }

  async close(): Promise<void> {
    this.#stopping = true;
    this.#onWake();
    await this.#queue.close();
    await this.#running;
    this.#waiting.reject();
  }

  async #run(): Promise<void> {
    // The stream first, then the database: an event that arrives in between is read twice, not missed.
    await this.#queue.start();
    while (!this.#stopping) {
      try {
        await this.#step();
        this.#waiting.onSeen(this.#reader.seen);
      } catch (error) {
        if (this.#stopping) return;
        this.#onFailed(error);
      }
    }
  }

  /** Does one thing. Entries come first, since they cost least. */
  async #step(): Promise<void> {
    const now = Date.now();
    if (this.#server === null) {
      if (now >= this.#readAgainAt) await this.#readDatabase('start');
      else await this.#untilWoken(this.#readAgainAt - now);
      return;
    }
    const entry = this.#queue.shift();
    if (entry) {
      await this.#take(entry);
      return;
    }
    if (this.#streaming && now >= this.#heardAt + SILENT_MS) {
      // After a freeze of this process, its timers come before what arrived meanwhile.
      await new Promise(setImmediate);
      if (this.#queue.length > 0) return;
      this.#streaming = false;
      this.#options.log.say('edge_fallback');
    }
    const isRefused = this.#failures > 0 && now < this.#readAgainAt;
    // A database that has just failed would delay the entries for every client that is ahead.
    if (this.#waiting.until <= now && isRefused) this.#waiting.reject();
    else if (this.#waiting.until <= now) await this.#readDatabase('client');
    else if (this.#gap && this.#readAgainAt <= now) await this.#readDatabase('gap');
    else if (!this.#streaming && this.#readAgainAt <= now) {
      this.#queue.findPlaceAgain();
      await this.#readDatabase('silence');
    } else if (this.#reader.skips && this.#searchAt <= now) {
      this.#searchAt = now + SEARCH_EVERY_MS * (0.5 + Math.random());
      await this.#reader.search(this.#options.pool);
    } else if (this.#restAt <= now) {
      this.#restAt = now + REST_MS;
      this.#reader.rest();
    } else await this.#untilWoken(this.#dueAt() - now);
  }

  #dueAt(): number {
    const silentAt = this.#streaming ? this.#heardAt + SILENT_MS : this.#readAgainAt;
    const gapAt = this.#gap ? this.#readAgainAt : Number.POSITIVE_INFINITY;
    const searchAt = this.#reader.skips ? this.#searchAt : Number.POSITIVE_INFINITY;
    return Math.min(this.#waiting.until, silentAt, gapAt, searchAt, this.#restAt);
  }

  async #untilWoken(ms: number): Promise<void> {
    if (this.#stopping || this.#queue.length > 0) return;
    let timer: NodeJS.Timeout | undefined;
    await new Promise<void>((resolve) => {
      this.#onWake = resolve;
      timer = setTimeout(resolve, ms);
    });
    clearTimeout(timer);
  }

  async #take(entry: Entry): Promise<void> {
    let ruling = this.#judge(entry);
    if (ruling.is === 'foreign' && this.#mayAsk(entry)) {
      await this.#readDatabase('foreign');
      ruling = this.#judge(entry);
      if (ruling.is === 'foreign')
        this.#refused = { history: historyOf(entry), until: Date.now() + ASK_AGAIN_MS };
    }
    if (ruling.is === 'gap') {
      this.#gap = true;
      if (this.#readAgainAt <= Date.now()) await this.#readDatabase('gap');
      ruling = this.#judge(entry);
    }
    if (ruling.is === 'next') await this.#reader.take(this.#options.pool, ruling);
    // An entry of another history does not prove that this history's hub is alive.
    if (ruling.is !== 'foreign') this.#onHeard();
  }

  #judge(entry: Entry): Ruling {
    if (this.#server === null) return { is: 'foreign' };
    return judge({ epoch: this.#reader.epoch, server: this.#server, seen: this.#reader.seen }, entry);
  }

  #mayAsk(entry: Entry): boolean {
    if (this.#failures > 0 && Date.now() < this.#readAgainAt) return false;
    return this.#refused.history !== historyOf(entry) || this.#refused.until <= Date.now();
  }

  #onHeard(): void {
    this.#heardAt = Date.now();
    if (this.#streaming) return;
    this.#streaming = true;
    this.#options.log.say('edge_streaming');
  }

  /** Continues by reading the table, as a node without a stream does. */
  async #readDatabase(reason: ReadReason): Promise<void> {
    const { pool, onDatabaseRead } = this.#options;
    onDatabaseRead(reason);
    await this.#waiting.during(async () => {
      const session = await pool.connect();
      let broken = true;
      try {
        await fewAtATime(session, () => this.#readOn(session, reason));
        broken = false;
      } finally {
        session.release(broken);
      }
    });
    this.#gap = false;
    this.#failures = 0;
    this.#readAgainAt = Date.now() + FALLBACK_MS * (0.5 + Math.random());
  }

  async #readOn(session: Session, reason: ReadReason): Promise<void> {
    // The address may lead to another server by now, and snapshots of two servers cannot be compared.
    const server = await readServer(session);
    if (server !== this.#server || reason === 'foreign') {
      await this.#reader.begin(session);
      if (this.#server === null) this.#heardAt = Date.now();
      this.#server = server;
      this.#firstRead.resolve();
    }
    await this.#reader.poll(session);
  }

  #onFailed(error: unknown): void {
    const { log, metrics } = this.#options;
    this.#failures += 1;
    this.#readAgainAt = Date.now() + backOffMs(this.#failures);
    metrics.feedFailures.inc();
    log.say('feed_failed', { error: errorText(error), failures: this.#failures });
  }
}

function historyOf({ epoch, server }: Entry): string {
  return `${epoch} ${server}`;
}
