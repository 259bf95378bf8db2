// What is in whose way, and until when. An event that is late while nothing is in the way of its client is a violation.

type Interval = readonly [from: number, to: number];

interface Named {
  readonly name: string;
}

export class Disturbances {
  readonly #everybody: Interval[] = [];
  readonly #byClient = new Map<string, Interval[]>();

  /**
   * Does the work, which disturbs these clients until it is done and for so long after it.
   * @param whom asked before and after, since clients move between nodes
   */
  async during(
    whom: 'everybody' | (() => Iterable<Named>),
    recoveryMs: number,
    work: () => Promise<unknown>,
  ) {
    const from = Date.now();
    const names = new Set<string>();
    const note = () => {
      if (whom !== 'everybody') for (const { name } of whom()) names.add(name);
    };
    note();
    try {
      await work();
    } finally {
      note();
      const interval: Interval = [from, Date.now() + recoveryMs];
      if (whom === 'everybody') this.#everybody.push(interval);
      for (const name of names) this.#add(name, interval);
    }
  }

  /** Whether anything was in the way of this client at any time between. */
  inTheWayOf(client: string, from: number, to: number): boolean {
    const overlaps = ([began, ended]: Interval) => began <= to && ended >= from;
    return this.#everybody.some(overlaps) || (this.#byClient.get(client)?.some(overlaps) ?? false);
  }

  #add(client: string, interval: Interval): void {
    const intervals = this.#byClient.get(client);
    if (intervals) intervals.push(interval);
    else this.#byClient.set(client, [interval]);
  }
}
