-- The state of the installation.
--
--   relay.status    view: relays connected, the last read of each node, gate, backlog, oldest transaction, sizes, queue
--
-- Sessions of other roles require pg_read_all_stats; the relay's login sees its own.

create or replace view relay.status as
with sessions as (
  select a.* from pg_catalog.pg_stat_activity as a where a.datname = current_database()
),
relays as (
  select s.application_name as name, count(*) as sessions,
         string_agg(distinct host(s.client_addr), ', ') as hosts,
         -- A feed reads at least once a second.
         min(s.query_start) as last_read
    from sessions as s where s.application_name like 'recado%' group by s.application_name
),
gate as (
  select (array_agg(l.pid order by l.granted desc) filter (where l.mode = 'ExclusiveLock'))[1] as holder,
         coalesce(bool_or(l.granted) filter (where l.mode = 'ExclusiveLock'), false) as closed,
         count(*) filter (where l.mode = 'ShareLock' and l.granted) as ringing
    from pg_catalog.pg_locks as l
   where l.locktype = 'advisory' and l.objsubid = 1
     and l.database = (select d.oid from pg_catalog.pg_database as d where d.datname = current_database())
     and (l.classid::bigint << 32) | l.objid::bigint = relay.gate_key()
),
feed as (
  select min(s.query_start) as last_read, count(*) as nodes from sessions as s where s.application_name = 'recado feed'
),
newest as (
  select e.created_at from relay.events as e order by e.xid desc limit 10000
),
oldest as (
  select s.pid, s.application_name, s.usename, s.xact_start, s.state
    from sessions as s
   where s.xact_start is not null and s.pid <> pg_backend_pid() order by s.xact_start limit 1
)
select 'relays' as subject, relays.name as item, relays.sessions::text as value,
       concat_ws(', ', 'from ' || nullif(relays.hosts, ''),
         case when relays.name = 'recado feed' then 'last read ' || to_char(relays.last_read at time zone 'UTC', 'HH24:MI:SS.MS "UTC"') end) as remark
  from relays
union all
select 'relays', 'recado feed', '0', 'No relay is connected: events wait in relay.events.'
 where not exists (select from relays where name = 'recado feed')
union all
select 'nodes', 'backend ' || s.pid, round(extract(epoch from clock_timestamp() - s.query_start)::numeric, 1) || ' s',
       concat_ws(', ', case
           when s.query_start is null then 'not visible to you: grant pg_read_all_stats'
           when s.query_start < clock_timestamp() - interval '15 seconds' then 'since it last read: frozen, or its query hangs'
           else 'since it last read' end, 'from ' || host(s.client_addr))
  from sessions as s where s.application_name = 'recado feed'
union all
select 'gate', null, case when gate.closed then 'closed' when gate.holder is not null then 'closing' else 'open' end,
       case when gate.closed and not exists (select from sessions as s where s.pid = gate.holder and s.application_name like 'recado %')
              then format('by backend %s, which is no relay: no commit notifies; relay.check() says what to do', gate.holder)
            when gate.closed then format('by backend %s: with so many commits, writers do not notify and relays read at their own pace', gate.holder)
            when gate.holder is not null then format('backend %s waits for %s writers that have notified; new ones do not notify', gate.holder, gate.ringing)
            else 'commits notify' end
  from gate
union all
select 'backlog', 'events', case when feed.last_read is null then null else (select count(*) from newest where created_at > feed.last_read)::text end,
       case when feed.nodes = 0 then 'no relay is connected'
            when feed.last_read is null then 'not visible to you: grant pg_read_all_stats'
            else 'captured since the slowest relay last read; counted up to 10000' end
  from feed
union all
select 'events', 'newest', to_char(max(created_at) at time zone 'UTC', 'YYYY-MM-DD HH24:MI:SS "UTC"'), null from newest
union all
select 'events', 'kept for', i.retention::text, 'positions older than transaction ' || i.emptied_through || ' are too old' from relay.installation as i
union all
select 'slots', 'relay.events_' || s.slot, pg_size_pretty(s.bytes),
       coalesce(s.overdue, case when s.oldest is null then 'empty' else concat('from ', to_char(s.oldest at time zone 'UTC', 'YYYY-MM-DD HH24:MI'),
         ' to ', to_char(s.newest at time zone 'UTC', 'YYYY-MM-DD HH24:MI "UTC"')) end)
  from relay.slots() as s
union all
select 'oldest transaction', null, null, 'none is in flight, or none that you may see: grant pg_read_all_stats' where not exists (select from oldest)
union all
select 'oldest transaction', 'backend ' || oldest.pid, date_trunc('seconds', clock_timestamp() - oldest.xact_start)::text,
       concat_ws(', ', oldest.usename, nullif(oldest.application_name, ''), oldest.state)
  from oldest
union all
select 'oldest transaction', 'prepared ' || p.gid, date_trunc('seconds', clock_timestamp() - p.prepared)::text, p.owner::text
  from pg_catalog.pg_prepared_xacts as p where p.database = current_database()
union all
select 'notification queue', null, round((pg_catalog.pg_notification_queue_usage() * 100)::numeric, 1) || ' %', 'full: commits that notify would fail';
comment on view relay.status is 'The state of the installation: connected relays, last read of each node, gate, backlog, slots of the ring, oldest open transaction, notification queue.';
