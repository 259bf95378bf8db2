// Recent events in memory, so that most clients that come back cost no query. A reconnect storm is the rule, not
// the exception: every client of a node comes back at once when another node ends.
import type { OutboxEvent } from '../outbox/events.ts';
import { covers, hasSeen, type Position, type Snapshot } from '../outbox/position.ts';

interface Batch {
  readonly number: number;
  /** What a reader has seen after it. */
  readonly bound: Snapshot;
  readonly bytes: number;
  readonly events: number;
  /** How many events of each account; null: of every account. */
  readonly counts: Map<string | null, number>;
}

export interface WindowLimits {
  readonly bytes: number;
  readonly events: number;
}

/**
 * A queue that forgets from its front, with an index beside it: taking the first element out of an array moves all
 * others, which at 50,000 events of one account costs more than everything else that is done with an event.
 */
class Queue<T> {
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
    // Half of it is empty places: each item is moved once at most for one that is forgotten.
    if (this.#first * 2 < this.#items.length) return;
    this.#items = this.#items.slice(this.#first);
    this.#first = 0;
  }

  replace(change: (item: T) => T): void {
    for (let place = this.#first; place < this.#items.length; place += 1) {
      this.#items[place] = change(this.#items[place] as T);
    }
  }

  toArray(): T[] {
    return this.#items.slice(this.#first) as T[];
  }
}

/** Bytes an event costs besides its text: object, two bigints, array slots. Measured roughly, for the budget only. */
const OVERHEAD = 300;

export class Window {
  readonly #limits: WindowLimits;
  readonly #byAccount = new Map<string | null, Queue<OutboxEvent>>();
  #batches = new Queue<Batch>();
  /** A reader that has seen this finds everything else here. */
  #from: Snapshot;
  #bytes = 0;
  #events = 0;
  #number = 0;
  /** Number of the newest batch that is not here any more. */
  #forgotten = 0;

  constructor(from: Snapshot, limits: WindowLimits) {
    this.#from = from;
    this.#limits = limits;
  }

  /** Number of the newest batch; they count up by one. */
  get newest(): number {
    return this.#number;
  }

  /**
   * Number of a batch: who was told no position since then should be told a fresh one, before the window forgets
   * theirs, or now where it already has: a large batch pushes out all the others at once.
   */
  get aging(): number {
    const full = Math.max(this.#bytes / this.#limits.bytes, this.#events / this.#limits.events);
    const middle = full < 0.5 ? 0 : (this.#batches.at(this.#batches.length >> 1)?.number ?? 0);
    return Math.max(middle, this.#forgotten);
  }

  get size(): { bytes: number; events: number } {
    return { bytes: this.#bytes, events: this.#events };
  }

  /** Appends a whole batch. One that is larger than the window empties it. */
  add(events: readonly OutboxEvent[], bound: Snapshot): void {
    if (events.length === 0) {
      if (this.#batches.length === 0) this.#from = bound;
      return;
    }
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

  /** A batch that is larger than the window: all is forgotten. `bound` is what a reader has seen who needs nothing. */
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
   * Puts `blank` in the place of each event of an account that is not after `through`. They stay in number and size:
   * what is counted stays so.
   */
  forget(account: string, through: bigint, blank: (event: OutboxEvent) => OutboxEvent): void {
    this.#byAccount.get(account)?.replace((event) => (event.id > through ? event : blank(event)));
  }

  /** Whether all that `seen` has not seen is here. */
  reaches(seen: Snapshot): boolean {
    return covers(seen, this.#from);
  }

  /** The account's events (and those for everybody) that a position has not seen, in the order of their ids. */
  unseen(account: string, position: Position): OutboxEvent[] {
    const own = this.#byAccount.get(account)?.toArray() ?? [];
    const forAll = this.#byAccount.get(null)?.toArray() ?? [];
    return [...own, ...forAll]
      .filter((event) => !hasSeen(position, event))
      .sort((a, b) => (a.id < b.id ? -1 : 1));
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
