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

/** A slot that a relay reads past, or did before it ended. */
export interface LeftOut {
  /** Of its row in relay.left_out; null: it has none. */
  readonly id: string | null;
  readonly slot: number;
  /** What the relay had seen of it. */
  readonly seen: Snapshot;
}

export interface Recorded extends LeftOut {
  readonly id: string;
}

/** Of all relays. */
export async function readLeftOut(session: Session): Promise<Recorded[]> {
  const { rows } = await session.query<{ id: string; slot: number; seen: string }>({
    name: 'recado_left_out',
    text: 'select id::text as id, slot, seen::text as seen from relay.left_out',
  });
  return rows.map(({ seen, ...row }) => ({ ...row, seen: parseSnapshot(seen) }));
}

/**
 * Before the slot is read past.
 * @returns the id of its row
 */
export async function recordLeftOut(session: Session, slot: number, seen: Snapshot): Promise<string> {
  const { rows } = await session.query<{ id: string }>('select relay.leave_out($1, $2)::text as id', [
    slot,
    snapshotText(seen),
  ]);
  return rows[0]!.id;
}

export async function recordTakenBack(session: Session, leftOut: readonly LeftOut[]): Promise<void> {
  await session.query('select relay.take_back($1)', [leftOut.map(({ id }) => id)]);
}

/**
 * Whether the slot holds events that were skipped: what was seen of it does not see them.
 * @param passed only events that this sees; null: all that are visible
 */
export async function hasSkipped(
  session: Session,
  { slot, seen }: LeftOut,
  passed: Snapshot | null,
): Promise<boolean> {
  const events = eventsWithout(SLOTS.filter((other) => other !== slot));
  const isPassed = 'pg_visible_in_snapshot(xid, coalesce($3::pg_snapshot, pg_current_snapshot()))';
  const { rows } = await session.query<{ skipped: boolean }>(
    `select exists (select from ${events} as e where xid >= $1::xid8 and ${isPassed})
         or exists (select from ${events} as e where xid = any ($2::xid8[]) and ${isPassed}) as skipped`,
    [seen.xmax.toString(), seen.xip.map(String), passed && snapshotText(passed)],
  );
  return rows[0]!.skipped;
}

/** Makes all clients refetch, unless another relay already has; see relay.refetch_all(). */
export async function refetchAll(session: Session, epoch: string): Promise<void> {
  await session.query('select relay.refetch_all($1)', [epoch]);
}
