// Finds slots of relay.events that another session has locked.
import { eventsWithout, type Session, SLOTS } from './events.ts';
import { type Snapshot, snapshotText } from './position.ts';

export interface LockedNow {
  readonly slots: readonly number[];
  /** The slot that writers use. */
  readonly current: number;
}

export const NONE_LOCKED: LockedNow = { slots: [], current: 0 };

/** The slots on which somebody holds, or waits for, a lock that excludes readers. */
export async function findLockedSlots(session: Session): Promise<LockedNow> {
  const { rows } = await session.query<LockedNow>({
    name: 'recado_locked_slots',
    text: `select array(select slot from generate_series(0, 7) as slot
                        where exists (select from pg_locks as l
                                       where l.locktype = 'relation' and l.mode = 'AccessExclusiveLock'
                                         and l.database = (select oid from pg_database where datname = current_database())
                                         and l.relation = to_regclass('relay.events_' || slot))) as slots,
                  relay.slot_at(clock_timestamp()) as current`,
  });
  return rows[0]!;
}

/** The first visible transaction in the slots that writers entered after all of these; null if there is none. */
export async function findFirstAfter(
  session: Session,
  { slots, current }: LockedNow,
  now: Snapshot,
): Promise<bigint | null> {
  const age = (slot: number) => (current - slot + SLOTS.length) % SLOTS.length;
  const youngest = Math.min(...slots.map(age));
  const before = SLOTS.filter((slot) => age(slot) >= youngest);
  const { rows } = await session.query<{ xid: string }>(
    `select xid::text as xid from ${eventsWithout(before)} as e where pg_visible_in_snapshot(xid, $1::pg_snapshot)
      order by e.xid limit 1`,
    [snapshotText(now)],
  );
  return rows[0] ? BigInt(rows[0].xid) : null;
}

/** Whether this slot holds events that `seen` has not seen. */
export async function hasUnseen(session: Session, slot: number, seen: Snapshot): Promise<boolean> {
  const events = eventsWithout(SLOTS.filter((other) => other !== slot));
  const { rows } = await session.query<{ unseen: boolean }>(
    `select exists (select from ${events} as e where xid >= $1::xid8)
         or exists (select from ${events} as e where xid = any ($2::xid8[])) as unseen`,
    [seen.xmax.toString(), seen.xip.map(String)],
  );
  return rows[0]!.unseen;
}
