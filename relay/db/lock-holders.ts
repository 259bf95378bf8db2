// Who holds one of Recado's advisory locks. Postgres lets every role take every advisory lock.
import type pg from 'pg';

/** Held by a migration or an uninstall, so that only one runs at a time. relay.check_locks() has the same key. */
export const MIGRATION_LOCK = '7205759403792';

/** As "backend 12, role app, application psql": sessions that hold the lock exclusively. */
export async function lockHolders(session: pg.ClientBase, key: string): Promise<string[]> {
  const { rows } = await session.query<{ pid: number; role: string | null; application: string | null }>(
    `select l.pid, a.usename as role, a.application_name as application
       from pg_locks as l left join pg_stat_activity as a on a.pid = l.pid
      where l.locktype = 'advisory' and l.mode = 'ExclusiveLock' and l.granted and l.objsubid = 1
        and l.database = (select oid from pg_database where datname = current_database())
        and (l.classid::bigint << 32) + l.objid::bigint = $1::bigint`,
    [key],
  );
  return rows.map(
    ({ pid, role, application }) => `backend ${pid}, role ${role ?? '?'}, application ${application || '?'}`,
  );
}
