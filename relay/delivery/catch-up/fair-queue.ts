// Fair queues: accounts are served in turn, however many connections each has. A replay costs queries and processor
// time, and one account may ask for much of both.
import { RecadoError } from '../../errors.ts';

interface Query {
  readonly isWanted: () => boolean;
  readonly begin: () => Promise<void>;
  readonly abandon: () => void;
}

/** For queries: a few run at a time, at most one of each account. */
export class FairQueryQueue {
  readonly #atOnce: number;
  readonly #waiting = new Map<string, Query[]>();
  readonly #running = new Set<string>();

  /** @param atOnce queries that may run at a time, of all accounts together */
  constructor(atOnce: number) {
    this.#atOnce = atOnce;
  }

  /**
   * Runs a query when it is its account's turn.
   * @param isWanted asked at that moment: the query of a client that is gone is dropped
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
      // An account with more queries goes to the end of the line.
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

/** How long the event loop is held at a time. */
const SLICE_MS = 4;

/** For synchronous work: it runs in slices, and the event loop handles everything else between two of them. */
export class FairWorkQueue {
  readonly #waiting = new Map<string, (() => void)[]>();
  #scheduled = false;

  /** Runs a short piece of work when it is its account's turn. */
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
