// What a run found: violations, which must be zero, and figures.
import type { Figures, Viewing } from './viewing.ts';

/** What must be zero. */
const VIOLATIONS = [
  'missing',
  'twice',
  'out of order',
  'leaked',
  'uncommitted',
  'lost by the database',
  'late',
  'too few timed',
  'resyncs',
  'complaints',
] as const;
type Violation = (typeof VIOLATIONS)[number];

export class Verdict {
  readonly counts = new Map<Violation, number>(VIOLATIONS.map((violation) => [violation, 0]));
  /** The first few of each, for whoever looks for the reason. */
  readonly examples: string[] = [];

  add(violation: Violation, example: string): void {
    const count = this.counts.get(violation)! + 1;
    this.counts.set(violation, count);
    if (count <= 5) this.examples.push(`${violation}: ${example}`);
  }

  get clean(): boolean {
    return [...this.counts.values()].every((count) => count === 0);
  }
}

/** @param live reasons that come up during a run: a connection that was right to say it recovered may be told of them */
export function addComplaints(
  { name, figures }: Pick<Witness, 'name' | 'figures'>,
  verdict: Verdict,
  live: ReadonlySet<string> = new Set(),
): void {
  for (const reason of figures.contradictions.splice(0)) {
    if (live.has(reason)) continue;
    verdict.add(
      'complaints',
      `${name} was told to refetch (${reason}) on a connection that says it recovered`,
    );
  }
  for (const complaint of figures.complaints.splice(0)) verdict.add('complaints', `${name} ${complaint}`);
}

/** A line of the table that a run ends with. */
export type Figure = readonly [label: string, value: string | number];

export interface Witness {
  readonly name: string;
  readonly figures: Figures;
  readonly viewings: readonly Viewing[];
}

export function figuresOf(clients: readonly Witness[]): Figure[] {
  const sum = (of: (client: Witness) => number) => clients.reduce((total, client) => total + of(client), 0);
  const heard = (client: Witness) => client.viewings.reduce((total, { seen }) => total + seen.length, 0);
  return [
    ['clients', clients.length],
    ['deliveries', sum(heard)],
    ['connects', sum(({ figures }) => figures.connects)],
    ['  recovered', sum(({ figures }) => figures.recovered)],
  ];
}

/** Two columns, aligned. */
export function renderTable(rows: readonly Figure[]): string {
  const width = Math.max(...rows.map(([label]) => label.length));
  return rows.map(([label, value]) => `  ${label.padEnd(width)}  ${value}`).join('\n');
}
