// The comparison of what a page saw with what is committed, where the database was put back to what it had been.
import { compareViewing } from './compare.ts';
import { eventKey, Ledger, type Outcome } from './ledger.ts';
import { Verdict } from './report.ts';
import type { Refetch, Viewing } from './viewing.ts';

interface Course {
  closed?: boolean;
  /** Why the page was told to refetch, after each event that it heard. */
  refetches?: readonly string[];
  /** When the page had an event of the other history: in its first list, or heard. */
  other?: 'listed' | 'heard before' | 'heard after';
  outcome?: Outcome;
  /** When the database was put back to what it had been then; nothing: never. */
  restoredTo?: 'before the write' | 'after the write' | 'another time, before the write was sent';
}

/** What is said of a page that saw an event which is not there at the end. */
function judge({
  closed,
  refetches = [],
  other,
  outcome = 'committed',
  restoredTo = 'before the write',
}: Course): number {
  const ledger = new Ledger();
  const write = (row: number, end: Outcome) => {
    const transaction = ledger.begin(1, 'plain');
    const key = eventKey(row, ledger.stamp(transaction));
    ledger.end(transaction, end);
    return key;
  };
  const began = ledger.now;
  write(6, 'committed');
  const early = ledger.now;
  const key = write(7, outcome);
  const late = ledger.now;
  write(6, 'committed');
  const undone = {
    'before the write': { after: early, before: ledger.now },
    'after the write': { after: late, before: ledger.now },
    'another time, before the write was sent': { after: began, before: early },
  }[restoredTo];
  const later = write(8, 'committed');
  const seen = { listed: [key], 'heard before': [later, key], 'heard after': [key, later] }[
    other ?? 'listed'
  ];
  const viewing: Viewing = {
    ...{ name: 'a page', account: '1', kind: 'browser', seen, heardAt: seen.map(() => 0) },
    known: new Set(other === 'listed' ? [later] : []),
    refetches: refetches.map(
      (reason, index): Refetch => ({ reason, ageMs: 0, after: index + 1, list: new Set() }),
    ),
    ...{ turns: [], connections: [], closedAt: closed ? 1_000 : Number.POSITIVE_INFINITY },
  };
  const verdict = new Verdict();
  const committed = new Map([[later, { accounts: ['1'], row: 8, version: 1, optional: false }]]);
  compareViewing(viewing, committed, ledger, verdict, [undone]);
  return verdict.counts.get('uncommitted') ?? -1;
}

test('a page that stayed must have been told of another history', () => {
  expect(judge({})).toBe(1);
  expect(judge({ refetches: ['retention'] })).toBe(1);
  expect(judge({ refetches: ['epoch'] })).toBe(0);
});

test('a page that stayed must have been told before it heard anything of the other history', () => {
  expect(judge({ refetches: ['epoch'], other: 'heard after' })).toBe(0);
  expect(judge({ refetches: ['retention', 'epoch'], other: 'heard after' })).toBe(1);
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

describe.each(['committed', 'unknown'] as const)('a write whose outcome is "%s"', (outcome) => {
  test.each([{ refetches: ['epoch'] }, { closed: true }])(
    'is excused only by a restore to a state before it: %j',
    (course) => {
      expect(judge({ outcome, ...course })).toBe(0);
      expect(judge({ outcome, ...course, restoredTo: 'after the write' })).toBe(1);
      expect(judge({ outcome, ...course, restoredTo: 'another time, before the write was sent' })).toBe(1);
    },
  );
});

test('a write that was rolled back was never there to be undone', () => {
  expect(judge({ outcome: 'rolled back', refetches: ['epoch'] })).toBe(1);
});
