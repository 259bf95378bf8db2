// Whose turn it is. What clients come back for costs queries and processor time, and one account may ask for much of
// both. So accounts take turns, whatever the number of their connections: first the one that waited longest.
import { RecadoError } from '../errors.ts';

interface Query {
  readonly isWanted: () => boolean;
  readonly begin: () => Promise<void>;
  readonly abandon: () => void;
}

/** For queries: a few at a time, one of each account. */
export class QueryTurns {
  readonly #atOnce: number;
  readonly #waiting = new Map<string, Query[]>();
  readonly #running = new Set<string>();

  /** @param atOnce how many may run, all accounts together */
  constructor(atOnce: number) {
    this.#atOnce = atOnce;
  }

  /**
   * Runs a query when its account has its turn.
   * @param isWanted asked then: a client that went away waits for nothing
   * @throws RecadoError `nobody_waits`, and what the query throws
   */
  take<T>(account: string, isWanted: () => boolean, query: () => Promise<T>): Promise<T> {
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
      // Behind the others, if it has more.
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

/** So long the process does nothing else. */
const SLICE_MS = 4;

/** For work of this process: a slice of it, then whatever else has come meanwhile, then the next slice. */
export class WorkTurns {
  readonly #waiting = new Map<string, (() => void)[]>();
  #scheduled = false;

  /** Runs a short piece of work when its account has its turn, and resolves or rejects with it. */
  take<T>(account: string, work: () => T): Promise<T> {
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
