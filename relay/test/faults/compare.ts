// The comparison: what the handlers of every page saw, with what the database committed for its account.
import { mayHear } from './audiences.ts';
import { isFlicker, isVisit } from './database.ts';
import { type EventKey, eventKey, type Ledger, nameOf, rowOf, type Statement } from './ledger.ts';
import type { Verdict } from './report.ts';
import type { Server } from './server.ts';
import type { Viewing } from './viewing.ts';

export interface Committed {
  readonly row: number;
  readonly accounts: readonly string[];
  readonly version: number;
  /** Its event left the contract during the run, or was suspended: it need not be heard. */
  readonly optional: boolean;
}

/** The database was put back to what it had been: what was committed between is undone. By the ledger's clock. */
export interface Undone {
  readonly after: number;
  readonly before: number;
}

/**
 * Every event that committed, as the journal has it that the writers keep. Of a table whose event is suspended from
 * time to time, only what the outbox still has must be heard.
 */
export async function readCommitted(server: Server): Promise<Map<EventKey, Committed>> {
  const rows = await server.query<{ account: string; row: number; stamp: number; version: number }>(
    'select account, row, stamp::int, version::int from shop.journal',
  );
  const captured = await server.query<{ row: number; stamp: number }>(
    `select (payload ->> 'row')::int as row, (payload ->> 'stamp')::int as stamp
       from relay.events where event = 'visits.changed'`,
  );
  const visits = new Set(captured.map(({ row, stamp }) => eventKey(row, stamp)));
  const committed = new Map<EventKey, Committed>();
  for (const { account, row, stamp, version } of rows) {
    const key = eventKey(row, stamp);
    const accounts = [...(committed.get(key)?.accounts ?? []), account];
    const optional = isFlicker(row) || (isVisit(row) && !visits.has(key));
    committed.set(key, { accounts, row, version, optional });
  }
  return committed;
}

/** Whether the database kept its word to the writers; if not, nothing can be said about the relay. */
export function compareLedger(
  ledger: Ledger,
  committed: Map<EventKey, Committed>,
  verdict: Verdict,
  undone: readonly Undone[] = [],
): void {
  for (const { outcome, keys, kind, acknowledged } of ledger.transactions) {
    if (undone.some(({ after, before }) => acknowledged > after && acknowledged <= before)) continue;
    for (const key of keys) {
      if (outcome === 'committed' && !committed.has(key) && !isVisit(rowOf(key))) {
        verdict.add('lost by the database', `${nameOf(key)} of an acknowledged "${kind}"`);
      }
      if (outcome === 'rolled back' && committed.has(key)) {
        verdict.add('uncommitted', `${nameOf(key)} of a "${kind}" that was rolled back did commit`);
      }
    }
  }
}

export function compareViewing(
  viewing: Viewing,
  committed: Map<EventKey, Committed>,
  ledger: Ledger,
  verdict: Verdict,
  undone: readonly Undone[] = [],
): void {
  const { name, account, kind, known, seen, refetches, turns, closedAt } = viewing;
  const versions = new Map<number, number>();
  for (const key of known) {
    const event = committed.get(key);
    if (event) versions.set(event.row, Math.max(event.version, versions.get(event.row) ?? 0));
  }
  const had = new Set<EventKey>();
  let latest: { sent: number; key: EventKey } = { sent: -1, key: -1 };
  let told = 0;
  let turned = 0;
  let topics: readonly string[] = [];
  seen.forEach((key, index) => {
    for (; refetches[told] && refetches[told]!.after <= index; told += 1) {
      // Another history: its versions have nothing to do with those before.
      if (refetches[told]!.reason === 'epoch') versions.clear();
    }
    for (; turns[turned] && turns[turned]!.after <= index; turned += 1) topics = turns[turned]!.topics;
    const event = committed.get(key);
    const statement = ledger.statement(key);
    if (had.has(key) || known.has(key)) {
      verdict.add('twice', `${name} saw ${nameOf(key)} again${known.has(key) ? ' that its list had' : ''}`);
      return;
    }
    had.add(key);
    if (!event) {
      if (statement && isExcused(viewing, index, statement, ledger, undone)) return;
      verdict.add(
        'uncommitted',
        `${name} saw ${nameOf(key)} of a "${statement?.transaction.kind}", which is not there`,
      );
      return;
    }
    if (!event.accounts.includes(account)) {
      verdict.add('leaked', `${name} saw ${nameOf(key)} of ${event.accounts.join(' and ')}`);
    } else if (!mayHear(kind, topics, event.row)) {
      verdict.add('leaked', `${name} saw ${nameOf(key)}, which is not for ${topics.join() || 'no topic'}`);
    }
    const before = versions.get(event.row) ?? 0;
    if (event.version <= before) {
      verdict.add('out of order', `${name} saw version ${event.version} of row ${event.row} after ${before}`);
    }
    versions.set(event.row, Math.max(event.version, before));
    // Captured after this one was committed, and yet heard before it?
    if (!statement) return;
    if (latest.sent > statement.transaction.acknowledged) {
      verdict.add(
        'out of order',
        `${name} saw ${nameOf(key)} after ${nameOf(latest.key)}, captured after its commit`,
      );
    }
    if (statement.sent > latest.sent) latest = { sent: statement.sent, key };
  });
  if (closedAt < Number.POSITIVE_INFINITY) return;
  // What a client was not sent lies behind a resync: it is in the list that it loaded then. So is what it had a topic
  // for that it has no more.
  const lastTopics = turns.at(-1)?.topics ?? [];
  const listed = refetches.map(({ list }) => list).filter((list) => list !== null);
  for (const [key, event] of committed) {
    if (!event.accounts.includes(account) || event.optional || had.has(key) || known.has(key)) continue;
    if (!mayHear(kind, lastTopics, event.row)) continue;
    if (listed.some((list) => list.has(key))) continue;
    const deed = ledger.statement(key)?.transaction.kind ?? 'mark';
    verdict.add('missing', `${name} never saw ${nameOf(key)}, a "${deed}"`);
  }
}

/**
 * Whether what the page heard there was committed once and undone since. Then the page was told of another history
 * before it had anything of it; or it was closed before, since a link may have been cut until then.
 */
function isExcused(
  { known, seen, refetches, closedAt }: Viewing,
  index: number,
  { sent, transaction }: Statement,
  ledger: Ledger,
  undone: readonly Undone[],
): boolean {
  if (transaction.outcome === 'rolled back') return false;
  const told = refetches.find(({ reason, after }) => reason === 'epoch' && after > index);
  if (!told && closedAt === Number.POSITIVE_INFINITY) return false;
  const had = [...known, ...seen.slice(0, told?.after)];
  return undone.some(
    ({ after, before }) =>
      sent <= before &&
      transaction.ended > after &&
      had.every((key) => (ledger.statement(key)?.sent ?? 0) <= before),
  );
}
