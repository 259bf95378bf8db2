// What VACUUM FULL, a migration or LOCK TABLE does to a slot of relay.events.
import type pg from 'pg';
import { type Database, until } from '../world.ts';

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

/**
 * A transaction has written an event to the slot, and the lock waits for it. Once that commits, the slot is locked with an
 * event that relays have not read.
 * @returns commits it, and waits for the lock
 */
export async function lockBehindWriter(
  database: Database,
  locker: pg.Client,
  {
    distance,
    account,
    event,
    payload,
  }: { distance: number; account: string; event: string; payload: string },
): Promise<() => Promise<void>> {
  const writer = await database.connect();
  await writer.query('begin');
  await writer.query(
    `insert into relay.events (slot, account_id, event, payload) values ((relay.slot_at(clock_timestamp()) + $1) % 8, $2, $3, $4)`,
    [distance, account, event, payload],
  );
  const locking = lockSlot(locker, distance);
  await until('it waits for the lock', async () => {
    const waiting = await database.query(
      `select from pg_locks where not granted and mode = 'AccessExclusiveLock'
          and database = (select oid from pg_database where datname = current_database())`,
    );
    return waiting.length > 0;
  });
  return async () => {
    await writer.query('commit');
    await locking;
  };
}
