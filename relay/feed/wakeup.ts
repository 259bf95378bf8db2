// When to read: the doorbell, the safety timer, and the pace while the gate is closed. The table is the parcel: a
// ring that is lost costs at most one safety interval.
import type pg from 'pg';
import { startDoorbell } from '../db/listen.ts';
import type { Log } from '../log.ts';
import type { Metrics } from '../metrics.ts';
import type { Snapshot } from '../outbox/position.ts';
import { Gate, type GateState } from './notify-gate.ts';

/** The channel on which commits notify. */
const CHANNEL = 'relay';

/** The gate is closed when so many commits ring in a slice: 400 a second. */
const SLICE_MS = 100;
const RINGS_TO_CLOSE = 40;
/** From so many on, we look whether commits wait for each other: on a slow disk the lock itself keeps the rate low. */
const RINGS_TO_LOOK = 3;
const WAITING_TO_CLOSE = 2;
/** Not more often: a look at pg_locks takes a millisecond, just when an event is to be read. */
const LOOK_EVERY_MS = 500;
/** It is opened again when so few transactions wrote events in each of two seconds. */
const TRANSACTIONS_TO_OPEN = 100;
const CALM_SECONDS_TO_OPEN = 2;
/**
 * Somebody's listener that does not read fills the queue of notifications, and a full queue makes every commit fail that
 * notifies. From this part of it on the gate is closed, and stays so until the queue is shorter.
 */
const QUEUE_TO_CLOSE = 0.25;
/** Safety reads in a row that found what nobody rang for, after which a frozen holder is looked for. */
const UNRUNG_TO_SUSPECT = 3;
/** How long a node paces itself after such a read. */
const PACE_UNRUNG_MS = 5_000;
/**
 * Between two paced reads we rest so many times as long as the last one took, or a millisecond for so many transactions
 * a second, whichever is longer, up to a limit: where reads are slow the machine is busy, the writers need it, and a
 * larger batch costs each event less.
 */
const REST_PER_READ = 3;
const RATE_PER_REST_MS = 400;
const LONGEST_PACE_MS = 20;

export interface WakeupOptions {
  /** A direct connection: LISTEN is deaf behind a transaction pooler. */
  databaseUrl: string;
  /** Opens the session that keeps the gate's locks. */
  connect: () => Promise<pg.Client>;
  /** For what the gate does beside it. */
  pool: pg.Pool;
  /** Whether this process may close the gate: a relay, not somebody who only looks on. */
  mayCloseGate: boolean;
  /** Called for every reason to read. Cheap, and never throws. */
  ring: () => void;
  /** Milliseconds between the reads that happen even if nothing rang. */
  safetyReadMs: number;
  /** Milliseconds between reads while commits do not ring. */
  paceMs: number;
  log: Log;
  metrics: Metrics;
}

export interface Read {
  /** Its snapshot, uncut. */
  now: Snapshot;
  /** How many transactions it found events of. */
  transactions: number;
}

export interface Wakeup {
  /** Whether the doorbell is heard; without it the safety reads go on. */
  readonly listening: boolean;
  readonly gate: GateState;
  /** Told of every read. */
  onRead(read: Read): void;
  close(): Promise<void>;
}

/** Begins to listen; a database that is not there yet is waited for. */
export function startWakeup(options: WakeupOptions): Wakeup {
  const { ring, log, metrics } = options;
  const doorbell = startDoorbell({
    databaseUrl: options.databaseUrl,
    name: 'recado wakeup',
    channel: CHANNEL,
    onRing() {
      metrics.wakeups.inc();
      pacer.onRing();
    },
    onListening: ring,
    onDeaf: () => metrics.listenFailures.inc(),
    log,
  });
  const gate = new Gate(options);
  const pacer = new Pacer(options, gate);
  const safety = setInterval(() => pacer.onSafetyTimer(), options.safetyReadMs);
  ring();

  return {
    get listening() {
      return doorbell.listening;
    },
    get gate() {
      return gate.state;
    },
    onRead(read) {
      // In this order: the read that ends the settling may have found what nobody rang for.
      pacer.onRead(read);
      gate.observe(read.now);
    },
    async close() {
      clearInterval(safety);
      pacer.end();
      await Promise.all([doorbell.close(), gate.end()]);
      log.say('wakeup_closed');
      metrics.gateClosed.set(0);
    },
  };
}

/** Decides when the gate closes and opens, and keeps the pace meanwhile. */
class Pacer {
  readonly #options: WakeupOptions;
  readonly #gate: Gate;
  #slice = { began: 0, rings: 0 };
  #lookedAt = 0;
  #second = { began: 0, transactions: 0, calm: 0 };
  /** A ring came since the last read that found something. */
  #rung = true;
  #bySafetyTimer = false;
  #unrung = 0;
  #paceUntil = 0;
  #queueIsFilling = false;
  #timer: NodeJS.Timeout | undefined;
  #pacedAt: number | null = null;
  /** Of the last read: when it ended, and how many transactions a second it found since the one before. */
  #last = { at: performance.now(), perSecond: 0 };
  #ended = false;

  constructor(options: WakeupOptions, gate: Gate) {
    this.#options = options;
    this.#gate = gate;
  }

  onRing(): void {
    this.#rung = true;
    this.#unrung = 0;
    // While the gate is ours, rings are our own and those of writers who were there before.
    if (this.#gate.state === 'closed') return;
    this.#options.ring();
    const now = Date.now();
    if (now - this.#slice.began > SLICE_MS) this.#slice = { began: now, rings: 0 };
    this.#slice.rings += 1;
    if (this.#slice.rings >= RINGS_TO_CLOSE) this.#closeGate();
    else if (this.#slice.rings >= RINGS_TO_LOOK && now - this.#lookedAt > LOOK_EVERY_MS) {
      this.#lookedAt = now;
      void this.#gate.countWaiting().then((waiting) => {
        if (waiting >= WAITING_TO_CLOSE) this.#closeGate();
      });
    }
  }

  onSafetyTimer(): void {
    this.#bySafetyTimer = true;
    this.#options.ring();
    if (this.#options.mayCloseGate) void this.#lookAtQueue();
  }

  async #lookAtQueue(): Promise<void> {
    const used = await this.#gate.queueUsage();
    const isFilling = used > QUEUE_TO_CLOSE;
    if (isFilling !== this.#queueIsFilling) this.#options.log.say('notify_queue', { used, isFilling });
    this.#queueIsFilling = isFilling;
    if (isFilling && this.#gate.state !== 'closed') this.#closeGate();
  }

  onRead({ transactions }: Read): void {
    const { state } = this.#gate;
    // Also while it settles: who saw the gate closed rings for nobody, and only its holder keeps the pace.
    if (state !== 'open' && transactions > 0 && !this.#queueIsFilling) void this.#gate.ringForOthers();
    if (state === 'closed') this.#openWhenCalm(transactions);
    else if (transactions > 0) {
      if (this.#bySafetyTimer && !this.#rung) this.#onUnrung();
      this.#rung = false;
    }
    this.#bySafetyTimer = false;
    const at = performance.now();
    this.#last = { at, perSecond: (transactions * 1_000) / Math.max(at - this.#last.at, 1) };
    this.#keepPace();
  }

  end(): void {
    this.#ended = true;
    clearTimeout(this.#timer);
  }

  #closeGate(): void {
    if (!this.#options.mayCloseGate) return;
    this.#slice.rings = 0;
    this.#second = { began: Date.now(), transactions: 0, calm: 0 };
    void this.#gate.close().then(() => this.#keepPace());
  }

  #openWhenCalm(transactions: number): void {
    const now = Date.now();
    this.#second.transactions += transactions;
    if (now - this.#second.began < 1_000) return;
    const calm = this.#second.transactions < TRANSACTIONS_TO_OPEN ? this.#second.calm + 1 : 0;
    this.#second = { began: now, transactions: 0, calm };
    if (calm >= CALM_SECONDS_TO_OPEN && !this.#queueIsFilling) void this.#gate.open();
  }

  /** Somebody mutes the bell, or the holder of the gate is frozen and rings for nobody. */
  #onUnrung(): void {
    this.#unrung += 1;
    this.#paceUntil = Date.now() + PACE_UNRUNG_MS;
    if (this.#unrung < UNRUNG_TO_SUSPECT) return;
    this.#unrung = 0;
    void this.#gate.endOtherHolder();
  }

  #keepPace(): void {
    clearTimeout(this.#timer);
    const took = this.#pacedAt === null ? 0 : performance.now() - this.#pacedAt;
    this.#pacedAt = null;
    const paced = this.#gate.state !== 'open' || Date.now() < this.#paceUntil;
    if (!paced || this.#ended) return;
    const rest = Math.max(took * REST_PER_READ, this.#last.perSecond / RATE_PER_REST_MS);
    this.#timer = setTimeout(
      () => {
        this.#pacedAt = performance.now();
        this.#options.ring();
      },
      Math.max(Math.min(rest, LONGEST_PACE_MS), this.#options.paceMs),
    );
  }
}
