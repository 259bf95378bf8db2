// Verifies a bearer token: whose it is, and until when it is accepted.
import type { IncomingHttpHeaders } from 'node:http';
import { type JWTPayload, type JWTVerifyOptions, jwtVerify } from 'jose';

import type { Settings } from '../config/settings.ts';
import { claimAt } from './claims.ts';
import { type KeySetOptions, verifyByKeySet } from './jwks.ts';
import { isBadSignature, kindOf, MAX_NUMERIC_DATE, refusal, TokenError } from './token-error.ts';
import { NO_TOPICS, readTopics, type Topics, topicOfUser, topicsOf } from './topics.ts';

const MAX_TOKEN_LENGTH = 8 * 1024;
/** In UTF-8. Capture and replay have the same limit. */
const MAX_ACCOUNT_BYTES = 256;

/** What a verified token says. Instants are in milliseconds since 1970. */
export interface Identity {
  /** The account claim as text. Accounts are the same if this is exactly equal. */
  readonly accountId: string;
  /** The `exp` claim. */
  readonly expiresAt: number;
  /**
   * When the token is refused: `exp` plus the clock tolerance. A socket closed earlier would return with the same
   * token.
   */
  readonly refusedFrom: number;
  /** The `iat` claim. */
  readonly issuedAt: number | null;
  /** The `sub` claim. */
  readonly subject: string | null;
  /** The `jti` claim. */
  readonly tokenId: string | null;
  /** Topics whose events it hears, besides the events for everybody of the account. */
  readonly topics: Topics;
  /** The subject's own topic. It is not among the others, since those are shared with many identities. */
  readonly ownTopic: string | null;
}

export interface Verifier {
  /**
   * @param token without the word Bearer
   * @throws TokenError for every token that is not accepted; see its `permanent`
   */
  verify(token: string): Promise<Identity>;
}

type JwtSettings = Settings['jwt'];

export interface VerifierOptions extends KeySetOptions {
  /** Wall clock, milliseconds since 1970; for tests. */
  readonly now?: () => number;
}

/**
 * A verifier for the secret or the key set in the settings. The key set is fetched at the first verification. There is
 * nothing to close: a verifier has no timers or connections of its own.
 */
export function createVerifier(jwt: JwtSettings, options: VerifierOptions = {}): Verifier {
  const { now = Date.now } = options;
  const payloadOf = jwt.keySetUrl === null ? verifyBySecret(jwt) : verifyByKeySet(jwt.keySetUrl, options);
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

function verifyOptions(jwt: JwtSettings, now: number): JWTVerifyOptions {
  return {
    algorithms: [...jwt.algorithms],
    requiredClaims: ['exp'],
    clockTolerance: jwt.clockTolerance,
    currentDate: new Date(now),
    ...(jwt.issuer !== null && { issuer: jwt.issuer }),
    ...(jwt.audience.length > 0 && { audience: [...jwt.audience] }),
  };
}

function verifyBySecret({ secret, previousSecret }: JwtSettings) {
  // Settings without either are refused at boot, and the demo makes a secret.
  if (secret === null) throw new TypeError('a verifier needs a secret or a key set');
  const bytes = new TextEncoder().encode(secret);
  const previous = previousSecret === null ? null : new TextEncoder().encode(previousSecret);
  return async (token: string, options: JWTVerifyOptions): Promise<JWTPayload> => {
    try {
      return (await jwtVerify(token, bytes, options)).payload;
    } catch (error) {
      if (previous === null || !isBadSignature(error)) throw error;
      return (await jwtVerify(token, previous, options)).payload;
    }
  };
}

function identityOf(payload: JWTPayload, jwt: JwtSettings): Identity {
  const { exp, iat, sub, jti } = payload;
  if (exp === undefined || exp + jwt.clockTolerance > MAX_NUMERIC_DATE) {
    throw new TokenError('token_claim', `The token's exp is ${exp}, but seconds since 1970 are expected.`);
  }
  const subject = claimText(sub);
  return {
    accountId: accountText(claimAt(payload, jwt.accountClaim), jwt.accountClaim),
    expiresAt: exp * 1000,
    refusedFrom: (exp + jwt.clockTolerance) * 1000,
    issuedAt: iat === undefined ? null : iat * 1000,
    subject,
    tokenId: claimText(jti),
    topics: topicsIn(payload, jwt.topicsClaim),
    ownTopic: subject === null ? null : topicOfUser(subject),
  };
}

export const DEFAULT_TOPICS_CLAIM = 'topics';

/**
 * Under the default name an unusable claim is ignored, since it may mean something else. A configured one must be
 * usable.
 */
function topicsIn(payload: JWTPayload, configured: string | null): Topics {
  const claim = configured ?? DEFAULT_TOPICS_CLAIM;
  const value = claimAt(payload, claim);
  if (value === undefined) return NO_TOPICS;
  const names = readTopics(value);
  if (names !== null) return topicsOf(names);
  if (configured === null) return NO_TOPICS;
  const received = Array.isArray(value) ? 'a list with other items' : kindOf(value);
  throw new TokenError(
    'token_claim',
    `The token's claim ${claim} is ${received}, but a list of strings or whole numbers is expected.`,
  );
}

/** Some issuers write numbers where the standard requires strings. */
function claimText(value: unknown): string | null {
  return typeof value === 'string' || typeof value === 'number' ? String(value) : null;
}

/**
 * The account as text: a string unchanged, a whole number in decimal.
 * @throws TokenError `token_claim`
 */
export function accountText(value: unknown, claim: string): string {
  if (Number.isSafeInteger(value)) return String(value);
  if (typeof value === 'string' && isAccountText(value)) return value;
  const received =
    typeof value === 'string'
      ? `a string of ${value.length} characters`
      : `${typeof value === 'number' ? value : kindOf(value)}`;
  throw new TokenError(
    'token_claim',
    `The token's claim ${claim} is ${received}, but a string of 1 to ${MAX_ACCOUNT_BYTES} bytes or a whole number is expected.`,
  );
}

/**
 * Refuses NUL, which a query cannot carry. Refuses lone surrogates and U+FFFD: a lone surrogate reaches Postgres as
 * U+FFFD, which also replaces every byte that is not UTF-8, so two accounts could become one.
 */
function isAccountText(text: string): boolean {
  return text.length > 0 && Buffer.byteLength(text) <= MAX_ACCOUNT_BYTES && !/[\0\p{Cs}\uFFFD]/u.test(text);
}

/** The part of a Socket.IO handshake (or of a request) that may carry a token. */
export interface Handshake {
  readonly auth: unknown;
  readonly headers: IncomingHttpHeaders;
}

/**
 * The token of a handshake: `auth.token`, with or without "Bearer ", or else the Authorization header.
 *
 * @throws TokenError `token_missing` if neither has one, `token_malformed` if `auth.token` is not a string
 */
export function bearerFrom(handshake: Handshake): string {
  const given = tokenOf(handshake.auth);
  if (given !== undefined && given !== null && typeof given !== 'string') {
    throw new TokenError(
      'token_malformed',
      `The handshake's auth.token is ${kindOf(given)}, but a string is expected.`,
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

/** Empty for other schemes, such as a proxy's Basic credentials. */
function bearerOf(header: string): string {
  return /^\s*bearer(\s|$)/i.test(header) ? withoutScheme(header) : '';
}
