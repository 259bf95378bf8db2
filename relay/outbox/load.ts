// How the database bears the relay, for the metrics.
import type { Session } from './events.ts';

export interface Load {
  /** 0 to 1. */
  readonly notifyQueue: number;
  readonly oldestTransactionSeconds: number;
  readonly outboxBytes: number;
  readonly captureFailures: number;
}

export async function readLoad(session: Session): Promise<Load> {
  const { rows } = await session.query<{ queue: number; oldest: number; bytes: string; failures: number }>(
    `select pg_notification_queue_usage() as queue,
            coalesce((select max(date_part('epoch', clock_timestamp() - xact_start)) from pg_stat_activity
                       where backend_xid is not null and datname = current_database()), 0) as oldest,
            (select sum(pg_total_relation_size(inhrelid)) from pg_inherits
              where inhparent = 'relay.events'::regclass)::text as bytes,
            -- The last hour by its transactions would need an index; the last events are enough to raise an alarm.
            (select count(*)::int from (select event, payload, created_at from relay.events order by xid desc limit 10000) as e
              where event = 'relay:resync' and payload ->> 'reason' = 'capture_failed'
                and created_at > clock_timestamp() - interval '1 hour') as failures`,
  );
  const { queue, oldest, bytes, failures } = rows[0]!;
  return {
    notifyQueue: queue,
    oldestTransactionSeconds: oldest,
    outboxBytes: Number(bytes),
    captureFailures: failures,
  };
}

/** How many things are off with the contract; relay.check() names them. */
export async function countProblems(session: Session): Promise<number> {
  const { rows } = await session.query<{ problems: number }>(
    'select count(*)::int as problems from relay.check()',
  );
  return rows[0]!.problems;
}
