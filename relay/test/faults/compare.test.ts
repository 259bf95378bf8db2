// The comparison of what a page saw with what is committed, where the database was put back to what it had been.
import { compareViewing } from './compare.ts';
import { eventKey, Ledger } from './ledger.ts';
import type { Refetch, Viewing } from './page.ts';
import { Verdict } from './report.ts';

const TOLD_AT = 1_000;

/** What is said of a page that saw an event which was committed, and undone afterwards. */
function judge(page: { closedAt?: number; refetches?: readonly string[] }): number {
  const ledger = new Ledger();
  const after = ledger.now;
  const transaction = ledger.begin(1, 'plain');
  const key = eventKey(7, ledger.stamp(transaction));
  ledger.end(transaction, 'committed');
  const undone = [{ after, before: ledger.now, toldAt: TOLD_AT }];
  const refetches = (page.refetches ?? []).map(
    (reason): Refetch => ({ reason, ageMs: 0, after: 1, list: new Set() }),
  );
  const viewing: Viewing = {
    ...{ name: 'a page', account: '1', kind: 'browser', known: new Set(), seen: [key], heardAt: [0] },
    ...{ refetches, turns: [], connections: [], closedAt: page.closedAt ?? Number.POSITIVE_INFINITY },
  };
  const verdict = new Verdict();
  compareViewing(viewing, new Map(), ledger, verdict, undone);
  return verdict.counts.get('uncommitted') ?? -1;
}

test('a page that stayed must have been told of another history', () => {
  expect(judge({})).toBe(1);
  expect(judge({ refetches: ['retention'] })).toBe(1);
  expect(judge({ refetches: ['epoch'] })).toBe(0);
});

test('a page that was closed need not, unless there was time to tell it', () => {
  expect(judge({ closedAt: TOLD_AT - 1 })).toBe(0);
  expect(judge({ closedAt: TOLD_AT })).toBe(1);
});
