// Finds slots of relay.events that another session has locked.
import { eventsWithout, type Session, SLOTS } from './events.ts';
import type { Snapshot } from './position.ts';

/** The slots on which somebody holds, or waits for, a lock that excludes readers. */
export async function findLockedSlots(session: Session): Promise<{ slots: number[]; current: number }> {
  const { rows } = await session.query<{ slots: number[]; current: number }>({
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
