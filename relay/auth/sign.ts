// Signs tokens with the secret that also verifies them: for `recado token`, the demo and the tests.
import { randomUUID } from 'node:crypto';
import { SignJWT } from 'jose';
import { RecadoError } from '../errors.ts';
import { nestClaims } from './claims.ts';
import { accountText, DEFAULT_TOPICS_CLAIM } from './token.ts';

export interface SignOptions {
  readonly secret: string;
  readonly accountId: string;
  /** In seconds. */
  readonly expiresIn: number;
  /** Name of the account claim, JWT_ACCOUNT_CLAIM. */
  readonly claim: string;
  readonly topics?: readonly string[];
  /** JWT_TOPICS_CLAIM; null means the default. */
  readonly topicsClaim?: string | null;
  readonly subject?: string | null;
  readonly issuer?: string | null;
  readonly audience?: readonly string[];
}

/**
 * A token: HS256, with `iat` and a random `jti`.
 *
 * @throws TokenError `token_claim` if the verifier would refuse the account
 */
export async function signToken(options: SignOptions): Promise<string> {
  const { secret, accountId, expiresIn, claim, subject, issuer, audience = [], topics = [] } = options;
  const issuedAt = Math.floor(Date.now() / 1000);
  const claims = {
    ...(typeof subject === 'string' && { sub: subject }),
    ...(typeof issuer === 'string' && { iss: issuer }),
    ...(audience.length > 0 && { aud: [...audience] }),
    ...nestClaims({
      [claim]: accountText(accountId, claim),
      ...(topics.length > 0 && { [options.topicsClaim ?? DEFAULT_TOPICS_CLAIM]: [...topics] }),
    }),
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
