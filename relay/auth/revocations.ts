// Tokens that are refused before they expire. The source of truth is the table relay.revocations. It is read again
// before a batch with a relay:revoke event is handed on, so neither this batch nor a later one reaches a revoked token.
import type { Session } from '../outbox/events.ts';
import type { Identity } from './token.ts';
import { topicsOf } from './topics.ts';

interface Revocation {
  readonly account: string;
  readonly subject: string | null;
  readonly tokenId: string | null;
  /** null revokes the whole token. */
  readonly topic: string | null;
  /** Tokens issued before this, in ms since 1970, are refused. */
  readonly before: number;
}

export class Revocations {
  readonly #byAccount = new Map<string, Revocation[]>();

  /** Reads the rows of these accounts again; null reads all rows. */
  async read(session: Session, accounts: readonly string[] | null): Promise<void> {
    const { rows } = await session.query<{
      account_id: string;
      subject: string | null;
      token_id: string | null;
      topic: string | null;
      before: number;
    }>(
      `select account_id, subject, token_id, topic, date_part('epoch', before) * 1000 as before
         from relay.revocations where $1::text[] is null or account_id = any ($1) order by id`,
      [accounts],
    );
    const revocations = rows.map((row) => ({
      account: row.account_id,
      subject: row.subject,
      tokenId: row.token_id,
      topic: row.topic,
      before: row.before,
    }));
    if (accounts === null) this.#byAccount.clear();
    else for (const account of accounts) this.#byAccount.delete(account);
    for (const revocation of revocations) {
      const known = this.#byAccount.get(revocation.account);
      if (known) known.push(revocation);
      else this.#byAccount.set(revocation.account, [revocation]);
    }
  }

  /**
   * A token without `iat` counts as older than any revocation. One from the same second may be newer than the
   * revocation, as after a change of password, and is accepted, unless it is revoked by its id.
   */
  refuses(identity: Identity): boolean {
    const revocations = this.#byAccount.get(identity.accountId) ?? [];
    return revocations.some(
      ({ subject, tokenId, topic, before }) =>
        topic === null &&
        (subject === null || subject === identity.subject) &&
        (tokenId === null || tokenId === identity.tokenId) &&
        (identity.issuedAt ?? 0) < (tokenId === null ? Math.floor(before / 1000) * 1000 : before),
    );
  }

  /**
   * The identity without its revoked topics; the same object if there are none. A token from the same second loses the
   * topic too.
   */
  narrow(identity: Identity): Identity {
    const taken = new Set<string>();
    for (const { subject, topic, before } of this.#byAccount.get(identity.accountId) ?? []) {
      if (topic === null || (subject !== null && subject !== identity.subject)) continue;
      if ((identity.issuedAt ?? 0) < before) taken.add(topic);
    }
    if (taken.size === 0) return identity;
    const { topics, ownTopic } = identity;
    const left = [...topics.names].filter((name) => !taken.has(name));
    const losesOwn = ownTopic !== null && taken.has(ownTopic);
    if (left.length === topics.names.size && !losesOwn) return identity;
    return { ...identity, topics: topicsOf(left), ownTopic: losesOwn ? null : ownTopic };
  }
}
