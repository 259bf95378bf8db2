-- Finds advisory locks of Recado that a foreign session holds.
--
--   relay.check_locks()          the locks, and the sessions that hold them
--
-- Postgres lets every role take every advisory lock. Recado's own sessions are recognised by their application names.

create or replace function relay.check_locks(
  out problem text, out event text, out object text, out detail text, out remedy text
) returns setof record
language sql stable security definer
set search_path = pg_catalog, pg_temp
as $$
  select 'lock_taken', null::text, ours.name,
         format('Backend %s (role %s, application %s) holds the advisory lock %s: %s', l.pid, coalesce(a.usename, '?'), coalesce(nullif(a.application_name, ''), '?'), ours.key, ours.effect),
         format('select pg_terminate_backend(%s)', l.pid)
    from (values
      (relay.gate_key(), 'notify gate', 'no commit notifies, and events arrive up to a second late.'),
      (relay.gate_key() + 1, 'holder of the notify gate', 'no relay can close the gate, and many commits at once wait for each other.'),
      -- MIGRATION_LOCK in relay/db/lock-holders.ts.
      (7205759403792, 'migration', 'recado migrate waits.')) as ours(key, name, effect)
    join pg_locks as l
      on l.locktype = 'advisory' and l.mode = 'ExclusiveLock' and l.granted and l.objsubid = 1
     and l.database = (select d.oid from pg_database as d where d.datname = current_database())
     and (l.classid::bigint << 32) + l.objid::bigint = ours.key
    left join pg_stat_activity as a on a.pid = l.pid
   where a.application_name is null or a.application_name not like 'recado %'
   order by ours.key, l.pid
$$;
comment on function relay.check_locks() is 'Part of relay.check(): advisory locks of Recado that a foreign session holds.';
