// Tokens with a shared secret, a verifier whose clock stands still, and what a refusal must be.
import { base64url, type CryptoKey, type JWTPayload, SignJWT } from 'jose';
import { createVerifier } from '../../auth/token.ts';
import { TokenError } from '../../auth/token-error.ts';
import { readSettings, type Settings } from '../../config/settings.ts';

export const SECRET = 'a secret for tests that has more than thirty-two bytes';
export const NOW = Date.UTC(2026, 0, 15, 12);
export const SECONDS = NOW / 1000;

/** Settings as the environment makes them, so that its defaults are what is tested. */
export function settings(env: Record<string, string>, jwksUrl?: string): Settings['jwt'] {
  const keyed = jwksUrl === undefined ? { JWT_SECRET: SECRET } : { JWT_JWKS_URL: jwksUrl };
  return readSettings({ ...keyed, ...env }).jwt;
}

/** A verifier with a shared secret, whose clock stands at NOW. */
export function verifier(env: Record<string, string> = {}) {
  return createVerifier(settings(env), { now: () => NOW });
}

export const VALID: JWTPayload = { accountId: 'acc-1', exp: SECONDS + 3600 };

export function sign(
  payload: JWTPayload,
  key: CryptoKey | Uint8Array = encoded(SECRET),
  header: { alg?: string; kid?: string } = {},
) {
  return new SignJWT(payload).setProtectedHeader({ alg: 'HS256', ...header }).sign(key);
}

/** What SignJWT refuses to make. */
export async function signText(json: string): Promise<string> {
  const { subtle } = globalThis.crypto;
  const key = await subtle.importKey('raw', encoded(SECRET), { name: 'HMAC', hash: 'SHA-256' }, false, [
    'sign',
  ]);
  const input = `${base64url.encode('{"alg":"HS256"}')}.${base64url.encode(json)}`;
  return `${input}.${base64url.encode(new Uint8Array(await subtle.sign('HMAC', key, encoded(input))))}`;
}

export function encoded(text: string): Uint8Array<ArrayBuffer> {
  return new Uint8Array(new TextEncoder().encode(text));
}

/** The refusal of what must be refused. */
export async function refusal(attempt: Promise<unknown>): Promise<TokenError> {
  const outcome = await attempt.then(
    (value) => new Error(`accepted: ${JSON.stringify(value)}`),
    (error: unknown) => error,
  );
  if (outcome instanceof TokenError) return outcome;
  throw outcome;
}

export async function expectRefusal(attempt: Promise<unknown>, code: string, permanent: boolean) {
  const { code: received, permanent: forEver, message } = await refusal(attempt);
  expect({ code: received, permanent: forEver }).toEqual({ code, permanent });
  expect(message).toMatch(/^[A-Z].* .*\.$/s);
}
