// Ends connections when their tokens expire. Tokens that expire at the same moment share a timer; many do, since `exp`
// counts seconds. A timer for each would take memory for every idle connection.

/** A timer over 24.8 days would fire at once. */
const LONGEST_TIMER_MS = 2 ** 31 - 1;

interface Moment<Holder> {
  readonly holders: Set<Holder>;
  timer: NodeJS.Timeout | undefined;
}

export class Expiry<Holder> {
  readonly #end: (holder: Holder) => void;
  readonly #moments = new Map<number, Moment<Holder>>();

  /** @param end called for each holder at its time, unless it was removed before */
  constructor(end: (holder: Holder) => void) {
    this.#end = end;
  }

  /** @param at milliseconds since 1970 */
  add(holder: Holder, at: number): void {
    let moment = this.#moments.get(at);
    if (!moment) {
      moment = { holders: new Set(), timer: undefined };
      this.#moments.set(at, moment);
      this.#wait(at, moment);
    }
    moment.holders.add(holder);
  }

  /** @param at the same time as in add() */
  remove(holder: Holder, at: number): void {
    const moment = this.#moments.get(at);
    if (!moment?.holders.delete(holder) || moment.holders.size > 0) return;
    clearTimeout(moment.timer);
    this.#moments.delete(at);
  }

  /** Stops all timers. */
  close(): void {
    for (const { timer } of this.#moments.values()) clearTimeout(timer);
    this.#moments.clear();
  }

  #wait(at: number, moment: Moment<Holder>): void {
    const remaining = at - Date.now();
    moment.timer = setTimeout(
      () => {
        // Too early if the time is beyond the longest timer, or the clock was set back.
        if (at > Date.now()) {
          this.#wait(at, moment);
          return;
        }
        this.#moments.delete(at);
        for (const holder of moment.holders) this.#end(holder);
      },
      Math.min(Math.max(remaining, 0), LONGEST_TIMER_MS),
    );
  }
}
