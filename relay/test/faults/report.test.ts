// A connection that says it recovered must not begin with a refetch, unless the reason came up while it was live.

import { addComplaints, Verdict } from './report.ts';
import type { Figures } from './viewing.ts';

const witnessOf = (...contradictions: string[]): { name: string; figures: Figures } => ({
  name: 'a page',
  figures: { connects: 1, recovered: 1, changes: 0, resyncs: new Map(), contradictions, complaints: [] },
});

test('a refetch on a connection that says it recovered is complained of once', () => {
  const verdict = new Verdict();
  const witness = witnessOf('epoch');
  addComplaints(witness, verdict);
  addComplaints(witness, verdict);
  expect(verdict.counts.get('complaints')).toBe(1);
});

test('a refetch for an epoch is excused where the database may go back in time during the connection', () => {
  const verdict = new Verdict();
  addComplaints(witnessOf('epoch', 'retention'), verdict, new Set(['epoch']));
  expect(verdict.examples).toEqual([
    'complaints: a page was told to refetch (retention) on a connection that says it recovered',
  ]);
});
