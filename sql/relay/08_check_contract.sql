-- Checks the contract.
--
--   relay.check_triggers()       triggers and functions that are not as relay.publish() made them
--   relay.check_expressions()    SQL of the contract that no longer fits its table
--
-- Codes are for programs and stable; sentences may change. Nothing here changes anything or runs SQL of the contract:
-- expressions are parsed but not planned, since planning would call functions declared immutable.

create or replace function relay.check_triggers(
  out problem text, out event text, out object text, out detail text, out remedy text
) returns setof record
language plpgsql stable security definer
set search_path = pg_catalog, pg_temp set quote_all_identifiers = off
as $$
#variable_conflict use_column
declare
  published relay.catalogue;
  of_several_tables text[];
  it text; -- event, and table where there are several, as an argument
  name text;
  function_at pg_proc;
  trigger_at pg_trigger;
  watched pg_class;
  other text;
  named regclass;
  standing regclass;
begin
  of_several_tables := array(select c.event from relay.catalogue as c group by c.event having count(distinct c.table_name) > 1);
  for published in select * from relay.catalogue as c order by c.event, c.operation, c.number loop
    event := published.event;
    it := concat_ws(', ', quote_literal(event), case when event = any (of_several_tables) then quote_literal(published.table_name) end);
    name := relay.capture_name(published);
    remedy := format('select relay.republish(%s)', it);

    if published.suspended then
      if published.suspended_at < now() - interval '1 hour' then
        problem := 'event_suspended';
        object := published.on_table::text;
        detail := format('Suspended since %s: changes go uncaptured.', to_char(published.suspended_at at time zone 'UTC', 'YYYY-MM-DD HH24:MI "UTC"'));
        remedy := format('select relay.resume(%s)', it);
        return next;
      end if;
      continue;
    end if;
    continue when published.operation = 'EMIT';

    -- The table, and the name it was published for.
    named := relay.current_table(published);
    select * into watched from pg_class as c where c.oid = published.on_table;
    if named <> published.on_table then
      problem := 'table_replaced';
      object := published.table_name;
      detail := format('Another table took this name: %s. What is written to it is not captured.',
        case when watched.oid is null then 'the one it was published for was dropped'
             else format('the one it was published for is called %s', watched.oid::regclass) end);
      return next;
      continue;
    end if;
    if watched.oid is null then
      problem := 'table_missing';
      object := coalesce(published.table_name, published.on_table::oid::text);
      detail := 'The table was dropped, and its triggers with it.';
      remedy := format('When it is there again: select relay.republish(%1$s); or: select relay.unpublish(%1$s)', it);
      return next;
      continue;
    end if;
    if relay.table_named(published.table_name) is null then
      problem := 'table_renamed';
      object := published.table_name;
      detail := format('It is called %s now. Capture continues under that name.', published.on_table);
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
                   and has_column_privilege(function_at.proowner, 'relay.events', 'payload', 'insert')
                   and (published.audience is null or has_column_privilege(function_at.proowner, 'relay.events', 'audience', 'insert'))) then 'insert on relay.events' end);
      if other <> '' then
        problem := 'capture_privileges';
        detail := format('%I, the owner of the trigger function, lacks %s: every write to %s fails.', pg_get_userbyid(function_at.proowner), other, published.on_table);
        remedy := format('select relay.admit_capture(%L); select relay.secure()', pg_get_userbyid(function_at.proowner));
        return next;
        remedy := format('select relay.republish(%s)', it);
      end if;
      -- With row_security = off, a role subject to row-level security gets an error instead of rows.
      if not (select r.rolsuper or r.rolbypassrls from pg_roles as r where r.oid = function_at.proowner) then
        select string_agg(c.oid::regclass::text, ', ') into other
          from pg_class as c
         where c.relrowsecurity and (c.relforcerowsecurity or not pg_has_role(function_at.proowner, c.relowner, 'USAGE'))
           and concat_ws(' ', published.account, published.payload, published.audience)
               ~* format('\m(from|join)\s+(only\s+)?("?%s"?\s*\.\s*)?"?%s\M', regexp_replace((c.relnamespace::regnamespace)::text, '\W', '.', 'g'), regexp_replace(c.relname, '\W', '.', 'g'));
        if other is not null then
          problem := 'row_security';
          detail := format('Row-level security of %s applies to %I, the owner of the trigger function: reading the table fails, and the account is told to refetch instead.', other, pg_get_userbyid(function_at.proowner));
          remedy := format('Give the function to a role that the policies do not apply to: alter function relay_capture.%I() owner to ...; or: alter table ... no force row level security', name);
          return next;
          remedy := format('select relay.republish(%s)', it);
        end if;
      end if;
    end if;

    -- The triggers.
    name := relay.trigger_name(published);
    for standing in select t from relay.triggered_tables(published) as t loop
      object := format('trigger %I on %s', name, standing);
      select * into trigger_at from pg_trigger as t where t.tgrelid = standing and t.tgname = name::name;
      if not found then
        problem := case when standing = published.on_table then 'trigger_missing' else 'child_uncaptured' end;
        detail := case when standing = published.on_table then 'The trigger was dropped or renamed: nothing is captured.'
          else format('The table became a child of %s later and has no trigger: writes that name it directly are not captured.', published.on_table) end;
        return next;
      elsif trigger_at.tgenabled in ('D', 'R') then
        problem := case trigger_at.tgenabled when 'D' then 'trigger_disabled' else 'trigger_replica_only' end;
        detail := case trigger_at.tgenabled when 'D' then 'The trigger is disabled: nothing is captured.'
          else 'The trigger fires in replica sessions only: what applications write is not captured.' end;
        remedy := format('alter table %s enable trigger %I', standing, name);
        return next;
        remedy := format('select relay.republish(%s)', it);
      elsif relay.trigger_definition(trigger_at.oid) is distinct from published.trigger_definition then
        problem := 'trigger_altered';
        detail := format('The trigger is not as it was published: %s', relay.trigger_definition(trigger_at.oid));
        return next;
      end if;
    end loop;
    object := format('trigger %I on %s', name, published.on_table);
    select string_agg(k.kin::text, ', ') into other from relay.published_kin(published) as k where k.is_above;
    if other is not null then
      problem := 'event_doubled';
      detail := format('The table belongs to %s now, which has the event too: what is written to it is recorded twice.', other);
      remedy := format('select relay.unpublish(%s)', it);
      return next;
      remedy := format('select relay.republish(%s)', it);
    end if;
    other := relay.overtaking_triggers(published);
    if other is not null then
      problem := 'event_overtaken';
      detail := format('%s may change the same rows again before the event is recorded, and the event would be out of date.', other);
      remedy := 'Publish the event again with level => ''row'', at => ''commit''.';
      return next;
      remedy := format('select relay.republish(%s)', it);
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

  -- Capture triggers that are not in the contract.
  for object, event in
    with entries as materialized (select c as entry, relay.trigger_name(c)::name as trigger from relay.catalogue as c where c.on_table is not null)
    select format('trigger %I on %s', t.tgname, t.tgrelid::regclass), regexp_replace(t.tgname, '^!|/[a-z]+(/[0-9]+)?$', '', 'g')
      from pg_trigger as t
      join pg_proc as p on p.oid = t.tgfoid
      left join entries on entries.trigger = t.tgname
     where p.pronamespace = 'relay_capture'::regnamespace and t.tgparentid = 0 and not t.tgisinternal
       and t.tgrelid <> 'relay.events'::regclass
       and (entries.entry is null
            or (entries.entry).on_table <> t.tgrelid and t.tgrelid not in (select child from relay.triggered_tables(entries.entry) as child))
       and not exists (  -- its table has lost its name: said above
         select from relay.catalogue as c where c.on_table = t.tgrelid and relay.current_table(c) is distinct from c.on_table)
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

  -- Capture switches synchronous_commit on. Switching it off afterwards undoes that.
  for object in
    select concat_ws(' in ', case when s.setrole <> 0 then format('role %I', pg_get_userbyid(s.setrole)) end,
                             case when s.setdatabase <> 0 then format('database %I', current_database()) end)
      from pg_db_role_setting as s
     where 'synchronous_commit=off' = any (s.setconfig)
       and (s.setdatabase = 0 or s.setdatabase = (select d.oid from pg_database as d where d.datname = current_database()))
    union all
    select format('function %s', p.oid::regprocedure) from pg_proc as p where 'synchronous_commit=off' = any (p.proconfig)
  loop
    problem := 'asynchronous_commit';
    event := null;
    detail := 'synchronous_commit is off here. A transaction that switches it off after an event was captured may be undone by a crash after clients have seen it.';
    remedy := format('alter %s reset synchronous_commit', split_part(object, ' in ', 1));
    return next;
  end loop;
end
$$;
comment on function relay.check_triggers() is 'Part of relay.check(): triggers and functions that are not as relay.publish() made them.';

-- Runs with the caller's rights. Schemas that the caller may not use are skipped.
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
    select c.event, c.operation, c.on_table, part.name, part.text, part.type,
           part.name = 'account' and not c.several_accounts as one_account
      from relay.catalogue as c,
           lateral (values ('condition', c.condition, 'boolean'), ('account', c.account, case when c.several_accounts then 'text[]' else 'text' end), ('payload', c.payload, 'jsonb'), ('audience', c.audience, 'text[]')) as part(name, text, type)
     where part.text is not null and exists (select from pg_class as t where t.oid = c.on_table)
     order by c.event, c.operation, c.number, part.name
  loop
    detail := relay.expression_failure(expression.text, expression.type, expression.on_table, expression.operation);
    if detail is null and expression.one_account and relay.gives_array(expression.text, expression.on_table, expression.operation) then
      detail := 'it gives an array now';
    end if;
    continue when detail is null or detail like 'permission denied for %';
    event := expression.event;
    object := format('%s of %s on %s', expression.name, expression.operation, expression.on_table);
    detail := format('%s, in: %s', detail, expression.text);
    remedy := 'Publish the event again with an expression that fits the table as it is now.';
    return next;
  end loop;
end
$$;
comment on function relay.check_expressions() is 'Part of relay.check(): conditions, accounts, payloads and audiences that no longer fit their tables, for example after a column was renamed.';
