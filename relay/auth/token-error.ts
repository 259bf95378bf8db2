// Why a token is refused, and whether the same token could ever be accepted. A stock client does not retry after a
// connect_error, so a temporary fault must not be answered with one.
import { decodeProtectedHeader, errors } from 'jose';

import type { Settings } from '../config/settings.ts';
import { errorText, RecadoError } from '../errors.ts';

/** The last instant a Date can hold, in seconds since 1970. */
export const MAX_NUMERIC_DATE = 8.64e12;

/** The codes of a TokenError, and whether each is permanent: the same token will always be refused. */
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
  ticket_unknown: true,
  token_not_yet_valid: false,
  jwks_unavailable: false,
} as const;

export type TokenErrorCode = keyof typeof PERMANENT;

/** Why a token was refused. The message never contains the token. */
export class TokenError extends RecadoError {
  override readonly name = 'TokenError';
  /** True if the same token can never be accepted; false if it may be accepted later. */
  readonly permanent: boolean;

  constructor(code: TokenErrorCode, message: string, options?: ErrorOptions) {
    super(code, message, options);
    this.permanent = PERMANENT[code];
  }
}

type JwtSettings = Settings['jwt'];

/** Turns what jose (or the system) threw into a TokenError. */
export function refusal(error: unknown, token: string, jwt: JwtSettings): unknown {
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
      "The token's signature does not match the expected key. Check that issuer and relay use the same secret or key set.",
    );
  }
  if (isMalformed(error)) {
    return new TokenError('token_malformed', `The token is not a signed JWT: ${errorText(error)}.`);
  }
  return jwt.keySetUrl === null ? error : unusableKey(error);
}

function isMalformed(error: unknown): boolean {
  return (
    error instanceof errors.JWSInvalid ||
    error instanceof errors.JWTInvalid ||
    error instanceof errors.JOSENotSupported
  );
}

/** The token's key is in the set but cannot be used (too short, incomplete, private): the issuer can mend that. */
function unusableKey(error: unknown): TokenError {
  return new TokenError(
    'jwks_unavailable',
    `The key the token is signed with cannot be used: ${errorText(error)}. Correct the key set.`,
    { cause: error },
  );
}

function claimRefusal(error: errors.JWTClaimValidationFailed, jwt: JwtSettings): TokenError {
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
      `The token is not valid before ${instant(payload.nbf)}. Wait, or correct the clocks.`,
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

export function isBadSignature(error: unknown): boolean {
  return error instanceof errors.JWSSignatureVerificationFailed;
}

export function kindOf(value: unknown): string {
  if (value === undefined) return 'missing';
  if (value === null) return 'null';
  return Array.isArray(value) ? 'a list' : `of type ${typeof value}`;
}
