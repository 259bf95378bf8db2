// The live clients of one account.
import type { OutboxEvent } from '../../outbox/events.ts';
import type { Subscriber } from '../subscriber.ts';
import { AudienceIndex, type Share } from './audible.ts';

export class Members implements Iterable<Subscriber> {
  readonly #all = new Set<Subscriber>();
  /** How many have a choice of events. */
  #choosing = 0;
  /** Created on first use: most accounts have no audiences. */
  #index: AudienceIndex | null = null;

  get size(): number {
    return this.#all.size;
  }

  [Symbol.iterator](): Iterator<Subscriber> {
    return this.#all[Symbol.iterator]();
  }

  has(subscriber: Subscriber): boolean {
    return this.#all.has(subscriber);
  }

  add(subscriber: Subscriber): void {
    this.#all.add(subscriber);
    if (subscriber.choice !== null) this.#choosing += 1;
    this.#index?.add(subscriber);
  }

  /** @returns whether it was a member */
  delete(subscriber: Subscriber): boolean {
    if (!this.#all.delete(subscriber)) return false;
    if (subscriber.choice !== null) this.#choosing -= 1;
    this.#index?.delete(subscriber);
    return true;
  }

  /** Who hears which of these events; null if everybody hears all of them. */
  share(events: readonly OutboxEvent[]): Share[] | null {
    if (this.#choosing === 0 && events.every(({ audience }) => audience === null)) return null;
    if (!this.#index) {
      this.#index = new AudienceIndex();
      for (const subscriber of this.#all) this.#index.add(subscriber);
    }
    return this.#index.share(events);
  }
}
