// Polls on one session, when it is woken or read() is called. A session that fails is replaced.
import { setTimeout as sleep } from 'node:timers/promises';
import type pg from 'pg';
import { errorText } from '../errors.ts';
import type { Log } from '../log.ts';
import type { Metrics } from '../metrics.ts';
import { notReady } from './feed.ts';
import { type PromiseWithResolvers, withResolvers } from './with-resolvers.ts';

export interface PollLoopOptions {
  /** Opens a session for reading (openReader). */
  connect: () => Promise<pg.Client>;
  /** Called with each new session, before it polls. */
  begin(session: pg.Client): Promise<void>;
  poll(session: pg.Client): Promise<void>;
  log: Log;
  metrics: Metrics;
}

export class PollLoop {
  readonly #options: PollLoopOptions;
  readonly #stopping = new AbortController();
  readonly #firstPoll = withResolvers();
  #running: Promise<void> = Promise.resolve();
  #session: pg.Client | null = null;
  #ready = false;
  #failures = 0;
  #wakeRequested = true;
  #onWake: () => void = () => {};
  #readers: PromiseWithResolvers[] = [];

  constructor(options: PollLoopOptions) {
    this.#options = options;
  }

  /** Whether the last poll succeeded. */
  get ready(): boolean {
    return this.#ready;
  }

  /** Resolves with the first successful poll. */
  get firstPoll(): Promise<void> {
    return this.#firstPoll.promise;
  }

  start(): void {
    this.#running = this.#run();
  }

  /** Polls soon. All calls before the poll begins count as one. */
  wake(): void {
    this.#wakeRequested = true;
    this.#onWake();
  }

  /**
   * Resolves after a poll that began after the call.
   * @throws RecadoError `feed_not_ready` if that poll failed
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
    while (!this.#stopping.signal.aborted) {
      try {
        await this.#pollUntilBroken();
      } catch (error) {
        this.#onFailed();
        if (this.#stopping.signal.aborted) break;
        this.#failures += 1;
        metrics.feedFailures.inc();
        log.say('feed_failed', { error: errorText(error), failures: this.#failures });
        await this.#backOff();
      }
    }
    this.#onFailed();
  }

  async #pollUntilBroken(): Promise<void> {
    const session = await this.#connect();
    this.#session = session;
    let broken: Error | null = null;
    // Without a listener for it, an error would end the process.
    session.on('error', (error) => {
      broken = error;
      this.wake();
    });
    try {
      await this.#options.begin(session);
      this.#wakeRequested = true;
      while (!this.#stopping.signal.aborted) {
        await this.#untilWoken();
        if (this.#stopping.signal.aborted) return;
        if (broken) throw broken;
        await this.#poll(session);
      }
    } finally {
      this.#session = null;
      await session.end().catch(() => undefined);
    }
  }

  async #poll(session: pg.Client): Promise<void> {
    this.#wakeRequested = false;
    // A read() during this poll waits for the next one.
    const readers = this.#readers;
    this.#readers = [];
    try {
      await this.#options.poll(session);
    } catch (error) {
      this.#readers.push(...readers);
      throw error;
    }
    this.#ready = true;
    this.#firstPoll.resolve();
    if (this.#failures > 0) this.#options.log.say('feed_recovered', { failures: this.#failures });
    this.#failures = 0;
    for (const reader of readers) reader.resolve();
  }

  async #untilWoken(): Promise<void> {
    if (this.#wakeRequested || this.#readers.length > 0 || this.#stopping.signal.aborted) return;
    await new Promise<void>((resolve) => {
      this.#onWake = resolve;
    });
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

  #onFailed(): void {
    this.#ready = false;
    for (const reader of this.#readers.splice(0)) reader.reject(notReady());
  }

  async #backOff(): Promise<void> {
    const { signal } = this.#stopping;
    await sleep(backOffMs(this.#failures), undefined, { signal }).catch(() => undefined);
  }
}

/** At most half a second, doubling up to ten seconds; with jitter, since many nodes reconnect to one database. */
export function backOffMs(failures: number): number {
  return Math.min(10_000, 250 * 2 ** Math.min(failures, 6)) * (0.5 + Math.random() / 2);
}
