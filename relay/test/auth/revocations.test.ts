// Which tokens a revocation refuses: iat counts whole seconds, a revocation does not.
import pg from 'pg';
import { Revocations } from '../../auth/revocations.ts';
import type { Identity } from '../../auth/token.ts';
import { NO_TOPICS } from '../../auth/topics.ts';

const SECOND = 1_750_000_000_000;

async function revoked(row: { subject?: string; token_id?: string; before: number }): Promise<Revocations> {
  const revocations = new Revocations();
  const rows = [{ account_id: 'a', subject: null, token_id: null, topic: null, ...row }];
  const session = Object.assign(new pg.Client(), { query: async () => ({ rows }) });
  await revocations.read(session, null);
  return revocations;
}

const token = (issuedAt: number | null, more: Partial<Identity> = {}): Identity => ({
  accountId: 'a',
  expiresAt: SECOND * 2,
  refusedFrom: SECOND * 2,
  issuedAt,
  subject: '7',
  tokenId: 't',
  topics: NO_TOPICS,
  ownTopic: 'user:7',
  ...more,
});

test('a token issued in the second of the revocation may have been issued after it, and is good', async () => {
  const revocations = await revoked({ before: SECOND + 400 });
  expect(revocations.refuses(token(SECOND))).toBe(false);
  expect(revocations.refuses(token(SECOND - 1_000))).toBe(true);
  expect(revocations.refuses(token(null))).toBe(true);
});

test('a token that is revoked by its id is refused, even if it was issued in the same second', async () => {
  const revocations = await revoked({ token_id: 't', before: SECOND + 400 });
  expect(revocations.refuses(token(SECOND))).toBe(true);
  expect(revocations.refuses(token(SECOND, { tokenId: 'other' }))).toBe(false);
});
