import type { JWTPayload } from 'jose';
import { expectRefusal, refusal, SECONDS, sign, VALID, verifier } from './tokens.ts';

describe('a token signed with the shared secret', () => {
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

  test('may carry the account along a path, but a claim of exactly that name comes first', async () => {
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
});
