// When to read: the LISTEN connection, the safety timer, and the pace while the gate is closed. NOTIFY is a
// doorbell, the table is the parcel: a ring that is lost costs at most one safety interval, and nothing is ever read
// from a notification.

import type pg from 'pg';
import pgListen from 'pg-listen';
import { describe } from './errors.ts';
import { Gate, type GateState } from './gate.ts';
import type { Log } from './log.ts';
import type { Metrics } from './metrics.ts';
import type { Snapshot } from './position.ts';

/** The channel on which relay.ring() notifies. */
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
/** Safety reads in a row that found what nobody rang for, after which a frozen holder is looked for. */
const UNRUNG_TO_SUSPECT = 3;
/** How long a node paces itself after such a read. */
const PACE_UNRUNG_MS = 5_000;
/**
 * Between two paced reads we rest so many times as long as the last one took, up to a limit: where reads are slow the
 * machine is busy, the writers need it, and a larger batch costs each event less.
 */
const REST_PER_READ = 3;
const LONGEST_PACE_MS = 15;
/** When LISTEN failed though the connection is there. */
const LISTEN_AGAIN_MS = 1_000;

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
  const doorbell = startDoorbell(options, () => pacer.onRing());
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
  #timer: NodeJS.Timeout | undefined;
  #pacedAt: number | null = null;
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
  }

  onRead({ transactions }: Read): void {
    const { state } = this.#gate;
    // Also while it settles: who saw the gate closed rings for nobody, and only its holder keeps the pace.
    if (state !== 'open' && transactions > 0) void this.#gate.ringForOthers();
    if (state === 'closed') this.#openWhenCalm(transactions);
    else if (transactions > 0) {
      if (this.#bySafetyTimer && !this.#rung) this.#onUnrung();
      this.#rung = false;
    }
    this.#bySafetyTimer = false;
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
    if (calm >= CALM_SECONDS_TO_OPEN) void this.#gate.open();
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
    const rest = Math.min(took * REST_PER_READ, LONGEST_PACE_MS);
    this.#timer = setTimeout(
      () => {
        this.#pacedAt = performance.now();
        this.#options.ring();
      },
      Math.max(rest, this.#options.paceMs),
    );
  }
}

interface Doorbell {
  readonly listening: boolean;
  close(): Promise<void>;
}

function startDoorbell({ databaseUrl, ring, log, metrics }: WakeupOptions, onRing: () => void): Doorbell {
  let listening = false;
  let closed = false;
  let retry: NodeJS.Timeout | undefined;

  const subscriber = pgListen.default<Record<string, string>>(
    {
      connectionString: databaseUrl,
      application_name: 'recado wakeup',
      keepAlive: true,
      keepAliveInitialDelayMillis: 5_000,
      connectionTimeoutMillis: 5_000,
      // Without a timeout the check below never ends on a half-open connection.
      query_timeout: 1_000,
    },
    {
      // Together with query_timeout this notices a peer that has vanished in under three seconds; TCP keep-alive
      // alone did not in eighteen.
      paranoidChecking: 2_000,
      // 0 is for ever. The default gives up after three seconds and stays deaf.
      retryTimeout: 0,
      retryInterval: (attempt) => {
        // The only way out of its loop: closed while the database is away, it would knock for ever.
        if (closed) throw new Error('closed while reconnecting');
        return Math.min(5_000, 100 * 2 ** Math.min(attempt, 6)) * (0.5 + Math.random() / 2);
      },
      parse: (text: string) => text,
    },
  );
  // Handlers only set flags: a throw in here would make pg parse the same message for ever.
  subscriber.notifications.on(CHANNEL, () => {
    metrics.wakeups.inc();
    onRing();
  });
  const end = () => void subscriber.close().catch(() => undefined);
  const heard = () => {
    clearTimeout(retry);
    listening = true;
    log.say('wakeup_listening');
    ring();
  };
  const failed = (error: unknown) => {
    if (!closed) log.say('wakeup_failed', { error: describe(error) });
  };
  // Asked of the library before it is connected, LISTEN waits in a queue, is given up there after query_timeout, and
  // nothing listens though all looks well. It repeats LISTEN only when it connects again, so the first one is ours,
  // and so is any that fails on a good connection.
  const listen = () => {
    clearTimeout(retry);
    if (closed || listening) return;
    // Forgotten first, or the library does not ask a second time.
    subscriber.unlisten(CHANNEL)?.catch(() => undefined);
    subscriber.listenTo(CHANNEL)?.then(heard, listenLater);
  };
  const listenLater = (error: unknown) => {
    failed(error);
    clearTimeout(retry);
    if (!closed) retry = setTimeout(listen, LISTEN_AGAIN_MS);
  };
  subscriber.events.on('connected', () => {
    // close() during a reconnect leaves it running; it ends here.
    if (closed) end();
    else if (subscriber.getSubscribedChannels().includes(CHANNEL)) heard();
    else listen();
  });
  subscriber.events.on('reconnect', (attempt) => {
    if (listening) metrics.listenFailures.inc();
    listening = false;
    if (!closed && (attempt === 1 || attempt % 20 === 0)) log.say('wakeup_reconnecting', { attempt });
  });
  subscriber.events.on('error', (error) => {
    if (closed) end();
    else listenLater(error);
  });
  // If the first attempt fails the library goes on by itself.
  subscriber.connect().catch(failed);

  return {
    get listening() {
      return listening;
    },
    async close() {
      closed = true;
      clearTimeout(retry);
      await subscriber.close().catch(() => undefined);
    },
  };
}
