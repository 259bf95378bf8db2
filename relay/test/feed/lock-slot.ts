// What VACUUM FULL, a migration or LOCK TABLE does to a slot of relay.events.
import type pg from 'pg';

/** @param distance of the slot from the one that writers are in */
export async function lockSlot(locker: pg.Client, distance: number): Promise<number> {
  await locker.query('begin');
  const { rows } = await locker.query<{ slot: number }>(
    'select (relay.slot_at(clock_timestamp()) + $1) % 8 as slot',
    [distance],
  );
  await locker.query(`lock table relay.events_${rows[0]!.slot} in access exclusive mode`);
  return rows[0]!.slot;
}
