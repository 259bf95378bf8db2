// Bearer token → who it is and until when. Every refusal says whether the same token could ever be accepted:
// a stock client does not come back after connect_error, so a passing fault must not be answered with one.
import { randomUUID } from 'node:crypto';
import type { IncomingHttpHeaders } from 'node:http';
import {
  createLocalJWKSet,
  decodeProtectedHeader,
  errors,
  type JSONWebKeySet,
  type JWTPayload,
  type JWTVerifyGetKey,
  type JWTVerifyOptions,
  jwtVerify,
  SignJWT,
} from 'jose';
import type { JwtKey, JwtSettings } from './config.ts';
import { describe, RecadoError } from './errors.ts';

const MAX_TOKEN_LENGTH = 8 * 1024;
const MAX_ACCOUNT_LENGTH = 256;
/** The last instant a Date can hold, in seconds since 1970. */
const MAX_NUMERIC_DATE = 8.64e12;

// The life of a key set, in milliseconds.
const FETCH_TIMEOUT = 5_000;
/** A token whose key is not in the set asks for a new set at most this often, or forged ones would flood the issuer. */
const FETCH_COOLDOWN = 10_000;
const FETCH_PAUSE_AFTER_FAILURE = 1_000;
/** Older than this, the set is renewed beside the verification, so that a key taken out of it stops working. */
const KEY_SET_STALE = 10 * 60_000;
/** Older than this, the set is not trusted any more. Long, so that an outage of the issuer sends no client away. */
const KEY_SET_EXPIRED = 24 * 60 * 60_000;
const MAX_REMEMBERED_MISSES = 20_000;

/** Each code of a TokenError, and whether it is permanent: whether the same token is refused for ever. */
const PERMANENT = {
  token_missing: true,
  token_too_long: true,
  token_malformed: true,
  token_signature: true,
  token_issuer: true,
  token_audience: true,
  token_claim: true,
  token_expired: true,
  token_revoked: true,
  token_not_yet_valid: false,
  jwks_unavailable: false,
} as const;

export type TokenErrorCode = keyof typeof PERMANENT;

/** Why a token was refused. The message never holds the token. */
export class TokenError extends RecadoError {
  override readonly name = 'TokenError';
  /** True when the same token can never be accepted; false when waiting may cure it. */
  readonly permanent: boolean;

  constructor(code: TokenErrorCode, message: string, options?: ErrorOptions) {
    super(code, message, options);
    this.permanent = PERMANENT[code];
  }
}

/** What a verified token says. Instants are in milliseconds since 1970. */
export interface Identity {
  /** The account claim as text; two accounts are the same when this is equal to the letter. */
  readonly accountId: string;
  /** The `exp` claim. */
  readonly expiresAt: number;
  /** When this relay begins to refuse the token: `exp` and the clock tolerance. A socket closed earlier would come back with the same token. */
  readonly refusedFrom: number;
  /** The `iat` claim. */
  readonly issuedAt: number | null;
  /** The `sub` claim. */
  readonly subject: string | null;
  /** The `jti` claim. */
  readonly tokenId: string | null;
}

export interface Verifier {
  /**
   * @param token without the word Bearer
   * @throws TokenError for every token that is not accepted; see its `permanent`
   */
  verify(token: string): Promise<Identity>;
}

/** JwtSettings once a generated secret has become a secret. */
export type VerifierSettings = Omit<JwtSettings, 'key'> & {
  readonly key: Exclude<JwtKey, { kind: 'generated' }>;
};

export interface VerifierOptions {
  /** Told of every failed fetch of the key set, also of those that refuse no token. */
  readonly onFault?: (fault: TokenError) => void;
  /** Milliseconds a fetch of the key set may take; 5000. */
  readonly fetchTimeout?: number;
  /** Wall clock, milliseconds since 1970; for tests. */
  readonly now?: () => number;
  /** A clock that never jumps, in milliseconds; for tests. */
  readonly elapsed?: () => number;
}

/**
 * A verifier for the settings' one secret or one key set. The key set is fetched at the first verification.
 * Nothing to close: it holds neither timers nor connections of its own.
 */
export function createVerifier(jwt: VerifierSettings, options: VerifierOptions = {}): Verifier {
  const { now = Date.now } = options;
  const payloadOf =
    jwt.key.kind === 'secret' ? withSecret(jwt.key.secret) : withKeySet(new KeySet(jwt.key.url, options));
  return {
    async verify(token) {
      if (token.length > MAX_TOKEN_LENGTH) {
        throw new TokenError(
          'token_too_long',
          `The token has ${token.length} characters, but at most ${MAX_TOKEN_LENGTH} are accepted. Put less into it.`,
        );
      }
      try {
        const payload = await payloadOf(token, verifyOptions(jwt, now()));
        return identityOf(payload, jwt);
      } catch (error) {
        throw refusal(error, token, jwt);
      }
    },
  };
}

type PayloadOf = (token: string, options: JWTVerifyOptions) => Promise<JWTPayload>;

function verifyOptions(jwt: VerifierSettings, now: number): JWTVerifyOptions {
  return {
    algorithms: [...jwt.algorithms],
    requiredClaims: ['exp'],
    clockTolerance: jwt.clockTolerance,
    currentDate: new Date(now),
    ...(jwt.issuer !== null && { issuer: jwt.issuer }),
    ...(jwt.audience.length > 0 && { audience: [...jwt.audience] }),
  };
}

function withSecret(secret: string): PayloadOf {
  const bytes = new TextEncoder().encode(secret);
  return async (token, options) => (await jwtVerify(token, bytes, options)).payload;
}

function withKeySet(keySet: KeySet): PayloadOf {
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

function isBadSignature(error: unknown): boolean {
  return error instanceof errors.JWSSignatureVerificationFailed;
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
  private fetchedAt = 0;
  private nextFetchAt = Number.NEGATIVE_INFINITY;
  private pending: Promise<void> | null = null;
  private fault: TokenError | null = null;
  /** Tail of a token's signature → fetches begun when no key was first found for it. */
  private readonly misses = new Map<string, number>();

  private readonly url: string;
  private readonly onFault: (fault: TokenError) => void;
  private readonly elapsed: () => number;
  private readonly timeout: number;

  constructor(url: string, options: VerifierOptions) {
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
      this.fetchedAt = this.elapsed();
      this.nextFetchAt = this.fetchedAt + FETCH_COOLDOWN;
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
  const keySet = (await response.json()) as JSONWebKeySet;
  // Read as a set, it would refuse every token for good.
  if (Array.isArray(keySet?.keys) && keySet.keys.length === 0) throw new Error('it holds no key');
  return keySet;
}

/** fetch says "fetch failed" and keeps what happened in the cause. */
function reason(error: unknown): string {
  const cause = typeof error === 'object' && error !== null && 'cause' in error ? error.cause : undefined;
  return describe(cause ?? error);
}

function identityOf(payload: JWTPayload, jwt: VerifierSettings): Identity {
  const { exp, iat, sub, jti } = payload;
  if (exp === undefined || exp + jwt.clockTolerance > MAX_NUMERIC_DATE) {
    throw new TokenError('token_claim', `The token's exp is ${exp}, but seconds since 1970 are expected.`);
  }
  return {
    accountId: accountText(payload[jwt.accountClaim], jwt.accountClaim),
    expiresAt: exp * 1000,
    refusedFrom: (exp + jwt.clockTolerance) * 1000,
    issuedAt: iat === undefined ? null : iat * 1000,
    subject: typeof sub === 'string' ? sub : null,
    tokenId: typeof jti === 'string' ? jti : null,
  };
}

/** The text that stands for an account: a string as it is, a whole number in decimal. */
function accountText(value: unknown, claim: string): string {
  if (Number.isSafeInteger(value)) return String(value);
  if (typeof value === 'string' && isAccountText(value)) return value;
  const received =
    typeof value === 'string'
      ? `a text of ${value.length} characters`
      : `${typeof value === 'number' ? value : kindOf(value)}`;
  throw new TokenError(
    'token_claim',
    `The token's claim ${claim} is ${received}, but a text of 1 to ${MAX_ACCOUNT_LENGTH} characters or a whole number is expected.`,
  );
}

/** Not NUL, which a query cannot carry. No lone surrogates: they reach Postgres as U+FFFD, and two accounts would be one. */
function isAccountText(text: string): boolean {
  return text.length > 0 && text.length <= MAX_ACCOUNT_LENGTH && !/[\0\p{Cs}]/u.test(text);
}

function kindOf(value: unknown): string {
  if (value === undefined) return 'missing';
  if (value === null) return 'null';
  return Array.isArray(value) ? 'a list' : `of type ${typeof value}`;
}

/** What jose (or the machine beneath) threw, as a TokenError. */
function refusal(error: unknown, token: string, jwt: VerifierSettings): unknown {
  if (error instanceof TokenError) return error;
  if (error instanceof errors.JWTExpired) {
    return new TokenError(
      'token_expired',
      `The token expired at ${instant(error.payload.exp)}. Connect with a fresh one.`,
    );
  }
  if (error instanceof errors.JWTClaimValidationFailed) return claimRefusal(error, jwt);
  if (error instanceof errors.JOSEAlgNotAllowed) {
    const alg = quote(decodeProtectedHeader(token).alg);
    return new TokenError(
      'token_signature',
      `The token's alg is ${alg}, but one of ${jwt.algorithms.join(', ')} is expected.`,
    );
  }
  if (isBadSignature(error)) {
    return new TokenError(
      'token_signature',
      "The token's signature is not that of the expected key. Check that issuer and relay have the same secret or key set.",
    );
  }
  if (isMalformed(error)) {
    return new TokenError('token_malformed', `The token is not a signed JWT: ${describe(error)}.`);
  }
  return jwt.key.kind === 'jwks' ? unusableKey(error) : error;
}

function isMalformed(error: unknown): boolean {
  return (
    error instanceof errors.JWSInvalid ||
    error instanceof errors.JWTInvalid ||
    error instanceof errors.JOSENotSupported
  );
}

/** The token found its key, and the key cannot be used (too short, incomplete, private): the issuer can cure that. */
function unusableKey(error: unknown): TokenError {
  return new TokenError(
    'jwks_unavailable',
    `The key the token is signed with cannot be used: ${describe(error)}. Correct the key set.`,
    { cause: error },
  );
}

function claimRefusal(error: errors.JWTClaimValidationFailed, jwt: VerifierSettings): TokenError {
  const { claim, payload } = error;
  const received = error.reason === 'missing' ? 'missing' : quote(payload[claim]);
  if (claim === 'iss') {
    return new TokenError('token_issuer', `The token's iss is ${received}, but "${jwt.issuer}" is expected.`);
  }
  if (claim === 'aud') {
    const expected = jwt.audience.map((name) => `"${name}"`).join(' or ');
    return new TokenError('token_audience', `The token's aud is ${received}, but ${expected} is expected.`);
  }
  if (claim === 'nbf' && error.reason === 'check_failed') {
    return new TokenError(
      'token_not_yet_valid',
      `The token is valid from ${instant(payload.nbf)} only. Wait, or set the clocks right.`,
    );
  }
  return new TokenError(
    'token_claim',
    `The token's ${claim} is ${received}, but seconds since 1970 are expected.`,
  );
}

function quote(value: unknown): string {
  const text = JSON.stringify(value) ?? 'missing';
  return text.length > 100 ? `${text.slice(0, 100)}…` : text;
}

function instant(seconds: number | undefined): string {
  if (seconds === undefined || !(Math.abs(seconds) <= MAX_NUMERIC_DATE)) return String(seconds);
  return new Date(seconds * 1000).toISOString();
}

/** The part of a Socket.IO handshake (or of a request) that may carry a token. */
export interface Handshake {
  readonly auth: unknown;
  readonly headers: IncomingHttpHeaders;
}

/**
 * The token of a handshake: `auth.token`, with or without "Bearer " before it, else the Authorization header.
 *
 * @throws TokenError `token_missing` when neither holds one, `token_malformed` when `auth.token` is not a text
 */
export function bearerFrom(handshake: Handshake): string {
  const given = tokenOf(handshake.auth);
  if (given !== undefined && given !== null && typeof given !== 'string') {
    throw new TokenError(
      'token_malformed',
      `The handshake's auth.token is ${kindOf(given)}, but a text is expected.`,
    );
  }
  const token = withoutScheme(given ?? '') || bearerOf(handshake.headers.authorization ?? '');
  if (token === '') {
    throw new TokenError(
      'token_missing',
      'No token was given. Connect with { auth: { token } }, or with the header "Authorization: Bearer <token>".',
    );
  }
  return token;
}

function tokenOf(auth: unknown): unknown {
  return typeof auth === 'object' && auth !== null && 'token' in auth ? auth.token : undefined;
}

function withoutScheme(text: string): string {
  return text.trim().replace(/^bearer(\s+|$)/i, '');
}

/** Empty for other schemes: a proxy's Basic credentials are not a token. */
function bearerOf(header: string): string {
  return /^\s*bearer(\s|$)/i.test(header) ? withoutScheme(header) : '';
}

export interface MintOptions {
  readonly secret: string;
  readonly accountId: string;
  /** Seconds. */
  readonly expiresIn: number;
  /** The account claim, JWT_ACCOUNT_CLAIM. */
  readonly claim: string;
  readonly subject?: string | null;
  readonly issuer?: string | null;
  readonly audience?: readonly string[];
}

/**
 * A token for `recado token`, the demo and the tests: HS256, with `iat` and a random `jti`.
 *
 * @throws TokenError `token_claim` when the verifier would refuse the account
 */
export async function mintToken(options: MintOptions): Promise<string> {
  const { secret, accountId, expiresIn, claim, subject, issuer, audience = [] } = options;
  const issuedAt = Math.floor(Date.now() / 1000);
  const claims = {
    ...(typeof subject === 'string' && { sub: subject }),
    ...(typeof issuer === 'string' && { iss: issuer }),
    ...(audience.length > 0 && { aud: [...audience] }),
    [claim]: accountText(accountId, claim),
  };
  return new SignJWT(claims)
    .setProtectedHeader({ alg: 'HS256', typ: 'JWT' })
    .setIssuedAt(issuedAt)
    .setExpirationTime(issuedAt + expiresIn)
    .setJti(randomUUID())
    .sign(new TextEncoder().encode(secret));
}

const MAX_DURATION = 10 * 365 * 86_400;

/**
 * `90s`, `30m`, `1h` or `2d` in seconds.
 *
 * @throws RecadoError `duration_invalid`
 */
export function parseDuration(text: string): number {
  const unit = { s: 1, m: 60, h: 3_600, d: 86_400 }[text.trim().slice(-1)];
  const count = /^(\d{1,9}) ?[smhd]$/.exec(text.trim())?.[1];
  const seconds = Number(count) * (unit ?? 0);
  if (seconds >= 1 && seconds <= MAX_DURATION) return seconds;
  throw new RecadoError(
    'duration_invalid',
    `"${text}" is not a duration. Write a whole number and a unit, such as 90s, 30m, 1h or 2d, of at most ten years.`,
  );
}
