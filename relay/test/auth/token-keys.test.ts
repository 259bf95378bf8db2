// Tokens that are signed with a key of a published set: its rotation and its outages.
import { base64url } from 'jose';
import { follow, type Signer, signer, startIssuer } from './issuer.ts';
import { encoded, expectRefusal, refusal, SECONDS, sign, VALID } from './tokens.ts';

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

  test('twenty tokens whose key is gone cost at most two fetches in each cooldown, not one each', async () => {
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
    // This token is verified with the stale set, and starts a fetch; the token of an unknown key joins that fetch.
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
