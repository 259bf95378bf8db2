// The state of the WhatsApp instances, for the metrics and the console of a relay. It comes from the database, since the
// worker may run elsewhere. Without the WhatsApp tables there are no instances.
import type pg from 'pg';
import type { Metrics } from '../metrics.ts';

export interface InstanceOverview {
  name: string;
  account: string;
  status: string;
  reason: string | null;
  state: string | null;
  caughtUpTo: string | null;
  parked: number;
  rejected: number;
}

/** Whether this database has the tables of recado migrate --whatsapp. */
export async function isWhatsAppInstalled(pool: pg.Pool): Promise<boolean> {
  const { rows } = await pool.query<{ installed: boolean }>(
    "select to_regclass('evolution.overview') is not null as installed",
  );
  return rows[0]!.installed;
}

/** Sorted by name. */
export async function readInstances(pool: pg.Pool): Promise<InstanceOverview[]> {
  if (!(await isWhatsAppInstalled(pool))) return [];
  const { rows } = await pool.query<InstanceOverview>(
    `select name, "tenantId" as account, status, "statusReason" as reason, state, to_jsonb(caught_up_to) #>> '{}' as "caughtUpTo",
            parked::int as parked, rejected::int as rejected
       from evolution.overview order by name`,
  );
  return rows;
}

/** Sets the gauges of every instance, and removes those of instances that are gone. */
export async function gaugeInstances(pool: pg.Pool, metrics: Metrics): Promise<void> {
  const instances = await readInstances(pool);
  const { evolutionConnected, evolutionParked, evolutionRejected } = metrics;
  for (const each of [evolutionConnected, evolutionParked, evolutionRejected]) each.reset();
  for (const { name: instance, status, parked, rejected } of instances) {
    evolutionConnected.set({ instance }, status === 'connected' || status === 'polling' ? 1 : 0);
    evolutionParked.set({ instance }, parked);
    evolutionRejected.set({ instance }, rejected);
  }
}
