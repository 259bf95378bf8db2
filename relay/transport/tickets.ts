// Tickets for a browser's EventSource, which cannot send a header. A ticket replaces the token in the URL of one
// request. Proxies log URLs, so a ticket works once, within ten seconds.
import { randomBytes } from 'node:crypto';

export const TICKET_SECONDS = 10;
/** Limits for the tokens that are kept, in characters; a token has a few hundred, and at most 8 Ki. */
const MOST_OF_ACCOUNT = 4 * 1024 * 1024;
const MOST = 32 * 1024 * 1024;

export interface Tickets {
  /** @returns a ticket for the token; null if the account has too many tickets */
  keep(token: string, account: string): Promise<string | null>;
  /** @returns the token; null if the ticket is unknown, was used or is too old */
  take(ticket: string): Promise<string | null>;
}

interface Kept {
  readonly token: string;
  readonly account: string;
  readonly until: number;
}

/** The tickets of one process, or of all processes behind its port. */
export class TicketBox implements Tickets {
  /** Oldest first, so the first one expires first. */
  readonly #kept = new Map<string, Kept>();
  readonly #ofAccount = new Map<string, number>();
  #size = 0;
  readonly #now: () => number;

  /** @param now milliseconds of a monotonic clock; for tests */
  constructor(now = () => performance.now()) {
    this.#now = now;
  }

  async keep(token: string, account: string): Promise<string | null> {
    this.#forgetExpired();
    const ofAccount = (this.#ofAccount.get(account) ?? 0) + token.length;
    if (ofAccount > MOST_OF_ACCOUNT || this.#size + token.length > MOST) return null;
    const ticket = randomBytes(24).toString('base64url');
    this.#kept.set(ticket, { token, account, until: this.#now() + TICKET_SECONDS * 1_000 });
    this.#ofAccount.set(account, ofAccount);
    this.#size += token.length;
    return ticket;
  }

  async take(ticket: string): Promise<string | null> {
    this.#forgetExpired();
    return this.#forget(ticket)?.token ?? null;
  }

  #forgetExpired(): void {
    const now = this.#now();
    for (const [ticket, { until }] of this.#kept) {
      if (until > now) return;
      this.#forget(ticket);
    }
  }

  #forget(ticket: string): Kept | undefined {
    const kept = this.#kept.get(ticket);
    if (!kept) return undefined;
    this.#kept.delete(ticket);
    const { account, token } = kept;
    const rest = (this.#ofAccount.get(account) ?? 0) - token.length;
    if (rest > 0) this.#ofAccount.set(account, rest);
    else this.#ofAccount.delete(account);
    this.#size -= token.length;
    return kept;
  }
}
