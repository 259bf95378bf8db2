// The notify gate: whether commits notify.
//
// Postgres holds one lock for the whole cluster from NOTIFY to the end of the commit, fsync included, so commits
// that notify are serial. A writer therefore notifies only if it gets the gate's advisory lock shared, without waiting
// (relay.ringing_xid(), sql/relay/01_events.sql). A relay closes the gate by requesting that lock exclusively, and
// reads every few milliseconds instead:
//
//   open ──close()──> closed ──open()──> open
//
// - The request is enough. While it waits (a writer that notified may keep its transaction open for an hour), Postgres
//   already refuses the lock to new writers. So the gate is closed once the request is sent, and may be opened by
//   cancelling the request.
// - One node holds the gate: the one that has the holder's lock. While it finds events, it tells the others once a second
//   to read at a pace too. A notification for each batch would cost a commit each time.
// - Reopening. A writer that saw the gate closed may commit after it was opened, without a notification. So the holder
//   keeps its pace for SILENT_AFTER_MS, and tells the other nodes as before. The safety read finds the events of writers
//   that take longer.
// - Correctness does not depend on the gate: a missing notification costs one safety interval.
import type pg from 'pg';
import { errorText } from '../errors.ts';
import type { Log } from '../log.ts';
import type { Metrics } from '../metrics.ts';

export type GateState = 'open' | 'closed';
/** Steps that may fail: switch the gate, notify the other nodes, look at queue and locks, end a frozen holder. */
type GateStep = 'switch' | 'notify' | 'look' | 'end holder';

export interface GateOptions {
  /** Opens the session that holds the locks. */
  connect: () => Promise<pg.Client>;
  /** For what that session cannot do while it waits for the lock. */
  pool: pg.Pool;
  log: Log;
  metrics: Metrics;
}

/** For how long after the gate opens, commits of writers that saw it closed are still expected. */
const SILENT_AFTER_MS = 5_000;

/** The payload with which the holder tells the other nodes to read at a pace. Commits notify without one. */
export const PACE = 'pace';

/** How long a node reads at a pace after that. The holder repeats it in half the time. */
export const PACE_TOLD_MS = 2_000;

/** While another node holds the gate, it notifies this one. This one tries to get the gate at most this often. */
const ASK_AGAIN_MS = 1_000;

// The request may wait for long, so no timeout may end it. With the keepalives Postgres soon notices that a relay is
// gone: its session would keep the gate closed.
const SESSION_SETTINGS = `
  set lock_timeout = 0; set statement_timeout = 0; set idle_in_transaction_session_timeout = 0;
  set tcp_keepalives_idle = 5; set tcp_keepalives_interval = 2; set tcp_keepalives_count = 3`;

/** The request for the exclusive lock. It has ended when it was granted or refused. */
interface Request {
  /** The backend to cancel. */
  readonly pid: number;
  ended: boolean;
  readonly end: Promise<void>;
}

function startRequest(session: pg.Client, pid: number): Request {
  const done = () => {
    request.ended = true;
  };
  // Refused: open() cancelled it, or the session is gone, which the session's 'end' reports.
  const end = session.query('select pg_advisory_lock(relay.gate_key())').then(done, done);
  const request: Request = { pid, ended: false, end };
  return request;
}

export class Gate {
  readonly #options: GateOptions;
  #state: GateState = 'open';
  #session: pg.Client | null = null;
  #request: Request | null = null;
  #silentUntil = 0;
  #busy = false;
  #tellAgainAt = 0;
  #heldElsewhereUntil = 0;
  #queueUsed = 0;
  #ended = false;
  readonly #failing = new Set<GateStep>();

  constructor(options: GateOptions) {
    this.#options = options;
  }

  get state(): GateState {
    return this.#state;
  }

  /** Whether commits without a notification are expected: their writers see the gate closed, or saw it closed. */
  get silences(): boolean {
    return this.#state === 'closed' || performance.now() < this.#silentUntil;
  }

  /**
   * Keeps writers from notifying, unless another node does so already.
   * @returns whether this node holds the gate now
   */
  async close(): Promise<boolean> {
    if (this.#busy || this.#ended || performance.now() < this.#heldElsewhereUntil) return false;
    if (this.#state === 'closed') return true;
    this.#busy = true;
    const isHolder = await this.#attempt('switch', false, () => this.#requestLock());
    if (!isHolder) await this.#release().catch(() => undefined);
    this.#busy = false;
    return isHolder;
  }

  /** Lets writers notify again. */
  async open(): Promise<void> {
    if (this.#busy || this.#state !== 'closed') return;
    this.#busy = true;
    await this.#attempt('switch', undefined, () => this.#release());
    this.#becomeOpen();
    this.#busy = false;
  }

  /** Has the other nodes read at a pace, since no writer notifies them now. Cheap to call after every batch. */
  async tellOthers(): Promise<void> {
    const now = performance.now();
    if (now < this.#tellAgainAt) return;
    this.#tellAgainAt = now + PACE_TOLD_MS / 2;
    const told = await this.#attempt('notify', false, async () => {
      // This commit holds NOTIFY's lock only for a moment: it writes nothing to disk.
      await this.#options.pool.query("select pg_notify('relay', $1)", [PACE]);
      return true;
    });
    if (!told) this.#tellAgainAt = 0;
  }

  /**
   * How full the notification queue is, 0 to 1. When it is full, every commit that notifies fails. A look that fails
   * answers what the last one found.
   */
  queueUsage(): Promise<number> {
    return this.#attempt('look', this.#queueUsed, async () => {
      const { rows } = await this.#options.pool.query<{ used: number }>(
        'select pg_notification_queue_usage() as used',
      );
      this.#queueUsed = rows[0]!.used;
      return this.#queueUsed;
    });
  }

  /** How many commits wait for NOTIFY's lock at this moment. */
  countWaiting(): Promise<number> {
    return this.#attempt('look', 0, async () => {
      // NOTIFY locks "database 0" (async.c).
      const { rows } = await this.#options.pool.query<{ waiting: number }>(
        `select count(*)::int as waiting from pg_locks
          where not granted and locktype = 'object' and database = 0
            and classid = 'pg_database'::regclass and objid = 0`,
      );
      return rows[0]!.waiting;
    });
  }

  /** Ends another node's session that holds the gate and does not notify: a role may terminate its own sessions. */
  async endOtherHolder(): Promise<void> {
    if (this.#state === 'closed') return;
    await this.#attempt('end holder', undefined, async () => {
      const { rows } = await this.#options.pool.query<{ pid: number }>(
        `select l.pid, pg_terminate_backend(l.pid)
           from pg_locks as l
          where l.locktype = 'advisory' and l.mode = 'ExclusiveLock' and l.objsubid = 1
            and l.database = (select oid from pg_database where datname = current_database())
            and (l.classid::bigint << 32) + l.objid::bigint = relay.gate_key() + 1`,
      );
      if (rows.length > 0) this.#options.log.say('gate_holder_ended', { pid: rows[0]!.pid });
    });
  }

  async end(): Promise<void> {
    this.#ended = true;
    await this.#release().catch(() => undefined);
  }

  /** Some steps run every second: a failure is logged once, and logged again when the step works. */
  async #attempt<T>(step: GateStep, otherwise: T, act: () => Promise<T>): Promise<T> {
    const { log } = this.#options;
    try {
      const result = await act();
      if (this.#failing.delete(step)) log.say('gate_recovered', { step });
      return result;
    } catch (error) {
      if (!this.#failing.has(step)) log.say('gate_failed', { step, error: errorText(error) });
      this.#failing.add(step);
      return otherwise;
    }
  }

  /** @returns false if another node holds the gate */
  async #requestLock(): Promise<boolean> {
    const session = await this.#open();
    const { rows } = await session.query<{ pid: number; mine: boolean }>(
      'select pg_backend_pid() as pid, pg_try_advisory_lock(relay.gate_key() + 1) as mine',
    );
    const { pid, mine } = rows[0]!;
    if (mine) {
      this.#request = startRequest(session, pid);
      this.#become('closed');
    } else this.#heldElsewhereUntil = performance.now() + ASK_AGAIN_MS;
    return mine;
  }

  #becomeOpen(): void {
    if (this.#state === 'closed') this.#silentUntil = performance.now() + SILENT_AFTER_MS;
    this.#become('open');
  }

  #become(state: GateState): void {
    if (this.#state === state) return;
    this.#state = state;
    this.#options.metrics.gateClosed.set(state === 'closed' ? 1 : 0);
    this.#options.log.say('gate_changed', { state });
  }

  async #open(): Promise<pg.Client> {
    const session = await this.#options.connect();
    if (this.#ended) {
      // Nothing else would end this session.
      await session.end();
      throw new Error('the gate ended meanwhile');
    }
    this.#session = session;
    session.on('error', () => undefined);
    session.on('end', () => this.#lost(session));
    await session.query(SESSION_SETTINGS);
    return session;
  }

  /** Another node took this one for frozen, or the database ended the session. The lock is gone: the gate is open. */
  #lost(session: pg.Client): void {
    if (this.#session !== session) return;
    this.#session = null;
    this.#request = null;
    if (this.#state !== 'closed' || this.#ended) return;
    this.#options.log.say('gate_lost');
    this.#becomeOpen();
  }

  /** Resolves when the locks are released. Ending the session alone would release them at some later moment. */
  async #release(): Promise<void> {
    const session = this.#session;
    const request = this.#request;
    this.#session = null;
    this.#request = null;
    if (!session) return;
    try {
      if (request && !request.ended) {
        await this.#options.pool.query('select pg_cancel_backend($1::int)', [request.pid]);
        await request.end;
      }
      // A cancel that came too late for the request cancels this query instead.
      const unlock = () => session.query('select pg_advisory_unlock_all()');
      await unlock().catch(unlock);
    } finally {
      await session.end().catch(() => undefined);
    }
  }
}
