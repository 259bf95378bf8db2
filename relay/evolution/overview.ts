// How the WhatsApp instances do, for the metrics of a relay. The worker may run elsewhere: the database knows.
import type pg from 'pg';
import type { Metrics } from '../metrics.ts';

/** Sets the gauges of every instance; one that is gone disappears. */
export async function gaugeInstances(pool: pg.Pool, metrics: Metrics): Promise<void> {
  const { rows } = await pool.query<{ name: string; status: string; parked: number; rejected: number }>(
    'select name, status, parked::int as parked, rejected::int as rejected from evolution.overview',
  );
  const { evolutionConnected, evolutionParked, evolutionRejected } = metrics;
  for (const each of [evolutionConnected, evolutionParked, evolutionRejected]) each.reset();
  for (const { name: instance, status, parked, rejected } of rows) {
    evolutionConnected.set({ instance }, status === 'connected' || status === 'polling' ? 1 : 0);
    evolutionParked.set({ instance }, parked);
    evolutionRejected.set({ instance }, rejected);
  }
}
