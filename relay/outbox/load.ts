// Measures the load on the database, for the metrics.
import type { Session } from './events.ts';

export interface Load {
  /** 0 to 1. */
  readonly notifyQueue: number;
  readonly oldestTransactionSeconds: number;
  readonly outboxBytes: number;
  /** In the last hour, except for events that were published again since. */
  readonly captureFailures: number;
  /** Seconds since the slowest node of this database last read events. */
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
            -- Finding the last hour would need an index; the last events are enough to raise an alarm.
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

/** Runs only if something failed, since relay.check() reads more than the last events. */
async function countUncured(session: Session): Promise<number> {
  const { rows } = await session.query<{ failures: number }>(
    `select count(*)::int as failures from relay.failures as f
      where f.failed_at > clock_timestamp() - interval '1 hour'
        and exists (select from relay.check_events() as c
                     where c.problem = 'captures_failed' and c.event = f.event and c.object = f.on_table)`,
  );
  return rows[0]!.failures;
}

/** What relay.check() finds now, counted. */
export interface Problems {
  /**
   * Failed captures and unknown events are not counted: they stay in relay.check() while their events are kept, and have
   * metrics of their own. Problems that are not about the contract are not counted either.
   */
  readonly ofContract: number;
  readonly overdueSlots: number;
  readonly fullDisks: number;
}

export async function countProblems(session: Session): Promise<Problems> {
  const { rows } = await session.query<Problems>(
    `select count(*) filter (where problem not in ('captures_failed', 'event_unknown', 'lock_taken',
              'notification_queue', 'slot_overdue', 'disk_full'))::int as "ofContract",
            count(*) filter (where problem = 'slot_overdue')::int as "overdueSlots",
            count(*) filter (where problem = 'disk_full')::int as "fullDisks"
       from relay.check()`,
  );
  return rows[0]!;
}
