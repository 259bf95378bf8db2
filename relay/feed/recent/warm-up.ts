// Fills the recent events at the start with what was visible before, so that a restart does not cost a query for each
// client.
import type { OutboxEvent, PageLimits, Session } from '../../outbox/events.ts';
import { readPage } from '../../outbox/pages.ts';
import { cut, isTooOld, type Snapshot } from '../../outbox/position.ts';
import { findFirstAfter, type LockedNow } from '../../outbox/slots.ts';
import { findRecent } from '../../outbox/start.ts';
import { RecentEvents, type RecentEventsLimits } from './recent-events.ts';
import type { Witnesses } from './witnesses.ts';

/** The events are added in this many batches. */
const PARTS = 64;

export interface WarmUp {
  /** The snapshot with which readStart() found where to begin; not cut. */
  now: Snapshot;
  /** The same, cut. */
  seen: Snapshot;
  recent: RecentEventsLimits;
  page: PageLimits;
  /** Told which transactions were read. */
  witnesses?: Witnesses | undefined;
  /** These slots are not read. */
  locked: LockedNow;
}

/**
 * The newest events that fit, from the slots that writers entered after those that are locked. None, if retention removed
 * some of them meanwhile.
 */
export async function warmUp(
  session: Session,
  { now, seen, recent, page: limits, witnesses, locked }: WarmUp,
): Promise<RecentEvents> {
  const { slots } = locked;
  const first = slots.length === 0 ? 0n : await findFirstAfter(session, locked, now);
  if (first === null) return new RecentEvents(seen, recent);
  // Memory holds two bytes a character.
  const fitting = await findRecent(session, recent.events, Math.floor(recent.bytes / 2), slots);
  // The first transaction may have begun in a slot that is locked.
  const oldest = fitting > first ? fitting : first + 1n;
  const from = before(oldest, now);
  const events: OutboxEvent[] = [];
  for (let after = 0n, more = true; more; after = events.at(-1)?.id ?? 0n) {
    const page = await readPage(session, { seen: from, bound: seen, after }, limits, slots);
    if (isTooOld(from, page.emptied)) return new RecentEvents(seen, recent);
    events.push(...page.events);
    more = page.more;
  }
  // As one batch, the first new event would drop all of it. A transaction is never split.
  events.sort((a, b) => (a.xid === b.xid ? Number(a.id - b.id) : a.xid < b.xid ? -1 : 1));
  const warm = new RecentEvents(from, recent);
  const size = Math.ceil(events.length / PARTS);
  for (let begin = 0, end = 0; begin < events.length; begin = end) {
    end = Math.min(begin + size, events.length);
    while (events[end]?.xid === events[end - 1]!.xid) end += 1;
    const next = events[end];
    warm.add(events.slice(begin, end), next ? before(next.xid, now) : seen);
  }
  witnesses?.note(events);
  return warm;
}

/** The part of a snapshot that is below a transaction. */
function before(xid: bigint, snapshot: Snapshot): Snapshot {
  return cut(snapshot, xid - 1n);
}
