import { createHmac } from 'node:crypto';
import { EventEmitter, once } from 'node:events';
import { createServer, type Server } from 'node:http';
import {
  base64url,
  type CryptoKey,
  decodeJwt,
  exportJWK,
  exportSPKI,
  generateKeyPair,
  type JWK,
  type JWTPayload,
  SignJWT,
} from 'jose';
import { parseDuration, signToken } from '../../auth/sign.ts';
import { bearerFrom, createVerifier, type VerifierOptions } from '../../auth/token.ts';
import { TokenError } from '../../auth/token-error.ts';
import { NO_TOPICS } from '../../auth/topics.ts';
import { readSettings, type Settings } from '../../config/settings.ts';
import { portOf } from '../../port.ts';

const SECRET = 'a secret for tests that has more than thirty-two bytes';
const NOW = Date.UTC(2026, 0, 15, 12);
const SECONDS = NOW / 1000;

/** Settings as the environment makes them, so that its defaults are what is tested. */
function settings(env: Record<string, string>, jwksUrl?: string): Settings['jwt'] {
  const keyed = jwksUrl === undefined ? { JWT_SECRET: SECRET } : { JWT_JWKS_URL: jwksUrl };
  return readSettings({ ...keyed, ...env }).jwt;
}

/** A verifier with a shared secret, whose clock stands at NOW. */
function verifier(env: Record<string, string> = {}) {
  return createVerifier(settings(env), { now: () => NOW });
}

const VALID: JWTPayload = { accountId: 'acc-1', exp: SECONDS + 3600 };

function sign(
  payload: JWTPayload,
  key: CryptoKey | Uint8Array = encoded(SECRET),
  header: { alg?: string; kid?: string } = {},
) {
  return new SignJWT(payload).setProtectedHeader({ alg: 'HS256', ...header }).sign(key);
}

/** What SignJWT refuses to make. */
async function signText(json: string): Promise<string> {
  const { subtle } = globalThis.crypto;
  const key = await subtle.importKey('raw', encoded(SECRET), { name: 'HMAC', hash: 'SHA-256' }, false, [
    'sign',
  ]);
  const input = `${base64url.encode('{"alg":"HS256"}')}.${base64url.encode(json)}`;
  return `${input}.${base64url.encode(new Uint8Array(await subtle.sign('HMAC', key, encoded(input))))}`;
}

function encoded(text: string): Uint8Array<ArrayBuffer> {
  return new Uint8Array(new TextEncoder().encode(text));
}

/** The refusal of what must be refused. */
async function refusal(attempt: Promise<unknown>): Promise<TokenError> {
  const outcome = await attempt.then(
    (value) => new Error(`accepted: ${JSON.stringify(value)}`),
    (error: unknown) => error,
  );
  if (outcome instanceof TokenError) return outcome;
  throw outcome;
}

async function expectRefusal(attempt: Promise<unknown>, code: string, permanent: boolean) {
  const { code: received, permanent: forEver, message } = await refusal(attempt);
  expect({ code: received, permanent: forEver }).toEqual({ code, permanent });
  expect(message).toMatch(/^[A-Z].* .*\.$/s);
}

describe('a token signed with the shared secret', () => {
  test('tells the account, the instants, the subject and its id', async () => {
    const token = await sign({ ...VALID, iat: SECONDS - 60, sub: 'user-7', jti: 'token-9' });
    expect(await verifier().verify(token)).toEqual({
      accountId: 'acc-1',
      expiresAt: NOW + 3_600_000,
      refusedFrom: NOW + 3_605_000,
      issuedAt: NOW - 60_000,
      subject: 'user-7',
      tokenId: 'token-9',
      topics: NO_TOPICS,
      ownTopic: 'user:user-7',
    });
  });

  test('needs neither iat nor sub nor jti', async () => {
    const identity = await verifier().verify(await sign(VALID));
    expect(identity).toMatchObject({ issuedAt: null, subject: null, tokenId: null });
  });

  test('takes sub and jti that are numbers for their text, as relay.revoke() names them', async () => {
    const identity = await verifier().verify(await sign({ ...VALID, sub: 7, jti: 12 } as never));
    expect(identity).toMatchObject({ subject: '7', tokenId: '12' });
  });

  test.each([
    ['a text as it is', ' Ação/1 ', ' Ação/1 '],
    ['a number in decimal', 42, '42'],
    ['zero', 0, '0'],
    ['the largest safe number', 9007199254740991, '9007199254740991'],
    ['256 bytes', 'x'.repeat(256), 'x'.repeat(256)],
  ])('names the account by %s', async (_, claim, accountId) => {
    expect((await verifier().verify(await sign({ ...VALID, accountId: claim }))).accountId).toBe(accountId);
  });

  test.each([
    ['missing', undefined],
    ['null', null],
    ['empty', ''],
    ['a boolean', true],
    ['an object', { id: 1 }],
    ['a list', ['acc-1']],
    ['a fraction', 1.5],
    ['beyond the safe numbers', 9007199254740992],
    ['over 256 bytes', 'ã'.repeat(129)],
    ['with a replacement character', 'acc\ufffd-1'],
    ['with a NUL', 'acc\u0000-1'],
    ['with a lone surrogate', 'acc\ud800'],
  ])('is refused when its account is %s', async (_, accountId) => {
    await expectRefusal(verifier().verify(await sign({ ...VALID, accountId })), 'token_claim', true);
  });

  test('does not take the account from what every object inherits', async () => {
    const inherited = verifier({ JWT_ACCOUNT_CLAIM: 'toString' });
    await expectRefusal(inherited.verify(await sign(VALID)), 'token_claim', true);
  });

  test('may carry the account in another claim, a namespaced one included', async () => {
    const claim = 'https://clinic.example/account';
    const identity = await verifier({ JWT_ACCOUNT_CLAIM: claim }).verify(
      await sign({ exp: SECONDS + 1, [claim]: 7 }),
    );
    expect(identity.accountId).toBe('7');
  });

  test('is found along a path, and first of all under the very name', async () => {
    const nested = verifier({ JWT_ACCOUNT_CLAIM: 'app_metadata.tenant' });
    const accountIn = async (claims: JWTPayload) =>
      (await nested.verify(await sign({ exp: SECONDS + 1, ...claims }))).accountId;
    expect(await accountIn({ app_metadata: { tenant: 7 } })).toBe('7');
    expect(await accountIn({ 'app_metadata.tenant': 'a', app_metadata: { tenant: 'b' } })).toBe('a');
    const dotted = 'https://clinic.example/v1.0';
    const named = verifier({ JWT_ACCOUNT_CLAIM: dotted });
    expect((await named.verify(await sign({ exp: SECONDS + 1, [dotted]: 'c' }))).accountId).toBe('c');
  });

  test.each([
    ['nothing', {}],
    ['a text on the way', { app_metadata: 'tenant' }],
    ['null on the way', { app_metadata: null }],
    ['nothing at the end', { app_metadata: {} }],
    ['an object at the end', { app_metadata: { tenant: { id: 1 } } }],
  ])('is refused when its path leads to %s', async (_, claims) => {
    const nested = verifier({ JWT_ACCOUNT_CLAIM: 'app_metadata.tenant' });
    await expectRefusal(nested.verify(await sign({ exp: SECONDS + 1, ...claims })), 'token_claim', true);
  });

  test('is refused when its path leads to what every object inherits', async () => {
    const token = await sign({ ...VALID, app_metadata: { tenant: 'a' } });
    for (const claim of ['app_metadata.constructor.name', 'accountId.length', 'toString.name']) {
      await expectRefusal(verifier({ JWT_ACCOUNT_CLAIM: claim }).verify(token), 'token_claim', true);
    }
  });

  test('is accepted with either of two secrets, and with no other', async () => {
    const [former, strange] = ['the secret before, of more than thirty-two bytes', 'x'.repeat(32)];
    const both = verifier({ JWT_SECRET_PREVIOUS: former });
    for (const secret of [SECRET, former]) {
      expect((await both.verify(await sign(VALID, encoded(secret)))).accountId).toBe('acc-1');
    }
    const expired = { ...VALID, exp: SECONDS - 60 };
    await expectRefusal(both.verify(await sign(expired, encoded(former))), 'token_expired', true);
    await expectRefusal(both.verify(await sign(VALID, encoded(strange))), 'token_signature', true);
    const [head, body] = (await sign(VALID)).split('.');
    await expectRefusal(both.verify(`${head}.${body}.`), 'token_signature', true);
    for (const blank of ['', '   ']) {
      const one = verifier({ JWT_SECRET_PREVIOUS: blank });
      await expectRefusal(one.verify(await sign(VALID, encoded(former))), 'token_signature', true);
      // jose signs with no empty key, so it is made by hand.
      const signature = createHmac('sha256', blank).update(`${head}.${body}`).digest('base64url');
      await expectRefusal(one.verify(`${head}.${body}.${signature}`), 'token_signature', true);
    }
  });

  const topicsIn = async (claims: object, env: Record<string, string> = {}) => {
    const { topics } = await verifier(env).verify(await sign({ ...VALID, ...claims }));
    return [...topics.names];
  };

  test('hears the topics it lists, texts and whole numbers', async () => {
    expect(await topicsIn({ topics: ['reception', 7, 'doctor:1', 'reception'] })).toEqual([
      ...['7', 'doctor:1', 'reception'],
    ]);
    expect(await topicsIn({ topics: [] })).toEqual([]);
    expect(await topicsIn({})).toEqual([]);
  });

  test('lists them in another claim, or along a path', async () => {
    const [claim, path] = ['https://clinic.example/topics', 'app_metadata.topics'];
    expect(await topicsIn({ topics: ['a'], [claim]: ['b'] }, { JWT_TOPICS_CLAIM: claim })).toEqual(['b']);
    expect(await topicsIn({ app_metadata: { topics: ['c'] } }, { JWT_TOPICS_CLAIM: path })).toEqual(['c']);
    expect(await topicsIn({ topics: ['a'] }, { JWT_TOPICS_CLAIM: path })).toEqual([]);
  });

  test.each([['reception'], [null], [{ a: 1 }], [7], [['reception', null]], [['reception', 1.5]], [[['a']]]])(
    'that says %j for topics hears none, and is refused only where the claim was configured',
    async (topics) => {
      expect(await topicsIn({ topics })).toEqual([]);
      const token = await sign({ ...VALID, topics });
      const strict = verifier({ JWT_TOPICS_CLAIM: 'topics' });
      await expectRefusal(strict.verify(token), 'token_claim', true);
      expect((await refusal(strict.verify(token))).message).not.toContain('reception');
    },
  );

  test('with the same topics as another one shares the set with it', async () => {
    const of = async (topics: unknown[]) =>
      (await verifier().verify(await sign({ ...VALID, topics }))).topics;
    expect(await of(['b', 'a', 1])).toBe(await of(['1', 'a', 'b']));
    expect(await of(['a,b'])).not.toBe(await of(['a', 'b']));
  });

  test('holds 250 topics with their user and account', async () => {
    const topics = Array.from({ length: 250 }, (_, i) => `conversation:${1_000_000 + i}`);
    expect(await topicsIn({ topics, sub: 'user-1' })).toHaveLength(250);
  });

  test('is refused without exp', async () => {
    const attempt = verifier().verify(await sign({ accountId: 'acc-1' }));
    expect(await refusal(attempt)).toMatchObject({
      ...{ code: 'token_claim', permanent: true },
      message: "The token's exp is missing, but seconds since 1970 are expected.",
    });
  });

  test.each(['"tomorrow"', 'null', '1e999', '1e300'])('is refused with exp %s', async (exp) => {
    const token = await signText(`{"accountId":"acc-1","exp":${exp}}`);
    await expectRefusal(verifier().verify(token), 'token_claim', true);
  });

  test.each([
    [0, true],
    [-4, true],
    [-5, false],
    [-3600, false],
  ])('that expires %i s from now is accepted: %s', async (seconds, accepted) => {
    const attempt = verifier().verify(await sign({ ...VALID, exp: SECONDS + seconds }));
    if (accepted) expect((await attempt).refusedFrom).toBeGreaterThan(NOW);
    else await expectRefusal(attempt, 'token_expired', true);
  });

  test('is refused from the instant it names, not before', async () => {
    const token = await sign(VALID);
    const { refusedFrom } = await verifier().verify(token);
    const at = (now: number) => createVerifier(settings({}), { now: () => now }).verify(token);
    await at(refusedFrom - 1000);
    await expectRefusal(at(refusedFrom), 'token_expired', true);
  });

  test('that expired long before any calendar is still said to have expired', async () => {
    await expectRefusal(
      verifier().verify(await signText('{"accountId":"a","exp":-1e300}')),
      'token_expired',
      true,
    );
  });

  test('is refused for now when it is not yet valid', async () => {
    const token = await sign({ ...VALID, nbf: SECONDS + 60 });
    await expectRefusal(verifier().verify(token), 'token_not_yet_valid', false);
    await createVerifier(settings({}), { now: () => NOW + 60_000 }).verify(token);
  });

  test('may be a little ahead of our clock', async () => {
    await verifier().verify(await sign({ ...VALID, nbf: SECONDS + 5 }));
  });

  test('is refused when nbf is no instant', async () => {
    const token = await signText(`{"accountId":"a","exp":${SECONDS + 9},"nbf":"now"}`);
    await expectRefusal(verifier().verify(token), 'token_claim', true);
  });

  test('is refused when signed with another secret, and when its payload was changed', async () => {
    const other = encoded(SECRET.toUpperCase());
    await expectRefusal(verifier().verify(await sign(VALID, other)), 'token_signature', true);
    const [header, , signature] = (await sign(VALID)).split('.');
    const forged = base64url.encode(JSON.stringify({ ...VALID, accountId: 'acc-2' }));
    await expectRefusal(verifier().verify(`${header}.${forged}.${signature}`), 'token_signature', true);
  });

  test('is refused with alg none, with and without a signature', async () => {
    const body = base64url.encode(JSON.stringify(VALID));
    for (const alg of ['none', 'None', 'NONE']) {
      const header = base64url.encode(JSON.stringify({ alg }));
      await expectRefusal(verifier().verify(`${header}.${body}.`), 'token_signature', true);
      await expectRefusal(verifier().verify(`${header}.${body}.AAAA`), 'token_signature', true);
    }
  });

  test('is refused with another HMAC than HS256', async () => {
    const token = await sign(VALID, encoded(SECRET.repeat(2)), { alg: 'HS512' });
    await expectRefusal(verifier().verify(token), 'token_signature', true);
  });

  test('must come from the issuer and be meant for the audience, when these are set', async () => {
    const strict = verifier({
      JWT_ISSUER: 'https://api.example/',
      JWT_AUDIENCE: 'relay, https://relay.example',
    });
    const right = { ...VALID, iss: 'https://api.example/', aud: ['other', 'relay'] };
    expect((await strict.verify(await sign(right))).accountId).toBe('acc-1');
    const { iss, aud, ...bare } = right;
    const wrongIssuer = { ...right, iss: 'https://api.example' };
    await expectRefusal(strict.verify(await sign(wrongIssuer)), 'token_issuer', true);
    await expectRefusal(strict.verify(await sign({ ...bare, aud })), 'token_issuer', true);
    await expectRefusal(strict.verify(await sign({ ...right, aud: 'other' })), 'token_audience', true);
    await expectRefusal(strict.verify(await sign({ ...bare, iss })), 'token_audience', true);
  });

  test('of any issuer and audience is good when none is set', async () => {
    await verifier().verify(await sign({ ...VALID, iss: 'anyone', aud: 'anything' }));
  });

  test.each([
    ['nothing', ''],
    ['a word', 'token'],
    ['empty parts', '..'],
    ['a header that is no JSON', 'AAAA.AAAA.AAAA'],
    ['five parts', 'a.b.c.d.e'],
    ['other letters', 'ação.ação.ação'],
  ])('is malformed when it is %s', async (_, token) => {
    await expectRefusal(verifier().verify(token), 'token_malformed', true);
  });

  test('is malformed when its payload is no object', async () => {
    await expectRefusal(verifier().verify(await signText('["acc-1"]')), 'token_malformed', true);
    await expectRefusal(verifier().verify(await signText('not JSON')), 'token_malformed', true);
  });

  test('is malformed when it asks for an extension', async () => {
    const header = base64url.encode('{"alg":"HS256","crit":["x"],"x":1}');
    const [, body, signature] = (await sign(VALID)).split('.');
    await expectRefusal(verifier().verify(`${header}.${body}.${signature}`), 'token_malformed', true);
  });

  test('is refused over 8 KiB, unread', async () => {
    const token = await sign({ ...VALID, roles: 'x'.repeat(8192) });
    await expectRefusal(verifier().verify(token), 'token_too_long', true);
    await verifier().verify(await sign({ ...VALID, roles: 'x'.repeat(5000) }));
  });

  test('never shows in the message of its refusal', async () => {
    const token = await sign({ ...VALID, exp: SECONDS - 60 });
    expect((await refusal(verifier().verify(token))).message).not.toContain(token.slice(0, 20));
  });
});

/** A token issuer: a key set over HTTP on loopback, which can be taken down, broken and moved to new keys. */
interface Issuer {
  readonly url: string;
  /** Requests answered so far. */
  requests(): number;
  publish(...keys: JWK[]): void;
  /** Answers with this instead of the key set; null for never. */
  answerWith(status: number, body: string | null): void;
  /** Holds its answers, of the keys published by then, from now on. */
  hold(): { arrived: Promise<unknown>; release(): void };
  down(): Promise<void>;
  up(): Promise<void>;
}

const running = new Set<Server>();

afterEach(async () => {
  await Promise.all([...running].map(closed));
});

async function closed(server: Server): Promise<void> {
  running.delete(server);
  await new Promise((resolve) => {
    server.close(resolve);
    server.closeAllConnections();
  });
}

async function startIssuer(...keys: JWK[]): Promise<Issuer> {
  let requests = 0;
  let answers: { status: number; body: string | null } = { status: 200, body: JSON.stringify({ keys }) };
  const gate = new EventEmitter();
  let held = false;
  const listen = async (port: number) => {
    const server = createServer(async (request, response) => {
      requests += 1;
      const answer = answers;
      if (held) {
        gate.emit('arrived');
        await once(gate, 'released');
      }
      if (request.url === '/elsewhere') return response.end(JSON.stringify({ keys }));
      response.writeHead(answer.status, { connection: 'close', location: '/elsewhere' });
      return answer.body !== null ? response.end(answer.body) : response.flushHeaders();
    });
    running.add(server);
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject).listen(port, '127.0.0.1', resolve);
    });
    return server;
  };
  let server = await listen(0);
  const port = portOf(server);
  return {
    url: `http://127.0.0.1:${port}/jwks.json?key=hidden`,
    requests: () => requests,
    publish: (...published) => {
      answers = { status: 200, body: JSON.stringify({ keys: published }) };
    },
    answerWith: (status, body) => {
      answers = { status, body };
    },
    hold: () => {
      held = true;
      return {
        arrived: once(gate, 'arrived'),
        release: () => {
          held = false;
          gate.emit('released');
        },
      };
    },
    down: () => closed(server),
    up: async () => {
      server = await listen(port);
    },
  };
}

interface Signer {
  readonly jwk: JWK;
  sign(payload?: JWTPayload): Promise<string>;
  /** Without a kid in the header. */
  signUnnamed(payload?: JWTPayload): Promise<string>;
  readonly pem: string;
}

async function signer(alg: string, kid: string): Promise<Signer> {
  const { publicKey, privateKey } = await generateKeyPair(alg, { extractable: true });
  return {
    jwk: { ...(await exportJWK(publicKey)), kid, alg, use: 'sig' },
    sign: (payload = VALID) => sign(payload, privateKey, { alg, kid }),
    signUnnamed: (payload = VALID) => sign(payload, privateKey, { alg }),
    pem: await exportSPKI(publicKey),
  };
}

/** A verifier of the issuer's tokens, with a clock that moves when told to. */
function follow(issuer: Issuer, options: VerifierOptions = {}) {
  let elapsed = 0;
  const faults: string[] = [];
  const { verify } = createVerifier(settings({}, issuer.url), {
    now: () => NOW,
    elapsed: () => elapsed,
    onFault: (fault) => faults.push(fault.message),
    ...options,
  });
  return {
    verify,
    faults,
    pass: (milliseconds: number) => {
      elapsed += milliseconds;
    },
  };
}

const COOLDOWN = 10_000;
const MINUTE = 60_000;
const HOUR = 60 * MINUTE;

describe('a token signed with a key of the published set', () => {
  test.each(['RS256', 'PS256', 'ES256', 'ES384', 'EdDSA'])('is accepted with %s', async (alg) => {
    const key = await signer(alg, 'k1');
    const { verify } = follow(await startIssuer(key.jwk));
    expect((await verify(await key.sign())).accountId).toBe('acc-1');
  });

  test('is found among several, also when it does not name its key', async () => {
    const [a, b, c] = [await signer('ES256', 'a'), await signer('ES256', 'b'), await signer('RS256', 'c')];
    const { verify } = follow(await startIssuer(a.jwk, b.jwk, c.jwk));
    for (const key of [a, b, c]) {
      expect((await verify(await key.sign())).accountId).toBe('acc-1');
      expect((await verify(await key.signUnnamed())).accountId).toBe('acc-1');
    }
  });

  test('is judged by its claims, also when it does not name its key', async () => {
    const [a, b] = [await signer('ES256', 'a'), await signer('ES256', 'b')];
    const { verify } = follow(await startIssuer(a.jwk, b.jwk));
    const expired = { ...VALID, exp: SECONDS - 60 };
    await expectRefusal(verify(await b.sign(expired)), 'token_expired', true);
    await expectRefusal(verify(await b.signUnnamed(expired)), 'token_expired', true);
  });

  test('costs one fetch for many verifications', async () => {
    const key = await signer('ES256', 'k1');
    const issuer = await startIssuer(key.jwk);
    const { verify } = follow(issuer);
    const token = await key.sign();
    await Promise.all(Array.from({ length: 200 }, () => verify(token)));
    expect(issuer.requests()).toBe(1);
  });

  test('is refused when the public key, as text, was used as a shared secret', async () => {
    const key = await signer('RS256', 'k1');
    const { verify } = follow(await startIssuer(key.jwk));
    for (const secret of [key.pem, key.pem.trim(), JSON.stringify(key.jwk)]) {
      await expectRefusal(verify(await sign(VALID, encoded(secret), { kid: 'k1' })), 'token_signature', true);
    }
  });

  test('is refused with alg none, and when malformed, even while the set is out of reach', async () => {
    const issuer = await startIssuer();
    await issuer.down();
    const { verify } = follow(issuer);
    const none = `${base64url.encode('{"alg":"none"}')}.${base64url.encode(JSON.stringify(VALID))}.`;
    await expectRefusal(verify(none), 'token_signature', true);
    await expectRefusal(verify('a.b.c'), 'token_malformed', true);
  });

  test('is refused when another key was used under the name of a published one', async () => {
    const [right, forged] = [await signer('ES256', 'k1'), await signer('ES256', 'k1')];
    const issuer = await startIssuer(right.jwk);
    const { verify, pass } = follow(issuer);
    await verify(await right.sign());
    await expectRefusal(verify(await forged.sign()), 'token_signature', true);
    pass(COOLDOWN);
    await expectRefusal(verify(await forged.sign()), 'token_signature', true);
    expect(issuer.requests()).toBe(1);
  });

  test('is refused for good when a set read after it came does not have its key', async () => {
    const [published, unknown] = [await signer('ES256', 'k1'), await signer('ES256', 'k2')];
    const { verify } = follow(await startIssuer(published.jwk));
    await expectRefusal(verify(await unknown.sign()), 'token_signature', true);
    await expectRefusal(
      follow(await startIssuer(published.jwk)).verify(await unknown.signUnnamed()),
      'token_signature',
      true,
    );
  });

  test('is refused for now when its key cannot be used', async () => {
    const key = await signer('RS256', 'k1');
    const { verify } = follow(await startIssuer({ ...key.jwk, n: 'AQAB' }));
    await expectRefusal(verify(await key.sign()), 'jwks_unavailable', false);
  });
});

describe('key rotation', () => {
  test.each(['named', 'nameless'])(
    'a %s new key is found at once, the next one as soon as a fetch is allowed',
    async (naming) => {
      const [old, next, last] = [
        await signer('ES256', 'old'),
        await signer('ES256', 'new'),
        await signer('ES256', 'newer'),
      ];
      const issuer = await startIssuer(old.jwk);
      const { verify, pass } = follow(issuer);
      const signedBy = (key: Signer) => (naming === 'named' ? key.sign() : key.signUnnamed());
      await verify(await old.sign());
      issuer.publish(old.jwk, next.jwk);
      expect((await verify(await signedBy(next))).accountId).toBe('acc-1');
      expect(issuer.requests()).toBe(2);

      issuer.publish(next.jwk, last.jwk);
      await expectRefusal(verify(await signedBy(last)), 'jwks_unavailable', false);
      expect((await verify(await old.sign())).accountId).toBe('acc-1');
      expect(issuer.requests()).toBe(2);
      pass(COOLDOWN);
      expect((await verify(await signedBy(last))).accountId).toBe('acc-1');
      expect(issuer.requests()).toBe(3);
    },
  );

  test('a crowd whose key is gone is sent away by two fetches, not by one each', async () => {
    const [old, next] = [await signer('ES256', 'old'), await signer('ES256', 'new')];
    const issuer = await startIssuer(next.jwk);
    const { verify, pass } = follow(issuer);
    await verify(await next.sign());
    const crowd = await Promise.all(
      Array.from({ length: 20 }, (_, n) => old.sign({ ...VALID, accountId: n })),
    );
    const [first, ...others] = crowd;
    await expectRefusal(verify(first!), 'token_signature', true);
    for (const token of others) await expectRefusal(verify(token), 'jwks_unavailable', false);
    pass(COOLDOWN);
    for (const token of crowd) await expectRefusal(verify(token), 'token_signature', true);
    expect(issuer.requests()).toBe(4);
  });

  test('a token that joins a fetch already under way is not judged by it', async () => {
    const [old, next] = [await signer('ES256', 'old'), await signer('ES256', 'new')];
    const issuer = await startIssuer(old.jwk);
    const { verify, pass } = follow(issuer);
    const unknown = await (await signer('ES256', 'unknown')).sign();
    await verify(await old.sign());
    pass(COOLDOWN / 2);
    await refusal(verify(unknown));
    pass(COOLDOWN / 2);
    const { arrived, release } = issuer.hold();
    const first = refusal(verify(unknown));
    await arrived;
    issuer.publish(old.jwk, next.jwk);
    const token = await next.sign();
    const beganLater = refusal(verify(token));
    release();
    expect((await first).code).toBe('token_signature');
    expect(await beganLater).toMatchObject({ code: 'jwks_unavailable', permanent: false });
    pass(COOLDOWN);
    await verify(token);
  });

  test('a key taken out of the set stops working once the set is stale', async () => {
    const [stolen, next] = [await signer('ES256', 'stolen'), await signer('ES256', 'new')];
    const issuer = await startIssuer(stolen.jwk, next.jwk);
    const { verify, pass } = follow(issuer);
    await verify(await stolen.sign());
    issuer.publish(next.jwk);
    pass(10 * MINUTE + 1);
    // This one is answered from the set in hand and renews it; the key that only the wire has joins that fetch.
    await verify(await stolen.sign());
    const unknown = await signer('ES256', 'unknown');
    await refusal(verify(await unknown.sign()));
    await refusal(verify(await stolen.sign()));
    pass(COOLDOWN);
    await expectRefusal(verify(await stolen.sign()), 'token_signature', true);
  });
});

describe('an outage of the key set', () => {
  test.each([
    ['status 503', 503, null],
    ['a redirect', 302, ''],
    ['no JSON', 200, '<html>'],
    ['null', 200, 'null'],
    ['no key set', 200, '{"keys":"none"}'],
    ['an empty key set', 200, '{"keys":[]}'],
  ])('(%s) refuses tokens for now, and passes', async (_, status, body) => {
    const key = await signer('ES256', 'k1');
    const issuer = await startIssuer(key.jwk);
    // Without a body of its own the answer is the right one, so that only its status speaks against it.
    issuer.answerWith(status, body ?? JSON.stringify({ keys: [key.jwk] }));
    const { verify, pass, faults } = follow(issuer);
    await expectRefusal(verify(await key.sign()), 'jwks_unavailable', false);
    expect(faults).toHaveLength(1);
    expect(faults[0]).not.toContain('hidden');
    issuer.publish(key.jwk);
    pass(1_000);
    expect((await verify(await key.sign())).accountId).toBe('acc-1');
  });

  test('(nobody listens) refuses tokens for now, with the reason, and passes', async () => {
    const key = await signer('ES256', 'k1');
    const issuer = await startIssuer(key.jwk);
    await issuer.down();
    const { verify, pass } = follow(issuer);
    expect((await refusal(verify(await key.sign()))).message).toContain('ECONNREFUSED');
    await issuer.up();
    pass(1_000);
    expect((await verify(await key.sign())).accountId).toBe('acc-1');
  });

  test('(no answer) ends at the time limit', async () => {
    const key = await signer('ES256', 'k1');
    const issuer = await startIssuer();
    issuer.answerWith(200, null);
    const { verify } = follow(issuer, { fetchTimeout: 50 });
    await expectRefusal(verify(await key.sign()), 'jwks_unavailable', false);
  });

  test('is not made worse by a fetch per token', async () => {
    const key = await signer('ES256', 'k1');
    const issuer = await startIssuer();
    issuer.answerWith(500, '');
    const { verify, pass } = follow(issuer);
    const token = await key.sign();
    for (let n = 0; n < 20; n++) await expectRefusal(verify(token), 'jwks_unavailable', false);
    expect(issuer.requests()).toBe(1);
    pass(1_000);
    await expectRefusal(verify(token), 'jwks_unavailable', false);
    expect(issuer.requests()).toBe(2);
  });

  test('sends nobody away whose key is known, for a day', async () => {
    const key = await signer('ES256', 'k1');
    const issuer = await startIssuer(key.jwk);
    const { verify, pass, faults } = follow(issuer);
    const token = await key.sign();
    await verify(token);
    await issuer.down();
    for (let hour = 1; hour <= 23; hour++) {
      pass(HOUR);
      expect((await verify(token)).accountId).toBe('acc-1');
    }
    expect(faults.length).toBeGreaterThan(0);
    pass(HOUR + 1);
    await expectRefusal(verify(token), 'jwks_unavailable', false);
  });

  test('keeps the keys in hand when the endpoint answers nonsense', async () => {
    const key = await signer('ES256', 'k1');
    const issuer = await startIssuer(key.jwk);
    const { verify, pass } = follow(issuer);
    const token = await key.sign();
    await verify(token);
    issuer.answerWith(200, '{"keys":[]}');
    pass(HOUR);
    await verify(token);
    const unknown = await signer('ES256', 'k2');
    await expectRefusal(verify(await unknown.sign()), 'jwks_unavailable', false);
    expect((await verify(token)).accountId).toBe('acc-1');
  });
});

describe('bearerFrom', () => {
  test.each([
    ['auth.token', { token: 'abc' }, undefined, 'abc'],
    ['auth.token with the scheme', { token: 'bearer  abc ' }, undefined, 'abc'],
    ['the header', {}, 'Bearer abc', 'abc'],
    ['the header, in other letters', undefined, 'bEARER   abc', 'abc'],
    ['auth.token before the header', { token: 'abc' }, 'Bearer def', 'abc'],
    ['the header when auth.token is empty', { token: '' }, 'Bearer def', 'def'],
    ['the header when auth.token is null', { token: null }, 'Bearer def', 'def'],
  ])('reads %s', (_, auth, authorization, token) => {
    expect(bearerFrom({ auth, headers: { ...(authorization !== undefined && { authorization }) } })).toBe(
      token,
    );
  });

  test.each([
    [undefined, undefined],
    [null, ''],
    ['abc', undefined],
    [{}, 'Basic dXNlcjpwYXNz'],
    [{}, 'abc'],
    [{ token: ' ' }, 'Bearer'],
    [{ token: 'Bearer ' }, 'Bearer '],
  ])('misses a token in auth %j and header %j', async (auth, authorization) => {
    const attempt = async () =>
      bearerFrom({ auth, headers: { ...(authorization !== undefined && { authorization }) } });
    await expectRefusal(attempt(), 'token_missing', true);
  });

  test.each([[42], [{}], [['abc']], [true]])('refuses auth.token %j', async (token) => {
    await expectRefusal(
      (async () => bearerFrom({ auth: { token }, headers: {} }))(),
      'token_malformed',
      true,
    );
  });
});

describe('signToken', () => {
  test('makes what the verifier accepts, each with an id of its own', async () => {
    const env = { JWT_ISSUER: 'me', JWT_AUDIENCE: 'a,b', JWT_ACCOUNT_CLAIM: 'tenant' };
    const { verify } = createVerifier(settings(env));
    const options = {
      ...{ secret: SECRET, accountId: 'acc-1', expiresIn: 60, claim: 'tenant' },
      ...{ subject: 'me', issuer: 'me', audience: ['b'] },
    };
    const [one, two] = [await verify(await signToken(options)), await verify(await signToken(options))];
    expect(one).toMatchObject({ accountId: 'acc-1', subject: 'me' });
    expect(one.expiresAt - (one.issuedAt ?? 0)).toBe(60_000);
    expect(one.tokenId).not.toBe(two.tokenId);
  });

  test('makes a token without subject, issuer and audience', async () => {
    const token = await signToken({ secret: SECRET, accountId: '7', expiresIn: 60, claim: 'sub' });
    const { verify } = createVerifier(settings({ JWT_ACCOUNT_CLAIM: 'sub' }));
    expect(await verify(token)).toMatchObject({ accountId: '7', subject: '7' });
  });

  test('writes claims where the verifier and others look for them', async () => {
    const options = { secret: SECRET, accountId: '7', expiresIn: 60, topics: ['reception'] };
    const paths = { claim: 'app_metadata.tenant', topicsClaim: 'app_metadata.topics' };
    const nested = await signToken({ ...options, ...paths });
    expect(decodeJwt(nested)).toMatchObject({ app_metadata: { tenant: '7', topics: ['reception'] } });
    const env = { JWT_ACCOUNT_CLAIM: paths.claim, JWT_TOPICS_CLAIM: paths.topicsClaim };
    const identity = await createVerifier(settings(env)).verify(nested);
    expect([identity.accountId, [...identity.topics.names]]).toEqual(['7', ['reception']]);
    const uri = 'https://clinic.example/account';
    const named = decodeJwt(await signToken({ ...options, claim: uri }));
    expect(named).toMatchObject({ [uri]: '7', topics: ['reception'] });
  });

  test('refuses an account that the verifier would refuse', async () => {
    const attempt = signToken({ secret: SECRET, accountId: '', expiresIn: 60, claim: 'accountId' });
    await expectRefusal(attempt, 'token_claim', true);
  });
});

describe('parseDuration', () => {
  test.each([
    ['90s', 90],
    ['30m', 1_800],
    ['1h', 3_600],
    ['2d', 172_800],
    [' 3650d ', 315_360_000],
  ])('reads %j as %i seconds', (text, seconds) => {
    expect(parseDuration(text)).toBe(seconds);
  });

  test.each(['', '90', 'h', '0s', '-1h', '1.5h', '1w', '1h30m', '1e3s', '3651d', '99999999999d'])(
    'refuses %j',
    (text) => {
      expect(() => parseDuration(text)).toThrow(
        expect.objectContaining({ code: 'duration_invalid', message: expect.stringContaining(`"${text}"`) }),
      );
    },
  );
});
