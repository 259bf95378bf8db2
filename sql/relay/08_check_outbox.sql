-- Checks the outbox.
--
--   relay.check_outbox()         relay.events: partitions, indexes, defaults, rights
--   relay.check_disk()           whether the disk is full
--   relay.slots()                the slots of the ring

create or replace function relay.check_outbox(
  out problem text, out event text, out object text, out detail text, out remedy text
) returns setof record
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp set quote_all_identifiers = off
as $$
declare
  found_text text;
begin
  event := null;
  for found_text in select format('relay.events_%s', s) from generate_series(0, 7) as s
                     where not exists (select from pg_inherits as i where i.inhparent = 'relay.events'::regclass and i.inhrelid = to_regclass(format('relay.events_%s', s))) loop
    problem := 'partition_missing';
    object := found_text;
    detail := 'A slot of the ring is not there: for a part of each day every captured write fails.';
    remedy := format('create table %s partition of relay.events for values in (%s); select relay.secure()', found_text, right(found_text, 1));
    return next;
  end loop;

  for object, found_text in
    select t.oid::regclass::text, wanted.columns
      from (select 'relay.events'::regclass as oid union all select i.inhrelid from pg_inherits as i where i.inhparent = 'relay.events'::regclass) as t,
           (values ('xid, id'), ('account_id, xid, id')) as wanted(columns)
     where not exists (
       select from pg_index as i
        where i.indrelid = t.oid and i.indisvalid and i.indpred is null
          and (select string_agg(a.attname, ', ' order by k.place)
                 from unnest(i.indkey::smallint[]) with ordinality as k(attnum, place)
                 join pg_attribute as a on a.attrelid = i.indrelid and a.attnum = k.attnum) = wanted.columns)
  loop
    problem := 'index_missing';
    detail := format('There is no valid index on (%s): reading takes a full scan, every few milliseconds.', found_text);
    remedy := format('create index %s on relay.events (%s), after dropping an invalid one',
      case found_text when 'xid, id' then 'events_by_xid' else 'events_by_account' end, found_text);
    return next;
  end loop;

  for object, found_text in
    select format('relay.events.%s', wanted.column_name), wanted.pattern
      from (values ('xid', 'pg_try_advisory_xact_lock_shared'), ('slot', 'clock_timestamp()'), ('created_at', 'clock_timestamp()')) as wanted(column_name, pattern)
     where not exists (
       select from pg_attribute as a join pg_attrdef as d on (d.adrelid, d.adnum) = (a.attrelid, a.attnum)
        where a.attrelid = 'relay.events'::regclass and a.attname = wanted.column_name
          and strpos(pg_get_expr(d.adbin, d.adrelid), wanted.pattern) > 0)
  loop
    problem := 'default_missing';
    detail := case object
      when 'relay.events.xid' then 'Its default no longer notifies: events arrive up to a second late, and after a crash clients may have seen what never happened.'
      else 'Its default was changed: events end up in the wrong slot of the ring, or with the wrong time.' end;
    remedy := case object
      when 'relay.events.slot' then 'select relay.set_retention((select retention from relay.installation))'
      else 'select relay.restore_defaults()' end;
    return next;
  end loop;

  for object in
    select s.seqrelid::regclass::text from pg_sequence as s
     where s.seqrelid = pg_get_serial_sequence('relay.events', 'id')::regclass and s.seqcache > 1
  loop
    problem := 'identity_cached';
    detail := 'The ids of events are drawn in advance: two events of one row may arrive in the wrong order.';
    remedy := 'alter table relay.events alter column id set cache 1';
    return next;
  end loop;

  for object, problem in
    select c.oid::regclass::text, case when c.relrowsecurity then 'outbox_row_security' else 'outbox_unlogged' end
      from pg_class as c
     where (c.oid = 'relay.events'::regclass or c.oid in (select i.inhrelid from pg_inherits as i where i.inhparent = 'relay.events'::regclass))
       and (c.relrowsecurity or c.relpersistence = 'u')
  loop
    detail := case problem
      when 'outbox_row_security' then 'Row-level security is on: writers may be refused, and relays may not see every event.'
      else 'The table is unlogged: a crash of Postgres empties it, and clients that were away miss what was in it.' end;
    remedy := format('alter table %s %s', object, case problem when 'outbox_row_security' then 'disable row level security' else 'set logged' end);
    return next;
  end loop;

  for object in
    select format('trigger %I on %s', t.tgname, t.tgrelid::regclass) from pg_trigger as t
     where t.tgrelid = 'relay.events'::regclass and not t.tgisinternal and t.tgname not in ('note_removal', 'note_truncation')
  loop
    problem := 'outbox_trigger';
    detail := 'A trigger on the outbox runs in every captured write, and clients miss what it changes or suppresses.';
    remedy := replace(object, 'trigger ', 'drop trigger ');
    return next;
  end loop;

  for object in
    select distinct pg_get_userbyid(acl.grantee)::text
      from (select c.relacl as granted from pg_class as c where c.oid = 'relay.events'::regclass
            union all
            select a.attacl from pg_attribute as a where a.attrelid = 'relay.events'::regclass) as t, aclexplode(t.granted) as acl
     where acl.privilege_type = 'INSERT' and acl.grantee <> (select c.relowner from pg_class as c where c.oid = 'relay.events'::regclass)
       and not exists (
         select from pg_proc as p
          where p.proowner = acl.grantee and p.pronamespace in (to_regnamespace('relay_capture'), to_regnamespace('relay_clinic')))
  loop
    problem := 'outbox_writer';
    detail := format('%I may insert into relay.events and has no capture function: it may also insert what only Recado writes, such as relay:resync for every account. relay.emit() is for such a role.', object);
    remedy := format('select relay.admit(%1$L); revoke insert on relay.events from %1$I', object);
    return next;
  end loop;
end
$$;
comment on function relay.check_outbox() is 'Part of relay.check(): the outbox itself.';

-- Free disk space cannot be read without rights on the server. But what does not fit into work_mem goes to a
-- temporary file, which needs no rights and no lock, and fails when a write would.
create or replace function relay.check_disk(
  out problem text, out event text, out object text, out detail text, out remedy text
) returns setof record
language plpgsql volatile
set search_path = pg_catalog, pg_temp set work_mem = '64kB' set temp_tablespaces = ''
as $$
begin
  event := null;
  perform count(*) from unnest(array_fill(repeat('x', 8000), array[128]));
exception
  when disk_full then
    problem := 'disk_full';
    object := 'temporary file';
    detail := format('A megabyte could not be written (%s): writes fail, and old events cannot be removed.', sqlerrm);
    remedy := 'Make room on the disk: docs/operator.md, under RecadoDiskFull, says how to find what fills it. Nothing needs a restart.';
    return next;
  when configuration_limit_exceeded then null; -- temp_file_limit is smaller
end
$$;
comment on function relay.check_disk() is 'Part of relay.check(): whether the disk of this database is full.';

-- Six slots hold the retention, so events older than that plus two slots should be gone.
create or replace function relay.slots(
  out slot int, out bytes bigint, out oldest timestamptz, out newest timestamptz, out overdue text
) returns setof record
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp set enable_seqscan = off set jit = off
as $$
declare
  kept_for interval;
begin
  select retention into strict kept_for from relay.installation;
  for slot in select generate_series(0, 7) loop
    continue when to_regclass(format('relay.events_%s', slot)) is null;
    bytes := pg_total_relation_size(format('relay.events_%s', slot));
    execute format('select (select created_at from relay.events_%1$s order by xid limit 1),
                           (select created_at from relay.events_%1$s order by xid desc limit 1)', slot) into oldest, newest;
    overdue := case when oldest < now() - kept_for * 1.5 - interval '10 minutes' then
      format('Holds events since %s, though they are kept for %s: it could not be emptied, and grows.',
        to_char(oldest at time zone 'UTC', 'YYYY-MM-DD HH24:MI "UTC"'), kept_for) end;
    return next;
  end loop;
end
$$;
comment on function relay.slots() is 'The slots of the ring: size, oldest and newest event, and the problem if one could not be emptied.';
