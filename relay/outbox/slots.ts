// Finds slots of relay.events that another session has locked.
import { eventsWithout, type Session, SLOTS } from './events.ts';
import { parseSnapshot, type Snapshot, snapshotText } from './position.ts';

export interface LockedNow {
  readonly slots: readonly number[];
  /** The slot that writers use. */
  readonly current: number;
}

export const NONE_LOCKED: LockedNow = { slots: [], current: 0 };

/** The slots on which, or on an index of which, somebody holds or waits for a lock that excludes readers. */
export async function findLockedSlots(session: Session): Promise<LockedNow> {
  const { rows } = await session.query<LockedNow>({
    name: 'recado_locked_slots',
    text: `select array(select slot from generate_series(0, 7) as slot
                        where exists (select from pg_locks as l
                                       where l.locktype = 'relation' and l.mode = 'AccessExclusiveLock'
                                         and l.database = (select oid from pg_database where datname = current_database())
                                         and (l.relation = to_regclass('relay.events_' || slot)
                                           or l.relation in (select indexrelid from pg_index where indrelid = to_regclass('relay.events_' || slot))))) as slots,
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

/** A slot that a relay reads past. */
export interface LeftOut {
  readonly slot: number;
  /** What the relay had seen of it. */
  readonly seen: Snapshot;
}

/** Whether the slot holds events that were skipped: `now` sees them, and what was seen of the slot does not. */
export async function hasUnseen(session: Session, { slot, seen }: LeftOut, now: Snapshot): Promise<boolean> {
  const events = eventsWithout(SLOTS.filter((other) => other !== slot));
  const { rows } = await session.query<{ unseen: boolean }>(
    `select exists (select from ${events} as e where xid >= $1::xid8 and pg_visible_in_snapshot(xid, $3::pg_snapshot))
         or exists (select from ${events} as e where xid = any ($2::xid8[]) and pg_visible_in_snapshot(xid, $3)) as unseen`,
    [seen.xmax.toString(), seen.xip.map(String), snapshotText(now)],
  );
  return rows[0]!.unseen;
}

/** The slots that relays read past, or did before they ended. */
export async function readLeftOut(session: Session): Promise<LeftOut[]> {
  const { rows } = await session.query<{ slot: number; seen: string }>(
    'select slot, seen::text as seen from relay.left_out',
  );
  return rows.map(({ slot, seen }) => ({ slot, seen: parseSnapshot(seen) }));
}

/** Before slots are read past: after a crash of this process, another one knows. */
export async function recordLeftOut(
  session: Session,
  slots: readonly number[],
  seen: Snapshot,
): Promise<void> {
  await session.query('select relay.leave_out($1, $2)', [slots, snapshotText(seen)]);
}

export async function recordTakenBack(session: Session, slots: readonly number[]): Promise<void> {
  await session.query('select relay.take_back($1)', [slots]);
}
