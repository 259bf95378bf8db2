// Callers that wait until an edge has read far enough.
import { notReady } from '../feed/feed.ts';
import { type PromiseWithResolvers, withResolvers } from '../feed/with-resolvers.ts';
import { covers, type Snapshot } from '../outbox/position.ts';

interface Waiter {
  /** The snapshot to reach; undefined means wait for a read of the database. */
  readonly wanted: Snapshot | undefined;
  /** When the database is read for this caller. */
  readonly until: number;
  readonly arrived: PromiseWithResolvers;
}

export class Waiting {
  #waiters: Waiter[] = [];

  /** When the database must be read; infinity if nobody waits. */
  get until(): number {
    return this.#waiters.reduce((first, { until }) => Math.min(first, until), Number.POSITIVE_INFINITY);
  }

  /** @throws RecadoError `feed_not_ready` */
  add(wanted: Snapshot | undefined, until: number): Promise<void> {
    const arrived = withResolvers();
    this.#waiters.push({ wanted, until, arrived });
    return arrived.promise;
  }

  /** Answers the callers whose snapshot is reached. */
  onSeen(seen: Snapshot): void {
    if (this.#waiters.length === 0) return;
    this.#waiters = this.#waiters.filter(({ wanted, arrived }) => {
      if (wanted === undefined || !covers(seen, wanted)) return true;
      arrived.resolve();
      return false;
    });
  }

  /** Runs a read and answers the callers that were waiting when it began. Later ones wait for the next read. */
  async during(read: () => Promise<void>): Promise<void> {
    const waiters = this.#waiters;
    this.#waiters = [];
    try {
      await read();
      for (const { arrived } of waiters) arrived.resolve();
    } catch (error) {
      for (const { arrived } of waiters) arrived.reject(notReady());
      throw error;
    }
  }

  reject(): void {
    for (const { arrived } of this.#waiters.splice(0)) arrived.reject(notReady());
  }
}
