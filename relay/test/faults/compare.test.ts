// The comparison of what a page saw with what is committed, where the database was put back to what it had been.
import { compareViewing } from './compare.ts';
import { eventKey, Ledger } from './ledger.ts';
import type { Refetch, Viewing } from './page.ts';
import { Verdict } from './report.ts';

/** What is said of a page that saw an event which was committed, and undone afterwards. */
function judge(page: { closed?: boolean; refetches?: readonly string[]; heardMore?: boolean }): number {
  const ledger = new Ledger();
  const after = ledger.now;
  const transaction = ledger.begin(1, 'plain');
  const key = eventKey(7, ledger.stamp(transaction));
  ledger.end(transaction, 'committed');
  const undone = [{ after, before: ledger.now }];
  const next = ledger.begin(1, 'plain');
  const later = eventKey(8, ledger.stamp(next));
  ledger.end(next, 'committed');
  const seen = page.heardMore ? [key, later] : [key];
  const closedAt = page.closed ? 1_000 : Number.POSITIVE_INFINITY;
  const refetches = (page.refetches ?? []).map(
    (reason): Refetch => ({ reason, ageMs: 0, after: 1, list: new Set() }),
  );
  const viewing: Viewing = {
    ...{ name: 'a page', account: '1', kind: 'browser', known: new Set(), seen, heardAt: seen.map(() => 0) },
    ...{ refetches, turns: [], connections: [], closedAt },
  };
  const verdict = new Verdict();
  const committed = new Map([[later, { accounts: ['1'], row: 8, version: 1, optional: false }]]);
  compareViewing(viewing, committed, ledger, verdict, undone);
  return verdict.counts.get('uncommitted') ?? -1;
}

test('a page that stayed must have been told of another history', () => {
  expect(judge({})).toBe(1);
  expect(judge({ refetches: ['retention'] })).toBe(1);
  expect(judge({ refetches: ['epoch'] })).toBe(0);
});

test('a page that was closed need not, unless it heard something of the other history', () => {
  expect(judge({ closed: true })).toBe(0);
  expect(judge({ closed: true, heardMore: true })).toBe(1);
  expect(judge({ closed: true, heardMore: true, refetches: ['epoch'] })).toBe(0);
});
