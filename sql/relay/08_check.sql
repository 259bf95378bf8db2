-- What is off.
--
--   relay.check()                everything that is off, with what to do about it; no row: all is well
--   and its parts:
--   relay.check_triggers()       triggers and functions that are not as relay.publish() made them
--   relay.check_expressions()    SQL of the contract that the tables no longer understand
--   relay.check_outbox()         relay.events: partitions, indexes, defaults, rights
--   relay.check_events()         what the events themselves tell: failures, unknown names, slots that grow
--
-- Codes are for programs and stay; sentences may change. Nothing here changes anything, nor runs anybody's SQL:
-- expressions are parsed (PREPARE), not planned, since planning already calls functions declared immutable.

create or replace function relay.check_triggers(
  out problem text, out event text, out object text, out detail text, out remedy text
) returns setof record
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_column
declare
  published relay.catalogue;
  name text;
  function_at pg_proc;
  trigger_at pg_trigger;
  watched pg_class;
  other text;
begin
  for published in select * from relay.catalogue as c order by c.event, c.operation loop
    event := published.event;
    name := relay.trigger_name(published.event, published.operation);
    remedy := format('select relay.republish(%L)', event);

    if published.suspended then
      if published.suspended_at < now() - interval '1 hour' then
        problem := 'event_suspended';
        object := published.on_table::text;
        detail := format('Suspended since %s: changes go uncaptured.', to_char(published.suspended_at at time zone 'UTC', 'YYYY-MM-DD HH24:MI "UTC"'));
        remedy := format('select relay.resume(%L)', event);
        return next;
      end if;
      continue;
    end if;
    continue when published.operation = 'EMIT';

    select * into watched from pg_class as c where c.oid = published.on_table;
    if not found then
      problem := 'table_missing';
      object := published.on_table::oid::text;
      detail := 'The table was dropped, and its triggers with it.';
      remedy := format('Publish the event for the table that took its place, or: select relay.unpublish(%L)', event);
      return next;
      continue;
    end if;

    -- The function.
    object := format('function relay_capture.%I()', name);
    select * into function_at from pg_proc as p where p.pronamespace = 'relay_capture'::regnamespace and p.proname = name::name and p.pronargs = 0;
    if not found then
      problem := 'function_missing';
      detail := 'The trigger function was dropped.';
      return next;
    else
      if function_at.prosrc is distinct from relay.capture_body(published) then
        problem := 'function_replaced';
        detail := 'The trigger function is not the one relay.publish() makes of the catalogue: replaced by hand, or of another version.';
        return next;
      end if;
      if not function_at.prosecdef or not coalesce(function_at.proconfig @> relay.capture_settings(), false) then
        problem := 'function_settings';
        detail := format('The trigger function must be security definer with %s.', array_to_string(relay.capture_settings(), ', '));
        return next;
      end if;
      if function_at.proowner <> watched.relowner and pg_get_userbyid(function_at.proowner) <> published.published_by then
        problem := 'function_owner';
        detail := format('It belongs to %I, and so reads with that role''s rights; expected %I, who owns the table, or %I, who published it.',
          pg_get_userbyid(function_at.proowner), pg_get_userbyid(watched.relowner), published.published_by);
        return next;
      end if;
      other := concat_ws(', ',
        case when not has_schema_privilege(function_at.proowner, 'relay', 'usage') then 'usage on schema relay' end,
        case when not (has_column_privilege(function_at.proowner, 'relay.events', 'account_id', 'insert')
                   and has_column_privilege(function_at.proowner, 'relay.events', 'event', 'insert')
                   and has_column_privilege(function_at.proowner, 'relay.events', 'payload', 'insert')) then 'insert on relay.events' end);
      if other <> '' then
        problem := 'capture_privileges';
        detail := format('%I, to whom the trigger function belongs, lacks %s: every write to %s fails.', pg_get_userbyid(function_at.proowner), other, published.on_table);
        remedy := format('select relay.admit(%L); select relay.secure()', pg_get_userbyid(function_at.proowner));
        return next;
        remedy := format('select relay.republish(%L)', event);
      end if;
      -- Whom row-level security concerns gets an error instead of rows, since the function has row_security = off.
      if not (select r.rolsuper or r.rolbypassrls from pg_roles as r where r.oid = function_at.proowner) then
        select string_agg(c.oid::regclass::text, ', ') into other
          from pg_class as c
         where c.relrowsecurity and (c.relforcerowsecurity or not pg_has_role(function_at.proowner, c.relowner, 'USAGE'))
           and concat_ws(' ', published.account, published.payload)
               ~* format('\m(from|join)\s+(only\s+)?("?%s"?\s*\.\s*)?"?%s\M', regexp_replace((c.relnamespace::regnamespace)::text, '\W', '.', 'g'), regexp_replace(c.relname, '\W', '.', 'g'));
        if other is not null then
          problem := 'row_security';
          detail := format('Row-level security of %s holds for %I, to whom the trigger function belongs: looking into it fails, and the account is told to refetch instead.', other, pg_get_userbyid(function_at.proowner));
          remedy := format('Let the function belong to a role that the policies do not concern: alter function relay_capture.%I() owner to ...; or: alter table ... no force row level security', name);
          return next;
          remedy := format('select relay.republish(%L)', event);
        end if;
      end if;
    end if;

    -- The trigger.
    object := format('trigger %I on %s', name, published.on_table);
    select * into trigger_at from pg_trigger as t where t.tgrelid = published.on_table and t.tgname = name::name;
    if not found then
      problem := 'trigger_missing';
      detail := 'The trigger was dropped or renamed: nothing is captured.';
      return next;
      continue;
    end if;
    if trigger_at.tgenabled = 'D' then
      problem := 'trigger_disabled';
      detail := 'The trigger is disabled: nothing is captured.';
      remedy := format('alter table %s enable trigger %I', published.on_table, name);
      return next;
    elsif trigger_at.tgenabled = 'R' then
      problem := 'trigger_replica_only';
      detail := 'The trigger fires in replica sessions only: what applications write is not captured.';
      remedy := format('alter table %s enable trigger %I', published.on_table, name);
      return next;
    end if;
    if relay.trigger_definition(trigger_at.oid) is distinct from published.trigger_definition then
      problem := 'trigger_altered';
      detail := format('The trigger is not as it was published: %s', relay.trigger_definition(trigger_at.oid));
      remedy := format('select relay.republish(%L)', event);
      return next;
    end if;
    select string_agg(part.relid::regclass::text, ', ') into other
      from pg_partition_tree(published.on_table) as part
      left join pg_trigger as clone on clone.tgrelid = part.relid and clone.tgname = name::name
     where published.level = 'row' and part.level > 0 and coalesce(clone.tgenabled not in ('O', 'A'), true);
    if other is not null then
      problem := 'trigger_disabled';
      detail := format('The trigger is switched off or missing on a partition: %s.', other);
      remedy := format('alter table ... enable trigger %I on each, or detach and attach it again', name);
      return next;
    end if;
  end loop;

  -- Who captures and is in no contract.
  for object, event in
    select format('trigger %I on %s', t.tgname, t.tgrelid::regclass), regexp_replace(t.tgname, '/[a-z]+$', '')
      from pg_trigger as t
      join pg_proc as p on p.oid = t.tgfoid
     where p.pronamespace = 'relay_capture'::regnamespace and t.tgparentid = 0 and not t.tgisinternal
       and t.tgrelid <> 'relay.events'::regclass
       and not exists (select from relay.catalogue as c where c.on_table = t.tgrelid and relay.trigger_name(c.event, c.operation) = t.tgname)
  loop
    problem := 'trigger_unpublished';
    detail := 'The trigger captures an event that is not in the contract for this table: what it records is sent twice, or to nobody.';
    remedy := replace(object, 'trigger ', 'drop trigger ');
    return next;
  end loop;

  -- Sessions in which triggers do not fire.
  for object in
    select concat_ws(' in ', case when s.setrole <> 0 then format('role %I', pg_get_userbyid(s.setrole)) end,
                             case when s.setdatabase <> 0 then format('database %I', current_database()) end)
      from pg_db_role_setting as s
     where 'session_replication_role=replica' = any (s.setconfig)
       and (s.setdatabase = 0 or s.setdatabase = (select d.oid from pg_database as d where d.datname = current_database()))
  loop
    problem := 'triggers_bypassed';
    event := null;
    detail := 'session_replication_role is replica here: triggers do not fire, and what is written is not captured.';
    remedy := format('alter %s reset session_replication_role', split_part(object, ' in ', 1));
    return next;
  end loop;
end
$$;
comment on function relay.check_triggers() is 'Part of relay.check(): triggers and functions that are not as relay.publish() made them.';

-- As the caller, who may use the schemas of the application. A schema that the caller may not use is passed over.
create or replace function relay.check_expressions(
  out problem text, out event text, out object text, out detail text, out remedy text
) returns setof record
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  expression record;
begin
  problem := 'expression_broken';
  for expression in
    select c.event, c.operation, c.on_table, part.name, part.text, part.type
      from relay.catalogue as c,
           lateral (values ('condition', c.condition, 'boolean'), ('account', c.account, 'text'), ('payload', c.payload, 'jsonb')) as part(name, text, type)
     where part.text is not null and exists (select from pg_class as t where t.oid = c.on_table)
     order by c.event, c.operation, part.name
  loop
    detail := relay.expression_failure(expression.text, expression.type, expression.on_table, expression.operation);
    continue when detail is null or detail like 'permission denied for %';
    event := expression.event;
    object := format('%s of %s on %s', expression.name, expression.operation, expression.on_table);
    detail := format('%s, in: %s', detail, expression.text);
    remedy := 'Publish the event again with an expression that fits the table as it is now.';
    return next;
  end loop;
end
$$;
comment on function relay.check_expressions() is 'Part of relay.check(): conditions, accounts and payloads that no longer fit their tables, for example after a column was renamed.';

create or replace function relay.check_outbox(
  out problem text, out event text, out object text, out detail text, out remedy text
) returns setof record
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
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
           (values ('xid'), ('account_id, xid')) as wanted(columns)
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
      case found_text when 'xid' then 'events_by_xid' else 'events_by_account' end, found_text);
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
      when 'relay.events.xid' then 'Its default no longer rings: events arrive up to a second late, and after a crash clients may have seen what never happened.'
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
     where t.tgrelid = 'relay.events'::regclass and not t.tgisinternal
  loop
    problem := 'outbox_trigger';
    detail := 'A trigger on the outbox runs in every captured write, and what it changes or suppresses no client hears.';
    remedy := replace(object, 'trigger ', 'drop trigger ');
    return next;
  end loop;
end
$$;
comment on function relay.check_outbox() is 'Part of relay.check(): the outbox itself.';

create or replace function relay.check_events(
  out problem text, out event text, out object text, out detail text, out remedy text
) returns setof record
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  found record;
begin
  for found in
    select f.event, f.on_table, count(*) as times, max(f.failed_at) as latest, (array_agg(f.error order by f.event_id desc))[1] as error
      from relay.failures as f group by f.event, f.on_table order by 1, 2
  loop
    problem := 'captures_failed';
    event := found.event;
    object := found.on_table;
    detail := format('%s times, last at %s: %s', found.times, to_char(found.latest at time zone 'UTC', 'YYYY-MM-DD HH24:MI:SS "UTC"'), found.error);
    remedy := 'Publish the event again with expressions that cannot fail; select * from relay.failures. Old failures go with the retention.';
    return next;
  end loop;

  for found in
    select e.event, count(*) as times
      -- The newest are enough for a name that somebody misspelt.
      from (select n.event from relay.events as n order by n.xid desc limit 100000) as e
     where e.event not like 'relay:%' and not exists (select from relay.catalogue as c where c.event = e.event)
     group by e.event order by e.event
  loop
    problem := 'event_unknown';
    event := found.event;
    object := 'relay.events';
    detail := format('%s of the newest events have this name, which the contract does not know: they are not sent.', found.times);
    remedy := format('select relay.publish(event => %L), if clients shall hear it', event);
    return next;
  end loop;

  -- As stored: to find those that compress well it would have to read them all.
  for found in
    select e.event, count(*) filter (where octet_length(e.account_id) > 256) as accounts, count(*) as times
      from (select n.event, n.account_id, n.payload from relay.events as n order by n.xid desc limit 100000) as e
     where (octet_length(e.account_id) > 256 or pg_column_size(e.payload) > 4194304) and e.event <> 'relay:resync'
     group by e.event order by e.event
  loop
    problem := 'event_too_large';
    event := found.event;
    object := 'relay.events';
    detail := format('%s of the newest events were inserted with an account of more than 256 bytes, which nobody hears, and %s with a payload of more than 4 MiB, in whose place clients are told to refetch.',
      found.accounts, found.times - found.accounts);
    remedy := 'Insert with relay.emit(), which refuses them.';
    return next;
  end loop;

  for found in select * from relay.slots() as s where s.overdue is not null loop
    problem := 'slot_overdue';
    event := null;
    object := format('relay.events_%s', found.slot);
    detail := found.overdue;
    remedy := 'Look for a transaction that keeps it locked (select * from relay.status), and whether a relay is connected: relays empty the slots.';
    return next;
  end loop;

  if pg_notification_queue_usage() > 0.5 then
    problem := 'notification_queue';
    event := null;
    object := 'pg_notification_queue_usage()';
    detail := format('%s %% full: a session that listens has been in a transaction for long. When it is full, commits that ring fail.', round((pg_notification_queue_usage() * 100)::numeric));
    remedy := 'End that session: the server''s log names it.';
    return next;
  end if;
end
$$;
comment on function relay.check_events() is 'Part of relay.check(): what the events themselves tell.';

-- The first six slots hold the retention, so what is older than that and two slots more should be gone.
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
comment on function relay.slots() is 'The slots of the ring: size, oldest and newest event, and what is wrong where one could not be emptied.';

create or replace function relay.check(
  out problem text, out event text, out object text, out detail text, out remedy text
) returns setof record
language sql volatile
set search_path = pg_catalog, pg_temp
as $$
  with broken as materialized (select * from relay.check_expressions())
  select * from relay.check_outbox()
  union all
  -- A column that was renamed changes the trigger that names it.
  select * from relay.check_triggers() as t where t.problem <> 'trigger_altered' or not exists (select from broken where broken.event = t.event)
  union all
  select * from broken
  union all
  select * from relay.check_events()
$$;
comment on function relay.check() is 'Everything that is off, each with a code, what it is about, and what to do. No row: all is well.';
