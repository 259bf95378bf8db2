// Fair queues serve accounts in turn, however many connections each has. Replays cost queries and CPU time, and one
// account may need a lot of both.
import { RecadoError } from '../../errors.ts';

interface Query {
  readonly isWanted: () => boolean;
  readonly begin: () => Promise<void>;
  readonly abandon: () => void;
}

/** For queries: a few run at a time, at most one per account. */
export class FairQueryQueue {
  readonly #atOnce: number;
  readonly #waiting = new Map<string, Query[]>();
  readonly #running = new Set<string>();

  /** @param atOnce how many queries may run at a time, over all accounts */
  constructor(atOnce: number) {
    this.#atOnce = atOnce;
  }

  /**
   * Runs a query when its account's turn comes.
   * @param isWanted checked just before the query starts; a query nobody wants any more is dropped
   * @throws RecadoError `nobody_waits`, and what the query throws
   */
  run<T>(account: string, isWanted: () => boolean, query: () => Promise<T>): Promise<T> {
    return new Promise<T>((resolve, reject) => {
      const waiting = this.#waiting.get(account) ?? [];
      waiting.push({
        isWanted,
        begin: () => query().then(resolve, reject),
        abandon: () => reject(new RecadoError('nobody_waits', 'The client went away before its turn.')),
      });
      this.#waiting.set(account, waiting);
      this.#next();
    });
  }

  #next(): void {
    for (const [account, waiting] of this.#waiting) {
      if (this.#running.size >= this.#atOnce) return;
      if (this.#running.has(account)) continue;
      let query = waiting.shift();
      while (query && !query.isWanted()) {
        query.abandon();
        query = waiting.shift();
      }
      // An account with more queries goes to the back of the queue.
      this.#waiting.delete(account);
      if (waiting.length > 0) this.#waiting.set(account, waiting);
      if (!query) continue;
      this.#running.add(account);
      void query.begin().finally(() => {
        this.#running.delete(account);
        this.#next();
      });
    }
  }
}

/** The longest that one slice blocks the event loop. */
const SLICE_MS = 4;

/** For synchronous work: it runs in short slices, and the event loop is free between them. */
export class FairWorkQueue {
  readonly #waiting = new Map<string, (() => void)[]>();
  #scheduled = false;

  /** Runs a short piece of work when its account's turn comes. */
  run<T>(account: string, work: () => T): Promise<T> {
    return new Promise<T>((resolve, reject) => {
      const waiting = this.#waiting.get(account) ?? [];
      waiting.push(() => {
        try {
          resolve(work());
        } catch (error) {
          reject(error);
        }
      });
      this.#waiting.set(account, waiting);
      if (this.#scheduled) return;
      this.#scheduled = true;
      setImmediate(this.#slice);
    });
  }

  readonly #slice = (): void => {
    const until = performance.now() + SLICE_MS;
    for (const [account, waiting] of this.#waiting) {
      const work = waiting.shift();
      this.#waiting.delete(account);
      if (waiting.length > 0) this.#waiting.set(account, waiting);
      work?.();
      if (performance.now() >= until) break;
    }
    this.#scheduled = this.#waiting.size > 0;
    if (this.#scheduled) setImmediate(this.#slice);
  };
}
