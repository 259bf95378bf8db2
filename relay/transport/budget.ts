// A client pays for what it sends. Honest clients listen: what they send unasked (a CONNECT, a pong each 25 seconds, a
// few emits of a page that does not know better) fits into a budget that refills slowly. An empty budget means that
// the client is not read for a while. It is not closed for it: a budget that closed kept honest pages out, since they
// came back with the same thirty emits each time. Only a debt that no page makes ends the connection.

export interface BudgetLimits {
  /** What may be spent at once. */
  readonly burst: number;
  /** What comes back in a second. */
  readonly perSecond: number;
  /** A debt of more than this ends the connection. */
  readonly debt: number;
}

/** One connection: a message costs 1, and 1 more for each KiB. */
export const CONNECTION_BUDGET: BudgetLimits = { burst: 40, perSecond: 10, debt: 500 };
/** All connections of one account in this process. Never closes: a clinic has a thousand tabs. */
export const ACCOUNT_BUDGET: BudgetLimits = {
  burst: 20_000,
  perSecond: 1_000,
  debt: Number.POSITIVE_INFINITY,
};
/** What `auth:refresh` costs besides: a token is verified. */
export const REFRESH_COST = 9;

const BYTES_PER_COST = 1_024;

/** What a message of so many bytes (or characters, which is as good) costs. */
export function costOf(length: number): number {
  return 1 + Math.floor(length / BYTES_PER_COST);
}

export class Budget {
  readonly #limits: BudgetLimits;
  #left: number;
  #at: number;
  /** The account's, once it is known. */
  #shared: Budget | null = null;

  /** @param now milliseconds of a clock that never jumps */
  constructor(limits: BudgetLimits, now = performance.now()) {
    this.#limits = limits;
    this.#left = limits.burst;
    this.#at = now;
  }

  /** From now on the account pays too. */
  shareWith(account: Budget): void {
    this.#shared = account;
  }

  /**
   * Spends, also what is not there.
   * @returns milliseconds for which the client is not to be read; infinite: its connection is to be ended
   */
  spend(cost: number, now = performance.now()): number {
    const { burst, perSecond, debt } = this.#limits;
    const refilled = this.#left + (Math.max(0, now - this.#at) * perSecond) / 1_000;
    this.#left = Math.min(burst, refilled) - cost;
    this.#at = now;
    if (-this.#left > debt) return Number.POSITIVE_INFINITY;
    const own = this.#left >= 0 ? 0 : (-this.#left / perSecond) * 1_000;
    return this.#shared ? Math.max(own, this.#shared.spend(cost, now)) : own;
  }
}
