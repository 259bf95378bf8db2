-- Creates, drops and compares the triggers of a published event.
--
--   relay.create_trigger(catalogue)              creates them again
--   relay.drop_triggers(catalogue)               drops them
--   relay.triggered_tables(catalogue)            which tables need one
--   relay.trigger_definition(oid)                one as Postgres prints it
--   relay.table_named(name)                      the table that has a name now
--   relay.lock_table(table, mode)                without a deadlock with writers

-- Unlike to_regclass() it needs no right to use the schema.
create or replace function relay.table_named(qualified_name text) returns regclass
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select c.oid::regclass
    from parse_ident(qualified_name) as part
    join pg_namespace as n on n.nspname = part[1]
    join pg_class as c on c.relnamespace = n.oid and c.relname = part[2]
$$;
comment on function relay.table_named(text) is 'The table that has a qualified name now; null if there is none.';

-- Locks a table and then its partitions, in the order of writers that name the table. DROP TRIGGER alone locks the
-- partitions first, which would deadlock with a writer between two of its statements. A writer that names a partition
-- locks that one first, so this never waits for a partition while it holds the table: if one is busy, it releases all
-- locks and tries again.
create or replace function relay.lock_table(on_table regclass, mode text) returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  part regclass;
begin
  if not exists (select from pg_class as c where c.oid = on_table and c.relkind = 'p') then
    return; -- the trigger's own lock is the only one
  end if;
  for attempt in 1 .. 200 loop
    begin
      execute format('lock table only %s in %s mode', on_table, mode);
      for part in select p.relid from pg_partition_tree(on_table) as p where p.level > 0 loop
        execute format('lock table only %s in %s mode nowait', part, mode);
      end loop;
      return;
    exception
      -- Only roles that may write can lock, and a role that may create triggers need not be one.
      when insufficient_privilege then return;
      when lock_not_available then
        -- The caller's lock_timeout has passed: the table itself is busy.
        if part is null then raise; end if;
    end;
    part := null;
    perform pg_sleep(0.01 + random() * 0.04);
  end loop;
  raise exception 'the partitions of % are busy; changing their triggers needs a moment without open transactions on them', on_table
    using errcode = 'lock_not_available', hint = 'Nothing was changed. Call it again.';
end
$$;
comment on function relay.lock_table(regclass, text) is 'Locks a partitioned table and its partitions for a change of its triggers, without a deadlock with writers.';

-- Partitions inherit row triggers. But a statement that names a partition only fires that partition's statement
-- triggers, and inheriting tables that are not partitions get no triggers.
create or replace function relay.triggered_tables(published relay.catalogue) returns setof regclass
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  with recursive family as (
    select published.on_table::oid as oid, false as is_partition
    union
    select i.inhrelid, c.relispartition
      from family join pg_inherits as i on i.inhparent = family.oid join pg_class as c on c.oid = i.inhrelid
     where c.relkind in ('r', 'p')
  )
  select family.oid::regclass from family
   where published.level = 'statement' or not family.is_partition
$$;
comment on function relay.triggered_tables(relay.catalogue) is 'Tables on which a published event has a trigger: its own, those that inherit from it, and at statement level its partitions.';

-- Includes triggers that an earlier version named differently, and triggers on a table that lost its published name.
create or replace function relay.drop_triggers(published relay.catalogue) returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  found record;
begin
  for found in
    select t.tgrelid::regclass as on_table, t.tgname
      from pg_proc as p join pg_trigger as t on t.tgfoid = p.oid and t.tgparentid = 0
     where p.pronamespace = 'relay_capture'::regnamespace and p.proname = relay.capture_name(published)::name
     order by t.tgrelid <> published.on_table
  loop
    perform relay.lock_table(found.on_table, 'access exclusive');
    execute format('drop trigger %I on %s', found.tgname, found.on_table);
  end loop;
end
$$;
comment on function relay.drop_triggers(relay.catalogue) is 'Drops the triggers of a published event.';
-- Of earlier versions.
drop function if exists relay.drop_triggers(text, text);

-- The condition is the trigger's argument only so that \d shows it; the function evaluates it.
create or replace function relay.create_trigger(published relay.catalogue) returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  trigger_name text := relay.trigger_name(published);
  on_table regclass;
  failure text;
begin
  perform relay.drop_triggers(published);
  for on_table in select t from relay.triggered_tables(published) as t loop
    perform relay.lock_table(on_table, 'share row exclusive');
    execute format('create %s trigger %I after %s on %s %s %s %s execute function relay_capture.%I(%s)',
      case published.fires_at when 'commit' then 'constraint' end,
      trigger_name,
      published.operation,
      on_table,
      case when published.fires_at = 'commit' then 'deferrable initially deferred' end,
      case when published.level = 'statement' then concat_ws(' ',
        case when published.operation <> 'TRUNCATE' then concat_ws(' ', 'referencing',
          case when published.operation <> 'INSERT' then 'old table as relay_old' end,
          case when published.operation <> 'DELETE' then 'new table as relay_new' end) end,
        'for each statement')
      else 'for each row' end,
      case when published.condition_in = 'trigger' then format('when (%s)', published.condition) end,
      relay.capture_name(published),
      relay.trigger_argument(published));
    -- Only the owner may comment; a publisher that merely has the TRIGGER privilege does without.
    if pg_has_role(current_user, (select c.relowner from pg_class as c where c.oid = on_table), 'MEMBER') then
      execute format('comment on trigger %I on %s is %L', trigger_name, on_table,
        format('Recado: records %s. %s', published.event, coalesce(published.description, '')));
    end if;
  end loop;
exception
  when lock_not_available then
    raise exception 'relay.publish(%): % is busy; a trigger needs a moment without open transactions on it', quote_literal(published.event), published.on_table
      using errcode = 'lock_not_available', hint = 'Nothing was changed. Call it again.';
  when insufficient_privilege then
    get stacked diagnostics failure = message_text;
    raise exception 'relay.publish(on_table => %): %', quote_literal(published.on_table), failure
      using errcode = 'insufficient_privilege',
            hint = format('Call it as the owner of the table or a member of that role: grant %I to %I.',
              (select pg_get_userbyid(c.relowner) from pg_class as c where c.oid = published.on_table), current_user);
  when others then
    get stacked diagnostics failure = message_text;
    raise exception 'relay.publish(%): the trigger on % could not be created: %', quote_literal(published.event), published.on_table, failure
      using errcode = sqlstate;
end
$$;
comment on function relay.create_trigger(relay.catalogue) is 'Creates the triggers of a published event again.';

create or replace function relay.trigger_argument(published relay.catalogue) returns text
language sql immutable
set search_path = pg_catalog, pg_temp
as $$
  select quote_literal('when ' || nullif(btrim(regexp_replace(published.condition, '\s+', ' ', 'g')), ''))
   where published.operation <> 'TRUNCATE' and published.condition_in is distinct from 'trigger'
$$;
comment on function relay.trigger_argument(relay.catalogue) is 'Part of relay.create_trigger(): the condition as \d shows it.';

-- Without the table's name, which may change, and with as few quotes as possible, whatever the session's settings.
create or replace function relay.trigger_definition(of_trigger oid) returns text
language sql stable
set search_path = pg_catalog, pg_temp set quote_all_identifiers = off
as $$
  select replace(pg_get_triggerdef(t.oid), format(' ON %I.%I ', n.nspname, c.relname), ' ON ... ')
    from pg_trigger as t join pg_class as c on c.oid = t.tgrelid join pg_namespace as n on n.oid = c.relnamespace
   where t.oid = of_trigger
$$;
comment on function relay.trigger_definition(oid) is 'A trigger as Postgres prints it. The catalogue keeps what relay.publish() made, so that relay.check() sees what was changed by hand.';
