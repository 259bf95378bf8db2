// A client pays for what it sends. Honest clients mostly listen: what they send (a CONNECT, a pong every 25 seconds, a
// few stray emits) fits into a budget that refills slowly. With an empty budget the relay stops reading the client for
// a while, but keeps the connection: closing it locked honest pages out, since they reconnected with the same thirty
// emits. Only a debt that no page can run up ends the connection.

export interface BudgetLimits {
  /** Most that can be spent at once. */
  readonly burst: number;
  /** Refill per second. */
  readonly perSecond: number;
  /** A larger debt ends the connection. */
  readonly debt: number;
}

/** For one connection. A message costs 1, and 1 more for each KiB. */
export const CONNECTION_BUDGET: BudgetLimits = { burst: 40, perSecond: 10, debt: 500 };
/**
 * For all connections of one account in this process. It never ends a connection: a clinic may have a thousand tabs.
 */
export const ACCOUNT_BUDGET: BudgetLimits = {
  burst: 20_000,
  perSecond: 1_000,
  debt: Number.POSITIVE_INFINITY,
};
/** Extra cost of `auth:refresh`, which verifies a token. */
export const REFRESH_COST = 9;

const BYTES_PER_COST = 1_024;

/** The cost of a message. @param length in bytes, or in characters, which is close enough */
export function costOf(length: number): number {
  return 1 + Math.floor(length / BYTES_PER_COST);
}

export class Budget {
  readonly #limits: BudgetLimits;
  #left: number;
  #at: number;
  /** The account's budget, once the account is known. */
  #shared: Budget | null = null;

  /** @param now milliseconds of a monotonic clock */
  constructor(limits: BudgetLimits, now = performance.now()) {
    this.#limits = limits;
    this.#left = limits.burst;
    this.#at = now;
  }

  /** From now on the account's budget is charged too. */
  shareWith(account: Budget): void {
    this.#shared = account;
  }

  /**
   * Charges the budget, into debt if need be.
   * @returns how many milliseconds not to read the client; infinity means the connection must end
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
