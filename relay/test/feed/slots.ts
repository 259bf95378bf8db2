// The slots of relay.events, filled as if long ago. A database for each test.
import { type Database, freshDatabase } from '../world.ts';

export const EVENT = 'retention.test';
export const PAGE = { events: 100, bytes: 1_000_000, payloadBytes: 1_000_000 };

export let database: Database;

beforeEach(async () => {
  database = await freshDatabase();
  await database.query('select relay.publish(event => $1)', [EVENT]);
});
afterEach(async () => {
  await database.close();
});

export type Runner = { query(text: string, values: unknown[]): Promise<unknown> };

/** An event as if captured so long ago. */
export async function record(slot: number, age: string, through: Runner = database): Promise<void> {
  await through.query(
    `insert into relay.events (slot, created_at, account_id, event, payload)
     values ($1, clock_timestamp() - $2::interval, 'acc-1', $3, '1')`,
    [slot, age, EVENT],
  );
}

export async function now(): Promise<string> {
  return (await database.query<{ now: string }>('select pg_current_snapshot()::text as now'))[0]!.now;
}

export async function empty(slot: number, seen: string, through: Runner = database): Promise<string> {
  const result = (await through.query('select relay.empty_slot($1, $2::pg_snapshot) as said', [
    slot,
    seen,
  ])) as { said: string }[] | { rows: { said: string }[] };
  return (Array.isArray(result) ? result : result.rows)[0]!.said;
}

/** Where no writer is, or soon will be. */
export async function restingSlots(): Promise<number[]> {
  const rows = await database.query<{ slot: number }>(
    `select s as slot from generate_series(0, 7) as s
      where s <> all (select relay.slot_at(clock_timestamp() + d * interval '24 minutes') from generate_series(-1, 2) as d)`,
  );
  return rows.map(({ slot }) => slot);
}

export async function count(slot: number): Promise<number> {
  return (await database.query<{ n: number }>(`select count(*)::int as n from relay.events_${slot}`))[0]!.n;
}

export async function emptiedThrough(): Promise<string | null> {
  const [row] = await database.query<{ mark: string | null }>(
    'select emptied_through::text as mark from relay.installation',
  );
  return row!.mark;
}
