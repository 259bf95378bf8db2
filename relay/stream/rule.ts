// What an edge does with an entry. Pure: no stream, no clock. Snapshots of one history are ordered by what they see, so
// it holds whatever the stream does: entries twice, old ones after new, some missing, of two hubs at once.
// docs/decisions/hub-and-edges.md tells how simpler rules failed.
import type { OutboxEvent } from '../outbox/events.ts';
import { covers, type Snapshot, sees, union } from '../outbox/position.ts';
import type { Entry } from './entry.ts';

/** Where an edge is. */
export interface Place {
  /** The epoch and the server as the database itself gave them. */
  readonly epoch: string;
  readonly server: string;
  /** What it has handed on. */
  readonly seen: Snapshot;
}

export type Ruling =
  /**
   * Another history, or another run of the server: ask the database which it is now, and judge again from there. An
   * entry that is not the database's even then is ignored.
   */
  | { readonly is: 'foreign' }
  /** Nothing new. */
  | { readonly is: 'old' }
  /** Something before it is missing: read the database from this place, cut, and unite the two. */
  | { readonly is: 'gap' }
  /** Hand on. */
  | (Step & { readonly is: 'next' });

/** From a place to the next. Inside it a client's position is (seen, bound, id of the event); after it, bound. */
export interface Step {
  readonly seen: Snapshot;
  readonly bound: Snapshot;
  /**
   * In the order of their ids. Where accounts are elsewhere, the last event of a transaction may not be among them: no
   * witness can be taken from these, only from `bound`.
   */
  readonly events: readonly OutboxEvent[];
  /** Their subscribers read what lies between from the table. */
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
    // Not the entry's own bound: an edge that has read the database is ahead of it in part.
    bound: union(seen, entry.bound),
    events: entry.events.filter(({ xid }) => !sees(seen, xid)),
    elsewhere: entry.elsewhere,
  };
}

/** Whether two snapshots name one transaction as their largest, and not the same one. */
function contradicts(a: Snapshot, b: Snapshot): boolean {
  if (a.xmax !== b.xmax || a.witness === undefined || b.witness === undefined) return false;
  return a.witness !== b.witness;
}
