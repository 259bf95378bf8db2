// Who keeps a session waiting for a lock. Another session looks during the wait, since afterwards it cannot be known.
import { openSession } from '../db/connect.ts';
import type { Log } from '../log.ts';

/** Several times while a lock is waited for (lock_timeout, 1 s). */
const LOOK_EVERY_MS = 250;
/** A connection that fell silent must not keep the migration lock held. */
const QUERY_TIMEOUT_MS = 2_000;

const BLOCKERS = `
  select concat_ws(', ', 'backend ' || a.pid, 'role ' || a.usename, 'application ' || nullif(a.application_name, ''), a.state,
           'in a transaction since ' || to_char(a.xact_start at time zone 'UTC', 'HH24:MI:SS "UTC"')) as who
    from pg_stat_activity as a where a.pid = any (pg_blocking_pids($1)) order by a.pid`;

export interface WatchOptions {
  databaseUrl: string;
  /** What the watching session does, as pg_stat_activity.application_name shows it. */
  name: string;
  log: Log;
}

/** Says each time that others are in the way of the session. Without a connection to spare, nothing is said. */
export async function watchBlockers(
  pid: number,
  { databaseUrl, name, log }: WatchOptions,
): Promise<{ close(): Promise<void> }> {
  const session = await openSession({ url: databaseUrl, name, queryTimeoutMs: QUERY_TIMEOUT_MS }).catch(
    () => null,
  );
  let said = '';
  let looking: Promise<void> = Promise.resolve();
  const look = async () => {
    const found = await session?.query<{ who: string }>(BLOCKERS, [pid]);
    const by = (found?.rows ?? []).map(({ who }) => who).join('; ');
    if (by !== '' && by !== said) log.say('migrate_blocked', { by });
    if (by !== '') said = by;
  };
  const timer = setInterval(() => {
    looking = looking.then(look).catch(() => undefined);
  }, LOOK_EVERY_MS);
  return {
    async close() {
      clearInterval(timer);
      await looking;
      await session?.end().catch(() => undefined);
    },
  };
}
