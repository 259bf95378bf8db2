// Tokens that are signed with the shared secret.
import { createHmac } from 'node:crypto';
import { base64url } from 'jose';
import { bearerFrom, createVerifier } from '../../auth/token.ts';
import { NO_TOPICS } from '../../auth/topics.ts';
import {
  encoded,
  expectRefusal,
  NOW,
  refusal,
  SECONDS,
  SECRET,
  settings,
  sign,
  signText,
  VALID,
  verifier,
} from './tokens.ts';

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

  test('whose exp is too far in the past for a Date is refused as expired', async () => {
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
