// Randomness that a seed reproduces. Each part of a run has a stream of its own, so that the schedule of faults does
// not depend on how fast the writers were.

export class Chance {
  #state: number;

  constructor(seed: number, stream: string) {
    this.#state = seed >>> 0;
    for (const character of stream) {
      this.#state = Math.imul(this.#state ^ character.charCodeAt(0), 0x9e3779b1) >>> 0;
    }
  }

  /** From 0 up to, and without, 1: mulberry32. */
  fraction(): number {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(this.#state ^ (this.#state >>> 15), this.#state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  }

  /** A whole number, both ends included. */
  between(least: number, most: number): number {
    return least + Math.floor(this.fraction() * (most - least + 1));
  }

  happens(probability: number): boolean {
    return this.fraction() < probability;
  }

  one<T>(of: readonly T[]): T {
    const chosen = of[Math.floor(this.fraction() * of.length)];
    if (chosen === undefined) throw new Error('Nothing to choose from: the list is empty.');
    return chosen;
  }

  /** The items in a random order. */
  shuffled<T>(items: readonly T[]): T[] {
    const keyed = items.map((item) => ({ item, key: this.fraction() }));
    return keyed.sort((a, b) => a.key - b.key).map(({ item }) => item);
  }
}
