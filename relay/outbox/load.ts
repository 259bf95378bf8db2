// How the database bears the relay, for the metrics.
import type { Session } from './events.ts';

export interface Load {
  /** 0 to 1. */
  readonly notifyQueue: number;
  readonly oldestTransactionSeconds: number;
  readonly outboxBytes: number;
  /** Of the last hour, without those that were published again since. */
  readonly captureFailures: number;
  /** Since the slowest node of this database last asked for events. */
  readonly slowestReaderSeconds: number;
}

export async function readLoad(session: Session): Promise<Load> {
  const { rows } = await session.query<{
    queue: number;
    oldest: number;
    bytes: string;
    slowest: number;
    failures: number;
  }>(
    `select pg_notification_queue_usage() as queue,
            coalesce((select max(date_part('epoch', clock_timestamp() - xact_start)) from pg_stat_activity
                       where backend_xid is not null and datname = current_database()), 0) as oldest,
            (select sum(pg_total_relation_size(inhrelid)) from pg_inherits
              where inhparent = 'relay.events'::regclass)::text as bytes,
            coalesce((select max(date_part('epoch', clock_timestamp() - query_start)) from pg_stat_activity
                       where application_name = 'recado feed' and datname = current_database()), 0) as slowest,
            -- The last hour by its transactions would need an index; the last events are enough to raise an alarm.
            (select count(*)::int from (select event, payload, created_at from relay.events order by xid desc limit 10000) as e
              where event = 'relay:resync' and payload ->> 'reason' = 'capture_failed'
                and created_at > clock_timestamp() - interval '1 hour') as failures`,
  );
  const { queue, oldest, bytes, slowest, failures } = rows[0]!;
  return {
    notifyQueue: queue,
    oldestTransactionSeconds: oldest,
    outboxBytes: Number(bytes),
    captureFailures: failures === 0 ? 0 : await countUncured(session),
    slowestReaderSeconds: slowest,
  };
}

/** Only asked where something failed: relay.check() looks at more than the last events. */
async function countUncured(session: Session): Promise<number> {
  const { rows } = await session.query<{ failures: number }>(
    `select count(*)::int as failures from relay.failures as f
      where f.failed_at > clock_timestamp() - interval '1 hour'
        and exists (select from relay.check_events() as c
                     where c.problem = 'captures_failed' and c.event = f.event and c.object = f.on_table)`,
  );
  return rows[0]!.failures;
}

/**
 * How many things are off with the contract now; relay.check() names them. Failed captures and unknown events stay in
 * relay.check() for as long as events are kept, and have metrics of their own. A lock that is taken is nothing of the contract.
 */
export async function countProblems(session: Session): Promise<number> {
  const { rows } = await session.query<{ problems: number }>(
    `select count(*)::int as problems from relay.check() where problem not in ('captures_failed', 'event_unknown', 'lock_taken')`,
  );
  return rows[0]!.problems;
}
