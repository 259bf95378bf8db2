// Decides what an edge does with an entry: a pure function, without stream or clock. Snapshots of one history are
// ordered by what they see, so the rule holds whatever the stream does: repeated, reordered or missing entries, and
// entries of two hubs at once. docs/decisions/hub-and-edges.md tells how simpler rules failed.
import type { OutboxEvent } from '../outbox/events.ts';
import { covers, type Snapshot, sees, union } from '../outbox/position.ts';
import type { Entry } from './entry.ts';

/** How far an edge is. */
export interface Place {
  /** Epoch and server, as read from the database itself. */
  readonly epoch: string;
  readonly server: string;
  /** What the edge has handed on. */
  readonly seen: Snapshot;
}

export type Ruling =
  /**
   * From another history, or another run of the server. The edge asks the database which one is current, and judges
   * again. It ignores the entry if it is still foreign.
   */
  | { readonly is: 'foreign' }
  /** The edge has seen all of it. */
  | { readonly is: 'old' }
  /** Something before it is missing: the edge reads the database. */
  | { readonly is: 'gap' }
  /** The edge hands it on. */
  | (Step & { readonly is: 'next' });

/** From one snapshot to the next. A client's position inside it is (seen, bound, event id), and after it bound. */
export interface Step {
  readonly seen: Snapshot;
  readonly bound: Snapshot;
  /**
   * In the order of their ids. If accounts are elsewhere, a transaction's last event may be missing, so a witness must
   * come from `bound`, never from these.
   */
  readonly events: readonly OutboxEvent[];
  /** Accounts whose subscribers read their events of this step from the table. */
  readonly elsewhere: readonly string[] | 'all';
}

export function judge({ epoch, server, seen }: Place, entry: Entry): Ruling {
  if (entry.epoch !== epoch || entry.server !== server || contradicts(seen, entry.bound)) {
    return { is: 'foreign' };
  }
  if (covers(seen, entry.bound)) return { is: 'old' };
  if (!covers(seen, entry.seen)) return { is: 'gap' };
  return {
    is: 'next',
    seen,
    // Not the entry's own bound, since an edge that has read the database may be ahead of it in part.
    bound: union(seen, entry.bound),
    events: entry.events.filter(({ xid }) => !sees(seen, xid)),
    elsewhere: entry.elsewhere,
  };
}

/** Whether two snapshots have the same largest transaction id, but from different transactions. */
function contradicts(a: Snapshot, b: Snapshot): boolean {
  if (a.xmax !== b.xmax || a.witness === undefined || b.witness === undefined) return false;
  return a.witness !== b.witness;
}
