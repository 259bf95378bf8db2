// What counts as late, and that a run fails in which too little was timed.
import { Disturbances } from './disturbances.ts';
import { Lateness } from './lateness.ts';
import { eventKey, Ledger } from './ledger.ts';
import { Machine } from './machine.ts';
import { Verdict } from './report.ts';
import type { Viewing } from './viewing.ts';

/** A page that heard one event of each transaction, so many milliseconds after its commit. */
function viewingOf(ledger: Ledger, delays: readonly number[]): Viewing {
  const seen: number[] = [];
  const heardAt: number[] = [];
  for (const [row, delay] of delays.entries()) {
    const transaction = ledger.begin(1, 'plain');
    seen.push(eventKey(row + 1, ledger.stamp(transaction)));
    ledger.end(transaction, 'committed');
    heardAt.push(transaction.acknowledgedAt + delay);
  }
  return {
    ...{
      name: 'a page',
      account: '1',
      kind: 'browser',
      known: new Set(),
      refetches: [],
      turns: [],
      connections: [],
    },
    ...{ seen, heardAt, closedAt: Number.POSITIVE_INFINITY },
  };
}

function countsOf(delays: readonly number[], disturbances: Disturbances) {
  const ledger = new Ledger();
  const verdict = new Verdict();
  const lateness = new Lateness(ledger, disturbances, new Machine(() => []));
  lateness.compare(viewingOf(ledger, delays), verdict);
  lateness.insist(1_000, verdict);
  return { late: verdict.counts.get('late'), 'too few timed': verdict.counts.get('too few timed') };
}

const hundred = Array.from({ length: 100 }, () => 10);

test('an event is late after a second and a half', () => {
  expect(countsOf([...hundred, 1_500, 1_501], new Disturbances())).toEqual({ late: 1, 'too few timed': 0 });
});

test('a run in which fewer than a hundred deliveries a second of rest were timed fails', () => {
  expect(countsOf(hundred.slice(1), new Disturbances())).toEqual({ late: 0, 'too few timed': 1 });
});

test('what a fault was in the way of is not timed', async () => {
  const disturbances = new Disturbances();
  await disturbances.during('everybody', 10_000, async () => undefined);
  expect(countsOf([...hundred, 3_000], disturbances)).toEqual({ late: 0, 'too few timed': 1 });
});
