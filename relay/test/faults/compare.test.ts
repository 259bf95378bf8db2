// The comparison of what a page saw with what is committed, where the database was put back to what it had been.
import { compareViewing } from './compare.ts';
import { eventKey, Ledger } from './ledger.ts';
import type { Refetch, Viewing } from './page.ts';
import { Verdict } from './report.ts';

interface Course {
  closed?: boolean;
  refetches?: readonly string[];
  /** When the page had an event of the other history: in its first list, or heard. */
  other?: 'listed' | 'heard before' | 'heard after';
}

/** What is said of a page that saw an event which was committed, and undone afterwards. */
function judge({ closed, refetches = [], other }: Course): number {
  const ledger = new Ledger();
  const after = ledger.now;
  const transaction = ledger.begin(1, 'plain');
  const key = eventKey(7, ledger.stamp(transaction));
  ledger.end(transaction, 'committed');
  const undone = [{ after, before: ledger.now }];
  const next = ledger.begin(1, 'plain');
  const later = eventKey(8, ledger.stamp(next));
  ledger.end(next, 'committed');
  const seen = { listed: [key], 'heard before': [later, key], 'heard after': [key, later] }[
    other ?? 'listed'
  ];
  const viewing: Viewing = {
    ...{ name: 'a page', account: '1', kind: 'browser', seen, heardAt: seen.map(() => 0) },
    known: new Set(other === 'listed' ? [later] : []),
    refetches: refetches.map((reason): Refetch => ({ reason, ageMs: 0, after: 1, list: new Set() })),
    ...{ turns: [], connections: [], closedAt: closed ? 1_000 : Number.POSITIVE_INFINITY },
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

test('a page that was closed need not, unless it had something of the other history', () => {
  expect(judge({ closed: true })).toBe(0);
  expect(judge({ closed: true, other: 'heard after' })).toBe(1);
  expect(judge({ closed: true, other: 'heard after', refetches: ['epoch'] })).toBe(0);
});

test('what is undone is not for a page of the other history', () => {
  expect(judge({ closed: true, other: 'heard before' })).toBe(1);
  expect(judge({ closed: true, other: 'listed' })).toBe(1);
});
