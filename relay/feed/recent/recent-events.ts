// Recent events in memory, so that most reconnects cost no query. When a node ends, all its clients reconnect to the
// other nodes at once.
import type { OutboxEvent } from '../../outbox/events.ts';
import { covers, hasSeen, type Position, type Snapshot } from '../../outbox/position.ts';

interface StoredBatch {
  readonly number: number;
  /** What a reader of this batch has seen. */
  readonly bound: Snapshot;
  readonly bytes: number;
  readonly events: number;
  /** How many events each account has; null: how many are for every account. */
  readonly counts: Map<string | null, number>;
}

export interface RecentEventsLimits {
  readonly bytes: number;
  readonly events: number;
}

/**
 * A queue with an index of its first item. Array.shift() moves all other items: with 50,000 events of one account, that
 * costs more than all other work on an event.
 */
class Queue<T extends object> {
  #items: (T | undefined)[] = [];
  #first = 0;

  get length(): number {
    return this.#items.length - this.#first;
  }

  at(place: number): T | undefined {
    return this.#items[this.#first + place];
  }

  push(item: T): void {
    this.#items.push(item);
  }

  forget(count: number): void {
    this.#items.fill(undefined, this.#first, this.#first + count);
    this.#first += count;
    // Compacts when half of the places are empty: on average one move for each forgotten item.
    if (this.#first * 2 < this.#items.length) return;
    this.#items = this.#items.slice(this.#first);
    this.#first = 0;
  }

  replace(change: (item: T) => T): void {
    for (let place = this.#first; place < this.#items.length; place += 1) {
      const item = this.#items[place];
      if (item) this.#items[place] = change(item);
    }
  }

  filter(keep: (item: T) => boolean): T[] {
    const kept: T[] = [];
    for (let place = this.#first; place < this.#items.length; place += 1) {
      const item = this.#items[place];
      if (item && keep(item)) kept.push(item);
    }
    return kept;
  }
}

/** Bytes of an event besides its text: object, two bigints, array slots. A rough estimate, for the limit only. */
const OVERHEAD = 300;

export class RecentEvents {
  readonly #limits: RecentEventsLimits;
  readonly #byAccount = new Map<string | null, Queue<OutboxEvent>>();
  #batches = new Queue<StoredBatch>();
  #from: Snapshot;
  #bytes = 0;
  #events = 0;
  #number = 0;
  /** Number of the newest batch that was dropped. */
  #forgotten = 0;

  constructor(from: Snapshot, limits: RecentEventsLimits) {
    this.#from = from;
    this.#limits = limits;
  }

  /** Number of the newest batch; they count up by one. */
  get newest(): number {
    return this.#number;
  }

  /**
   * The number of a batch. An account whose last position is older than this batch needs a fresh one: memory will soon
   * not reach the old one, or does not already, since a large batch drops all others at once.
   */
  get aging(): number {
    const full = Math.max(this.#bytes / this.#limits.bytes, this.#events / this.#limits.events);
    const middle = full < 0.5 ? 0 : (this.#batches.at(this.#batches.length >> 1)?.number ?? 0);
    return Math.max(middle, this.#forgotten);
  }

  /** A reader that has seen this needs nothing older than what is here. */
  get from(): Snapshot {
    return this.#from;
  }

  get size(): { bytes: number; events: number } {
    return { bytes: this.#bytes, events: this.#events };
  }

  /** Appends a whole batch. A batch over the limits is dropped with all others. */
  add(events: readonly OutboxEvent[], bound: Snapshot): void {
    // Memory reaches as far back as before.
    if (events.length === 0) return;
    this.#number += 1;
    const counts = new Map<string | null, number>();
    let bytes = 0;
    for (const event of events) {
      bytes += OVERHEAD + 2 * (event.payload?.length ?? 0);
      counts.set(event.account, (counts.get(event.account) ?? 0) + 1);
      let ofAccount = this.#byAccount.get(event.account);
      if (!ofAccount) {
        ofAccount = new Queue();
        this.#byAccount.set(event.account, ofAccount);
      }
      ofAccount.push(event);
    }
    this.#batches.push({ number: this.#number, bound, bytes, events: events.length, counts });
    this.#bytes += bytes;
    this.#events += events.length;
    while (this.#bytes > this.#limits.bytes || this.#events > this.#limits.events) this.#forgetOldest();
  }

  /** Drops everything, for a batch that is not kept here. A reader that has seen `bound` needs nothing older. */
  clear(bound: Snapshot): void {
    this.#number += 1;
    this.#forgotten = this.#number;
    this.#batches = new Queue();
    this.#byAccount.clear();
    this.#bytes = 0;
    this.#events = 0;
    this.#from = bound;
  }

  /**
   * Replaces the account's events up to the id `through` by what `blank` makes of them. Counts and sizes stay the same.
   */
  forget(account: string, through: bigint, blank: (event: OutboxEvent) => OutboxEvent): void {
    this.#byAccount.get(account)?.replace((event) => (event.id > through ? event : blank(event)));
  }

  /** Whether everything after `seen` is here. */
  reaches(seen: Snapshot): boolean {
    return covers(seen, this.#from);
  }

  /** The account's events (and those for every account) after a position, in the order of their ids. */
  unseen(account: string, position: Position): OutboxEvent[] {
    const isUnseen = (event: OutboxEvent) => !hasSeen(position, event);
    const own = this.#byAccount.get(account)?.filter(isUnseen) ?? [];
    const forAll = this.#byAccount.get(null)?.filter(isUnseen) ?? [];
    return [...own, ...forAll].sort((a, b) => (a.id < b.id ? -1 : 1));
  }

  #forgetOldest(): void {
    const oldest = this.#batches.at(0);
    if (!oldest) return;
    this.#batches.forget(1);
    for (const [account, count] of oldest.counts) {
      const events = this.#byAccount.get(account)!;
      if (events.length === count) this.#byAccount.delete(account);
      else events.forget(count);
    }
    this.#bytes -= oldest.bytes;
    this.#events -= oldest.events;
    this.#from = oldest.bound;
    this.#forgotten = oldest.number;
  }
}
