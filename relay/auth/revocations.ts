// Tokens refused before they expire. The table is the truth; the feed reads it again whenever a relay:revoke
// passes by, before it hands that batch on.
import type { Revocation } from '../feed/outbox.ts';
import type { Identity } from './token.ts';

export class Revocations {
  readonly #byAccount = new Map<string, Revocation[]>();

  /** Replaces those of one account, or with null all of them. */
  replace(account: string | null, revocations: readonly Revocation[]): void {
    if (account === null) this.#byAccount.clear();
    else this.#byAccount.delete(account);
    for (const revocation of revocations) {
      const known = this.#byAccount.get(revocation.account);
      if (known) known.push(revocation);
      else this.#byAccount.set(revocation.account, [revocation]);
    }
  }

  /** A token without `iat` counts as issued before everything. */
  refuses(identity: Identity): boolean {
    const revocations = this.#byAccount.get(identity.accountId) ?? [];
    return revocations.some(
      ({ subject, tokenId, before }) =>
        (subject === null || subject === identity.subject) &&
        (tokenId === null || tokenId === identity.tokenId) &&
        (identity.issuedAt ?? 0) < before,
    );
  }
}
