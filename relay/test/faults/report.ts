// The comparison: what the handlers of every page saw, with what the database committed for its account.
import type { Client, Viewing } from './clients.ts';
import { type EventKey, eventKey, type Ledger, nameOf } from './ledger.ts';
import type { Server } from './server.ts';

export interface Committed {
  readonly row: number;
  readonly account: string;
  readonly version: number;
}

/** What must be zero. */
const VIOLATIONS = [
  'missing',
  'twice',
  'out of order',
  'leaked',
  'uncommitted',
  'lost by the database',
  'late',
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

/** Every event that committed: the rows of the outbox that a new snapshot sees. */
export async function readCommitted(server: Server, verdict: Verdict): Promise<Map<EventKey, Committed>> {
  const rows = await server.query<{
    account: string;
    row: number;
    stamp: number;
    version: number;
    event: string;
  }>(
    `select account_id as account, event, (payload ->> 'row')::int as row, (payload ->> 'stamp')::int as stamp,
            (payload ->> 'version')::int as version
       from relay.events where event not like 'relay:%' order by id`,
  );
  const committed = new Map<EventKey, Committed>();
  for (const { account, row, stamp, version, event } of rows) {
    const key = eventKey(row, stamp);
    if (committed.has(key)) verdict.add('complaints', `${event} was captured twice for ${nameOf(key)}`);
    committed.set(key, { account, row, version });
  }
  return committed;
}

/** Whether the database kept its word to the writers; if not, nothing can be said about the relay. */
export function compareLedger(ledger: Ledger, committed: Map<EventKey, Committed>, verdict: Verdict): void {
  for (const { outcome, keys, kind } of ledger.transactions) {
    for (const key of keys) {
      if (outcome === 'committed' && !committed.has(key)) {
        verdict.add('lost by the database', `${nameOf(key)} of an acknowledged "${kind}"`);
      }
      if (outcome === 'rolled back' && committed.has(key)) {
        verdict.add('uncommitted', `${nameOf(key)} of a "${kind}" that was rolled back is in the outbox`);
      }
    }
  }
}

export function compareViewing(
  viewing: Viewing,
  committed: Map<EventKey, Committed>,
  ledger: Ledger,
  verdict: Verdict,
): void {
  const { name, account, known, seen } = viewing;
  const versions = new Map<number, number>();
  for (const key of known) {
    const event = committed.get(key);
    if (event) versions.set(event.row, Math.max(event.version, versions.get(event.row) ?? 0));
  }
  const had = new Set<EventKey>();
  let latest: { sent: number; key: EventKey } = { sent: -1, key: -1 };
  for (const key of seen) {
    const event = committed.get(key);
    if (!event) {
      verdict.add('uncommitted', `${name} saw ${nameOf(key)}, which is not in the outbox`);
      continue;
    }
    if (event.account !== account) verdict.add('leaked', `${name} saw ${nameOf(key)} of ${event.account}`);
    if (had.has(key) || known.has(key)) {
      verdict.add('twice', `${name} saw ${nameOf(key)} again${known.has(key) ? ' that its list had' : ''}`);
      continue;
    }
    had.add(key);
    const before = versions.get(event.row) ?? 0;
    if (event.version <= before) {
      verdict.add('out of order', `${name} saw version ${event.version} of row ${event.row} after ${before}`);
    }
    versions.set(event.row, Math.max(event.version, before));
    // Captured after this one was committed, and yet heard before it?
    const statement = ledger.statement(key);
    if (!statement) continue;
    if (latest.sent > statement.transaction.acknowledged) {
      verdict.add(
        'out of order',
        `${name} saw ${nameOf(key)} after ${nameOf(latest.key)}, captured after its commit`,
      );
    }
    if (statement.sent > latest.sent) latest = { sent: statement.sent, key };
  }
  if (!viewing.complete) return;
  for (const [key, event] of committed) {
    if (event.account === account && !had.has(key) && !known.has(key)) {
      const kind = ledger.statement(key)?.transaction.kind ?? 'mark';
      verdict.add('missing', `${name} never saw ${nameOf(key)}, a "${kind}"`);
    }
  }
}

/** A line of the table that a run ends with. */
export type Figure = readonly [label: string, value: string | number];

export function figuresOf(clients: readonly Client[]): Figure[] {
  const sum = (of: (client: Client) => number) => clients.reduce((total, client) => total + of(client), 0);
  const heard = (client: Client) => client.viewings.reduce((total, { seen }) => total + seen.length, 0);
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
