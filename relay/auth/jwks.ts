// The issuer's key set: fetched, kept, renewed, and asked for the key that signed a token.
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

// The life of a key set, in milliseconds.
const FETCH_TIMEOUT = 5_000;
/**
 * A token whose key is not in the set asks for a new set, but only two are read in this time, or forged ones would
 * flood the issuer. Two, so that an issuer may sign with a new key at once, whenever the last set was read.
 */
const FETCH_COOLDOWN = 10_000;
const FETCH_PAUSE_AFTER_FAILURE = 1_000;
/** Older than this, the set is renewed beside the verification, so that a key taken out of it stops working. */
const KEY_SET_STALE = 10 * 60_000;
/** Older than this, the set is not trusted any more. Long, so that an outage of the issuer sends no client away. */
const KEY_SET_EXPIRED = 24 * 60 * 60_000;
const MAX_REMEMBERED_MISSES = 20_000;
/** Of a set, unpacked: some hundred keys with their certificates. */
export const MOST_KEY_SET_BYTES = 1024 * 1024;

export interface KeySetOptions {
  /** Told of every failed fetch of the key set, also of those that refuse no token. */
  readonly onFault?: (fault: TokenError) => void;
  /** Milliseconds a fetch of the key set may take; 5000. */
  readonly fetchTimeout?: number;
  /** A clock that never jumps, in milliseconds; for tests. */
  readonly elapsed?: () => number;
}

/**
 * Verifies tokens with the keys that are published at an address; fetched at the first token.
 * @returns the token's payload, or throws what jose throws, or TokenError `token_signature`, `jwks_unavailable`
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
    `No key in the set at ${keySet.place} fits the token's signature. Check that the token comes from the issuer of that key set.`,
  );
}

function unknownKeySoFar(keySet: KeySet): TokenError {
  return new TokenError(
    'jwks_unavailable',
    `No key in the set at ${keySet.place} fits the token's signature so far, and the set was read too recently to be read again. Try again in ${FETCH_COOLDOWN / 1000} seconds.`,
  );
}

/** @returns null when no key of the set made the token's signature */
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
    // A token that names its key and is not signed with it is forged. One that names none may be newer than the set.
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
 * A published key set and its life. Not jose's createRemoteJWKSet: that one cannot tell an unknown key from one
 * it was not allowed to ask for, forgets its keys during a long outage (or keeps removed ones for ever), and
 * fetches without pause while the endpoint is down.
 */
class KeySet {
  /** How many fetches have begun. A number rather than a time: it orders them without doubt. */
  begun = 0;
  /** The fetch that brought the set in hand. */
  private broughtBy = 0;
  private keys: LocalKeySet | null = null;
  private fetchedAt = Number.NEGATIVE_INFINITY;
  private nextFetchAt = Number.NEGATIVE_INFINITY;
  private pending: Promise<void> | null = null;
  private fault: TokenError | null = null;
  /** Tail of a token's signature → fetches begun when no key was first found for it. */
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

  /** The address for messages, without a query, which may hold a key. */
  get place(): string {
    const { origin, pathname } = new URL(this.url);
    return origin + pathname;
  }

  /** The set in hand; fetched first when there is none to trust. @throws TokenError `jwks_unavailable` */
  async current(): Promise<LocalKeySet> {
    const age = this.elapsed() - this.fetchedAt;
    if (this.keys === null || age > KEY_SET_EXPIRED) {
      if (!(await this.renew()) && this.fault !== null) throw this.fault;
    } else if (age > KEY_SET_STALE) {
      this.renew().catch(() => {}); // onFault was told; the keys in hand still serve
    }
    return this.keys!;
  }

  /**
   * Fetches the set, or joins a fetch under way.
   * @returns false when that was done a moment ago, and nothing was done now
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

  /** Whether the set in hand was asked for after that many fetches had begun. */
  wasReadAfter(begun: number): boolean {
    return this.broughtBy > begun;
  }

  /**
   * The fetches begun when this token first found no key: at most `begunBefore`. Without this memory a crowd of
   * clients whose key is gone would come back again and again, each fetch judging only the one that began it.
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
    redirect: 'manual', // a key set is trusted at the address that was configured, not where it sends us
    signal: AbortSignal.timeout(timeout),
  });
  if (response.status !== 200) {
    await response.body?.cancel();
    throw new Error(`it answered with status ${response.status}`);
  }
  const keySet = JSON.parse(await readBounded(response, MOST_KEY_SET_BYTES)) as JSONWebKeySet;
  // Read as a set, it would refuse every token for good.
  if (Array.isArray(keySet?.keys) && keySet.keys.length === 0) throw new Error('it holds no key');
  return keySet;
}

/** fetch says "fetch failed" and keeps what happened in the cause. */
function reason(error: unknown): string {
  const cause = typeof error === 'object' && error !== null && 'cause' in error ? error.cause : undefined;
  return errorText(cause ?? error);
}
