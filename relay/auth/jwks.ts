// Fetches, keeps and renews the issuer's key set, and verifies tokens with its keys.
import {
  createLocalJWKSet,
  decodeProtectedHeader,
  errors,
  type JSONWebKeySet,
  type JWTPayload,
  type JWTVerifyGetKey,
  type JWTVerifyOptions,
  jwtVerify,
} from 'jose';
import { readBounded } from '../bounded.ts';
import { errorText } from '../errors.ts';
import { isBadSignature, TokenError } from './token-error.ts';

// All times are in milliseconds.
const FETCH_TIMEOUT = 5_000;
/**
 * A token whose key is not in the set triggers a fetch, but at most two in this time: otherwise forged tokens would
 * flood the issuer. Two, so that an issuer may sign with a new key at once, even just after a fetch.
 */
const FETCH_COOLDOWN = 10_000;
const FETCH_PAUSE_AFTER_FAILURE = 1_000;
/** A set older than this is renewed in the background, so that a key removed from it stops working. */
const KEY_SET_STALE = 10 * 60_000;
/** A set older than this is no longer trusted. Long, so that an outage of the issuer disconnects no client. */
const KEY_SET_EXPIRED = 24 * 60 * 60_000;
const MAX_REMEMBERED_MISSES = 20_000;
/** Limit for a set, uncompressed: enough for some hundred keys with certificates. */
export const MOST_KEY_SET_BYTES = 1024 * 1024;

export interface KeySetOptions {
  /** Called for every failed fetch of the key set, even if no token is refused for it. */
  readonly onFault?: (fault: TokenError) => void;
  /** Milliseconds that a fetch of the key set may take; 5000 by default. */
  readonly fetchTimeout?: number;
  /** A monotonic clock, in milliseconds; for tests. */
  readonly elapsed?: () => number;
}

/**
 * Verifies tokens with the keys published at a URL, which are fetched with the first token. The function returns the
 * token's payload. It throws jose's errors, and TokenError `token_signature`, `jwks_unavailable`.
 */
export function verifyByKeySet(
  url: string,
  given: KeySetOptions,
): (token: string, options: JWTVerifyOptions) => Promise<JWTPayload> {
  const keySet = new KeySet(url, given);
  return async (token, options) => {
    const begunBefore = keySet.begun;
    const payload = await payloadByKeySet(token, keySet, options);
    if (payload !== null) return payload;
    // Forged, or signed with a key newer than the set.
    const missedAt = keySet.firstMiss(token, begunBefore);
    if (await keySet.renew()) {
      const renewed = await payloadByKeySet(token, keySet, options);
      if (renewed !== null) return renewed;
    }
    throw keySet.wasReadAfter(missedAt) ? unknownKey(keySet) : unknownKeySoFar(keySet);
  };
}

function unknownKey(keySet: KeySet): TokenError {
  return new TokenError(
    'token_signature',
    `No key in the set at ${keySet.place} matches the token's signature. Check that the token comes from the issuer of that key set.`,
  );
}

function unknownKeySoFar(keySet: KeySet): TokenError {
  return new TokenError(
    'jwks_unavailable',
    `No key in the set at ${keySet.place} matches the token's signature so far, and the set was read too recently to be read again. Try again in ${FETCH_COOLDOWN / 1000} seconds.`,
  );
}

/** @returns null if no key of the set matches the token's signature */
async function payloadByKeySet(
  token: string,
  keySet: KeySet,
  options: JWTVerifyOptions,
): Promise<JWTPayload | null> {
  const keyFor: JWTVerifyGetKey = async (header, jws) => (await keySet.current())(header, jws);
  try {
    return (await jwtVerify(token, keyFor, options)).payload;
  } catch (error) {
    if (error instanceof errors.JWKSNoMatchingKey) return null;
    if (error instanceof errors.JWKSMultipleMatchingKeys) return payloadByOneOf(error, token, options);
    // A token that names a key but is not signed with it is forged. One that names none may need a newer key set.
    if (isBadSignature(error) && decodeProtectedHeader(token).kid === undefined) return null;
    throw error;
  }
}

async function payloadByOneOf(
  keys: errors.JWKSMultipleMatchingKeys,
  token: string,
  options: JWTVerifyOptions,
): Promise<JWTPayload | null> {
  for await (const key of keys) {
    try {
      return (await jwtVerify(token, key, options)).payload;
    } catch (error) {
      if (!isBadSignature(error)) throw error;
    }
  }
  return null;
}

type LocalKeySet = ReturnType<typeof createLocalJWKSet>;

/**
 * A published key set. jose's createRemoteJWKSet does not suffice: it cannot tell an unknown key from one that its
 * cooldown kept it from fetching, forgets its keys during a long outage (or keeps removed ones for ever), and fetches
 * without pause while the endpoint is down.
 */
class KeySet {
  /** How many fetches have begun. A number, since times could tie. */
  begun = 0;
  /** The number of the fetch that brought the current set. */
  private broughtBy = 0;
  private keys: LocalKeySet | null = null;
  private fetchedAt = Number.NEGATIVE_INFINITY;
  private nextFetchAt = Number.NEGATIVE_INFINITY;
  private pending: Promise<void> | null = null;
  private fault: TokenError | null = null;
  /** By the end of a token's signature: how many fetches had begun when no key was first found for it. */
  private readonly misses = new Map<string, number>();

  private readonly url: string;
  private readonly onFault: (fault: TokenError) => void;
  private readonly elapsed: () => number;
  private readonly timeout: number;

  constructor(url: string, options: KeySetOptions) {
    this.url = url;
    this.onFault = options.onFault ?? (() => {});
    this.elapsed = options.elapsed ?? (() => performance.now());
    this.timeout = options.fetchTimeout ?? FETCH_TIMEOUT;
  }

  /** The URL for messages, without its query, which may contain a secret. */
  get place(): string {
    const { origin, pathname } = new URL(this.url);
    return origin + pathname;
  }

  /** The current set; fetched first if there is none to trust. @throws TokenError `jwks_unavailable` */
  async current(): Promise<LocalKeySet> {
    const age = this.elapsed() - this.fetchedAt;
    if (this.keys === null || age > KEY_SET_EXPIRED) {
      if (!(await this.renew()) && this.fault !== null) throw this.fault;
    } else if (age > KEY_SET_STALE) {
      this.renew().catch(() => {}); // onFault was called; the current keys still serve
    }
    return this.keys!;
  }

  /**
   * Fetches the set, or joins a pending fetch.
   * @returns false if it did nothing, because the last fetch was too recent
   * @throws TokenError `jwks_unavailable`
   */
  async renew(): Promise<boolean> {
    if (this.pending === null && this.elapsed() < this.nextFetchAt) return false;
    this.pending ??= this.fetch().finally(() => {
      this.pending = null;
    });
    await this.pending;
    return true;
  }

  /** Whether the current set is from a fetch that began later than the first `begun` ones. */
  wasReadAfter(begun: number): boolean {
    return this.broughtBy > begun;
  }

  /**
   * How many fetches had begun when this token first found no key: at most `begunBefore`. Without this memory each
   * fetch would decide only about the token that triggered it, and a crowd of clients with a removed key would keep
   * returning.
   */
  firstMiss(token: string, begunBefore: number): number {
    const tail = token.slice(-64);
    const first = this.misses.get(tail) ?? begunBefore;
    this.misses.set(tail, first);
    if (this.misses.size > MAX_REMEMBERED_MISSES) this.misses.delete(this.misses.keys().next().value!);
    return first;
  }

  private async fetch(): Promise<void> {
    const number = ++this.begun;
    try {
      this.keys = createLocalJWKSet(await readKeySet(this.url, this.timeout));
      this.broughtBy = number;
      this.nextFetchAt = this.fetchedAt + FETCH_COOLDOWN;
      this.fetchedAt = this.elapsed();
    } catch (error) {
      this.nextFetchAt = this.elapsed() + FETCH_PAUSE_AFTER_FAILURE;
      this.fault = new TokenError(
        'jwks_unavailable',
        `The key set at ${this.place} could not be read: ${reason(error)}. Check JWT_JWKS_URL and that this machine reaches it.`,
        { cause: error },
      );
      this.onFault(this.fault);
      throw this.fault;
    }
  }
}

async function readKeySet(url: string, timeout: number): Promise<JSONWebKeySet> {
  const response = await fetch(url, {
    headers: { accept: 'application/jwk-set+json, application/json' },
    redirect: 'manual', // only the configured URL is trusted, not where it redirects
    signal: AbortSignal.timeout(timeout),
  });
  if (response.status !== 200) {
    await response.body?.cancel();
    throw new Error(`it answered with status ${response.status}`);
  }
  // jose checks its shape.
  const keySet: JSONWebKeySet = JSON.parse(await readBounded(response, MOST_KEY_SET_BYTES));
  // An empty set would refuse every token permanently.
  if (Array.isArray(keySet?.keys) && keySet.keys.length === 0) throw new Error('it contains no key');
  return keySet;
}

/** fetch throws "fetch failed" and keeps the reason in `cause`. */
function reason(error: unknown): string {
  const cause = typeof error === 'object' && error !== null && 'cause' in error ? error.cause : undefined;
  return errorText(cause ?? error);
}
