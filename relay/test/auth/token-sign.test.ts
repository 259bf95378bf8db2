// Tokens that recado token makes.
import { decodeJwt } from 'jose';
import { parseDuration, signToken } from '../../auth/sign.ts';
import { createVerifier } from '../../auth/token.ts';
import { expectRefusal, SECRET, settings } from './tokens.ts';

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
