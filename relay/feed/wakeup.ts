// When to read: on a notification, on the safety timer, and every few milliseconds (at a pace) while the gate is
// closed. The table holds the events, so a lost notification costs at most one safety interval.
import type pg from 'pg';
import { startListener } from '../db/listen.ts';
import type { Log } from '../log.ts';
import type { Metrics } from '../metrics.ts';
import { Gate, type GateState, PACE, PACE_TOLD_MS } from './notify-gate.ts';

/** The channel on which commits notify. */
const CHANNEL = 'relay';

/** The gate closes when this many commits notify in a slice: 1,000 a second. On a fast disk, fewer cost nothing. */
const SLICE_MS = 100;
const NOTIFICATIONS_TO_CLOSE = 100;
/**
 * On a slow disk, commits that notify wait for each other at a much lower rate. From this many notifications in a slice
 * on, a sample counts how many commits wait for NOTIFY's lock. The gate closes when WAITING_TO_CLOSE wait on average:
 * one in every fifth sample, or two in one.
 */
const NOTIFICATIONS_TO_LOOK = 3;
const LOOK_EVERY_MS = 100;
const WAITING_TO_CLOSE = 0.2;
/** The weight of a sample in the average, and when earlier samples no longer count. */
const LOOK_WEIGHT = 1 / 8;
const FORGET_LOOKS_AFTER_MS = 1_000;
/**
 * The gate opens after two seconds with fewer transactions than this part of the rate at which it closed, which is low
 * on a slow disk.
 */
const PART_TO_OPEN = 1 / 4;
const CALM_SECONDS_TO_OPEN = 2;
/** Bounds of the rate to open, in transactions a second. */
const OPEN_BELOW = { least: 10, most: 250 };
/**
 * A listener that does not read, of any program, fills the notification queue. Once it is full, every commit that
 * notifies fails. Above this share the gate closes, and stays closed until the queue is shorter.
 */
const QUEUE_TO_CLOSE = 0.25;
/** After this many safety reads in a row that found events without a notification, a frozen holder is suspected. */
const UNNOTIFIED_TO_SUSPECT = 3;
/** How long a node reads at a pace after such a read. */
const PACE_UNNOTIFIED_MS = 5_000;
/** A paced read waits as long as the last one took, up to this: slow reads mean a busy machine. */
const LONGEST_REST_MS = 5;

export interface WakeupOptions {
  /** A direct connection: behind a transaction pooler no notification arrives. */
  databaseUrl: string;
  /** Opens the session that holds the gate's locks. */
  connect: () => Promise<pg.Client>;
  /** For the gate's other queries. */
  pool: pg.Pool;
  /** Whether this process may close the gate: a relay may, `recado tail` may not. */
  mayCloseGate: boolean;
  /** Called for every reason to read. Cheap, and never throws. */
  wake: () => void;
  /** Milliseconds between the reads that need no notification. */
  safetyReadMs: number;
  /** Milliseconds between reads while commits do not notify. */
  paceMs: number;
  log: Log;
  metrics: Metrics;
}

export interface Read {
  /** How many transactions it found events of. */
  transactions: number;
}

export interface Wakeup {
  /** Whether LISTEN is in effect. Without it, the safety reads go on. */
  readonly listening: boolean;
  readonly gate: GateState;
  /** Told of every read. */
  onRead(read: Read): void;
  close(): Promise<void>;
}

/** Listening begins when the database answers. */
export function startWakeup(options: WakeupOptions): Wakeup {
  const { wake, log, metrics } = options;
  const listener = startListener({
    databaseUrl: options.databaseUrl,
    name: 'recado wakeup',
    channel: CHANNEL,
    onNotify(payload) {
      metrics.wakeups.inc();
      pacer.onNotify(payload);
    },
    onListening: () => pacer.onListening(),
    onDisconnected: () => metrics.listenFailures.inc(),
    log,
  });
  const gate = new Gate(options);
  const pacer = new Pacer(options, gate);
  const safety = setInterval(() => pacer.onSafetyTimer(), options.safetyReadMs);
  wake();

  return {
    get listening() {
      return listener.listening;
    },
    get gate() {
      return gate.state;
    },
    onRead: (read) => pacer.onRead(read),
    async close() {
      clearInterval(safety);
      pacer.end();
      await Promise.all([listener.close(), gate.end()]);
      log.say('wakeup_closed');
      metrics.gateClosed.set(0);
    },
  };
}

/** Decides when the gate closes and opens, and keeps the pace meanwhile. */
class Pacer {
  readonly #options: WakeupOptions;
  readonly #gate: Gate;
  #slice = { began: 0, notifications: 0 };
  #looks = { at: 0, waiting: 0 };
  #openBelow = OPEN_BELOW.most;
  #second = { began: 0, transactions: 0, calm: 0 };
  /** Whether a notification came since the last read that found something. */
  #notified = true;
  #bySafetyTimer = false;
  #unnotified = 0;
  #paceUntil = 0;
  /** The holder of the gate told this node to keep a pace until then. */
  #toldUntil = 0;
  #queueIsFilling = false;
  #timer: NodeJS.Timeout | undefined;
  #pacedAt: number | null = null;
  #ended = false;

  constructor(options: WakeupOptions, gate: Gate) {
    this.#options = options;
    this.#gate = gate;
  }

  /** Notifications were missed, and the gate's holder may not repeat soon that it is closed. */
  onListening(): void {
    this.#toldUntil = performance.now() + PACE_TOLD_MS;
    this.#options.wake();
  }

  onNotify(payload: string): void {
    this.#notified = true;
    this.#unnotified = 0;
    // This node holds the gate: notifications are its own, or of writers that began before the gate closed.
    if (this.#gate.state === 'closed') return;
    const now = performance.now();
    if (payload === PACE) this.#toldUntil = now + PACE_TOLD_MS;
    this.#options.wake();
    if (now - this.#slice.began > SLICE_MS) this.#slice = { began: now, notifications: 0 };
    this.#slice.notifications += 1;
    if (this.#slice.notifications >= NOTIFICATIONS_TO_CLOSE) this.#closeUnderLoad();
  }

  onSafetyTimer(): void {
    this.#bySafetyTimer = true;
    this.#options.wake();
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
    const { state, silences } = this.#gate;
    if (silences && transactions > 0 && !this.#queueIsFilling) void this.#gate.tellOthers();
    if (state === 'closed') this.#openWhenCalm(transactions);
    else if (transactions > 0) {
      const isTold = this.#notified || performance.now() < this.#toldUntil;
      if (this.#bySafetyTimer && !isTold) this.#onUnnotified();
      this.#notified = false;
      // After the read and not at the notification: the event comes first.
      if (this.#slice.notifications >= NOTIFICATIONS_TO_LOOK) void this.#lookAtWaiting();
    }
    this.#bySafetyTimer = false;
    this.#keepPace();
  }

  end(): void {
    this.#ended = true;
    clearTimeout(this.#timer);
  }

  async #lookAtWaiting(): Promise<void> {
    const now = performance.now();
    const since = now - this.#looks.at;
    if (!this.#options.mayCloseGate || since < LOOK_EVERY_MS) return;
    if (since > FORGET_LOOKS_AFTER_MS) this.#looks.waiting = 0;
    this.#looks.at = now;
    const waiting = await this.#gate.countWaiting();
    this.#looks.waiting += (waiting - this.#looks.waiting) * LOOK_WEIGHT;
    if (this.#looks.waiting >= WAITING_TO_CLOSE) this.#closeUnderLoad();
  }

  #closeUnderLoad(): void {
    const { began, notifications } = this.#slice;
    const perSecond = (notifications * 1_000) / Math.max(performance.now() - began, LOOK_EVERY_MS);
    this.#closeGate(Math.min(Math.max(perSecond * PART_TO_OPEN, OPEN_BELOW.least), OPEN_BELOW.most));
  }

  /** @param openBelow transactions a second */
  #closeGate(openBelow = OPEN_BELOW.most): void {
    if (!this.#options.mayCloseGate) return;
    this.#openBelow = openBelow;
    this.#looks.waiting = 0;
    this.#slice.notifications = 0;
    this.#second = { began: performance.now(), transactions: 0, calm: 0 };
    void this.#gate.close().then(() => this.#keepPace());
  }

  #openWhenCalm(transactions: number): void {
    const now = performance.now();
    this.#second.transactions += transactions;
    if (now - this.#second.began < 1_000) return;
    const calm = this.#second.transactions < this.#openBelow ? this.#second.calm + 1 : 0;
    this.#second = { began: now, transactions: 0, calm };
    if (calm >= CALM_SECONDS_TO_OPEN && !this.#queueIsFilling) void this.#gate.open();
  }

  /** A writer has `relay.ring = off`, or the holder of the gate is frozen and does not notify. */
  #onUnnotified(): void {
    this.#unnotified += 1;
    this.#paceUntil = performance.now() + PACE_UNNOTIFIED_MS;
    if (this.#unnotified < UNNOTIFIED_TO_SUSPECT) return;
    this.#unnotified = 0;
    // While the queue fills up, the holder does not notify.
    if (this.#queueIsFilling) return;
    void this.#gate.endOtherHolder();
  }

  #keepPace(): void {
    clearTimeout(this.#timer);
    const took = this.#pacedAt === null ? 0 : performance.now() - this.#pacedAt;
    this.#pacedAt = null;
    const paced = this.#gate.silences || performance.now() < Math.max(this.#paceUntil, this.#toldUntil);
    if (!paced || this.#ended) return;
    this.#timer = setTimeout(
      () => {
        this.#pacedAt = performance.now();
        this.#options.wake();
      },
      Math.max(Math.min(took, LONGEST_REST_MS), this.#options.paceMs),
    );
  }
}
