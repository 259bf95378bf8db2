// When tokens end. Those that end in the same second share a timer, and a timer each would cost every connection half
// a kilobyte.

/** Timers over 24.8 days fire at once. */
const LONGEST_TIMER_MS = 2 ** 31 - 1;

interface Second<Holder> {
  readonly holders: Set<Holder>;
  timer: NodeJS.Timeout | undefined;
}

export class Expiry<Holder> {
  readonly #end: (holder: Holder) => void;
  readonly #seconds = new Map<number, Second<Holder>>();

  /** @param end called for each holder once its time has come, unless it was removed before */
  constructor(end: (holder: Holder) => void) {
    this.#end = end;
  }

  /** @param at milliseconds since 1970; kept to the second, and never early */
  add(holder: Holder, at: number): void {
    const number = Math.ceil(at / 1000);
    let second = this.#seconds.get(number);
    if (!second) {
      second = { holders: new Set(), timer: undefined };
      this.#seconds.set(number, second);
      this.#wait(number, second);
    }
    second.holders.add(holder);
  }

  /** @param at as it was added */
  remove(holder: Holder, at: number): void {
    const number = Math.ceil(at / 1000);
    const second = this.#seconds.get(number);
    if (!second?.holders.delete(holder) || second.holders.size > 0) return;
    clearTimeout(second.timer);
    this.#seconds.delete(number);
  }

  /** No timer is left. */
  close(): void {
    for (const { timer } of this.#seconds.values()) clearTimeout(timer);
    this.#seconds.clear();
  }

  #wait(number: number, second: Second<Holder>): void {
    const remaining = number * 1000 - Date.now();
    second.timer = setTimeout(
      () => {
        // Too early where the time is further off than a timer can be, or the clock was set back.
        if (number * 1000 > Date.now()) {
          this.#wait(number, second);
          return;
        }
        this.#seconds.delete(number);
        for (const holder of second.holders) this.#end(holder);
      },
      Math.min(Math.max(remaining, 0), LONGEST_TIMER_MS),
    );
  }
}
