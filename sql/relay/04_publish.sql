-- Changing the contract.
--
--   relay.publish(event, on_table, operation, ...)   trigger + function + row in relay.catalogue
--   relay.unpublish(event)                         removes them
--   relay.suspend(event), relay.resume(event)      drops the triggers for a while
--   relay.republish(event)                         makes trigger and function anew, from the catalogue
--   relay.admit(role)                              lets a role emit events
--   relay.notice_swaps()                           for the relays: tells of tables that were swapped
--   and their parts: current_table, find_table, cautions, overtaking_triggers, install, sign, admit_capture, tell_all,
--   note_unpublished
--
-- One trigger and one function per event and operation; both carry their names, so that \d of the table reads
-- as a list of its events. Whoever publishes gains no rights: the function belongs to the owner of the table if
-- the publisher may act for that role, and to the publisher otherwise. That stays so when somebody mightier (a
-- migrating superuser) publishes it again from the catalogue, and nothing runs SQL of the catalogue on the way. Whoever
-- writes an event's SQL into the catalogue has signed it, and it is installed only where its signer could do so.

create or replace function relay.admit(role_name name) returns void
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  execute format('grant usage on schema relay to %I', role_name);
  execute format('grant execute on function relay.emit(text, text, jsonb) to %I', role_name);
end
$$;
comment on function relay.admit(name) is 'Lets a role call relay.emit(): events of any account, but none of those that only Recado writes (relay:...).';

-- A capture function inserts as its owner, who so may insert anything: he decides through his tables what accounts hear.
create or replace function relay.admit_capture(role_name name) returns void
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  perform relay.admit(role_name);
  execute format('grant usage, create on schema relay_capture to %I', role_name);
  execute format('grant insert (account_id, event, payload) on relay.events to %I', role_name);
end
$$;
comment on function relay.admit_capture(name) is 'Lets a role own capture functions, which insert into relay.events (account_id, event, payload only). relay.publish() calls it for the owners of its tables.';

-- Runs as whoever writes the row: a function with other rights could not tell who called it.
create or replace function relay.sign() returns trigger
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
  if tg_op = 'INSERT' or new.event <> old.event then
    perform relay.refuse_name(new.event);
  end if;
  if tg_op = 'UPDATE'
     and (old.event, old.operation, old.on_table, old.table_name, old.level, old.fires_at, old.condition, old.condition_in, old.account, old.payload, old.key, old.published_by)
         is not distinct from
         (new.event, new.operation, new.on_table, new.table_name, new.level, new.fires_at, new.condition, new.condition_in, new.account, new.payload, new.key, new.published_by)
     -- By these a table is found again; relay.notice_swaps() writes them as their owner.
     and ((old.told_of, old.known_as) is not distinct from (new.told_of, new.known_as)
          or pg_has_role(current_user, (select c.relowner from pg_class as c where c.oid = tg_relid), 'USAGE')) then
    return new;
  end if;
  -- A superuser restores what others have published, perhaps before their roles are there.
  if not coalesce(pg_has_role(current_user, to_regrole(quote_ident(new.published_by)), 'USAGE'), false)
     and not (select r.rolsuper from pg_roles as r where r.rolname = current_user) then
    new.published_by := current_user;
  end if;
  return new;
end
$$;
comment on function relay.sign() is 'Trigger of relay.catalogue: published_by is who wrote an event''s SQL, or a role he may act for, whatever was given.';

do $$
begin
  if not exists (select from pg_trigger where tgrelid = 'relay.catalogue'::regclass and tgname = 'sign') then
    create trigger sign before insert or update on relay.catalogue for each row execute function relay.sign();
  end if;
end
$$;

-- A name outlives a table: one that was swapped for another or made again has given its name away, and the other may
-- have been renamed since. One that was merely renamed has not, and keeps its events under its new name.
create or replace function relay.current_table(published relay.catalogue) returns regclass
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select coalesce(
    case when relay.table_named(published.table_name) = published.on_table then published.on_table end,
    (select holder
       from unnest(published.table_name || published.known_as) with ordinality as known(name, place), relay.table_named(known.name) as holder
      where holder <> published.on_table order by known.place desc limit 1),
    (select c.oid from pg_class as c where c.oid = published.told_of),
    published.on_table)
$$;
comment on function relay.current_table(relay.catalogue) is 'The table a published event belongs to now.';

create or replace function relay.find_table(published relay.catalogue) returns relay.catalogue
language plpgsql stable
set search_path = pg_catalog, pg_temp set quote_all_identifiers = off
as $$
begin
  published.on_table := relay.current_table(published);
  select format('%I.%I', n.nspname, c.relname) into published.table_name
    from pg_class as c join pg_namespace as n on n.oid = c.relnamespace where c.oid = published.on_table;
  return published;
end
$$;
comment on function relay.find_table(relay.catalogue) is 'Part of relay.install(): the published event on the table that has its name now.';

-- What works, and may not do what one expects.
create or replace function relay.cautions(published relay.catalogue) returns setof text
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $$
declare
  kind "char" := (select c.relkind from pg_class as c where c.oid = published.on_table);
  others text;
begin
  if published.operation = 'TRUNCATE' then
    return;
  end if;
  if published.level = 'row' and published.operation = 'UPDATE' and kind = 'p' then
    return next format('a row that moves to another partition of %s is no UPDATE for a row trigger; with level => ''statement'' it is', published.on_table);
  end if;
  if exists (select from pg_attribute as a where a.attrelid = published.on_table and a.attgenerated = 'v' and not a.attisdropped) then
    return next format('virtual generated columns of %s are null in new and old; write their expression instead', published.on_table);
  end if;
  if published.condition_in = 'trigger' then
    return next format('an error in the condition fails writes to %s, and the columns it names can be neither retyped nor dropped without relay.suspend()', published.on_table);
  end if;
  others := relay.overtaking_triggers(published);
  if others is not null then
    return next format('%s may change the same rows again before the event is recorded, which then is not the last word; with at => ''commit'' it is', others);
  end if;
  if published.operation = 'DELETE' then
    select string_agg(distinct k.confrelid::regclass::text, ', ') into others
      from pg_constraint as k join pg_class as parent on parent.oid = k.confrelid
     where k.conrelid = published.on_table and k.contype = 'f' and k.confdeltype = 'c' and relay.looks_up(published)
       and published.account ~* format('\m%s\M', regexp_replace(parent.relname, '\W', '.', 'g'));
    if others is not null then
      return next format('a row that goes because its row of %s went has no account any more, and nobody hears of it; relay.check() counts them. Keep the account in a column of %s', others, published.on_table);
    end if;
  end if;
end
$$;
comment on function relay.cautions(relay.catalogue) is 'Part of relay.publish(): its warnings.';

-- A row trigger sees for itself that it was overtaken. By their text, since nobody can know what a function does.
create or replace function relay.overtaking_triggers(published relay.catalogue) returns text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select string_agg(format('trigger %I', t.tgname), ', ' order by t.tgname)
    from pg_trigger as t join pg_proc as p on p.oid = t.tgfoid join pg_class as c on c.oid = t.tgrelid
   where t.tgrelid = published.on_table and not t.tgisinternal and t.tgtype & 2 = 0
     and published.level = 'statement' and published.operation in ('INSERT', 'UPDATE')
     and p.pronamespace <> 'relay_capture'::regnamespace
     and p.prosrc ~* format('\m(update|merge\s+into)\s+(only\s+)?("?\w+"?\s*\.\s*)?"?%s\M', regexp_replace(c.relname, '\W', '.', 'g'))
$$;
comment on function relay.overtaking_triggers(relay.catalogue) is 'Triggers of the application that seem to update the rows of the table they stand on, before an event of statement level is recorded.';

create or replace function relay.tell_all(event text, on_table text, reason text) returns void
language sql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
  insert into relay.events (account_id, event, payload)
  values (null, 'relay:resync', jsonb_build_object('event', tell_all.event, 'table', tell_all.on_table, 'reason', tell_all.reason))
$$;
comment on function relay.tell_all(text, text, text) is 'Tells every account to refetch.';

create or replace function relay.notice_swaps() returns setof text
language sql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
  with swapped as (
    update relay.catalogue as c set told_of = now.told_of, known_as = now.known_as
      from (select w.event, w.operation, w.told_of as told_before, nullif(relay.current_table(w), w.on_table)::oid as told_of,
                   case when own.name = any (w.table_name || w.known_as) then w.known_as else w.known_as || own.name end as known_as
              from relay.catalogue as w
              left join lateral (
                select format('%I.%I', n.nspname, t.relname) as name
                  from pg_class as t join pg_namespace as n on n.oid = t.relnamespace where t.oid = w.on_table) as own on true
             where w.table_name is not null) as now
     where (c.event, c.operation) = (now.event, now.operation)
       and (c.told_of, c.known_as) is distinct from (now.told_of, now.known_as)
    returning c.event, c.table_name, c.told_of is not null and c.told_of is distinct from now.told_before as is_news
  ),
  told as (
    select relay.tell_all(min(event), table_name, 'table_replaced'), table_name from swapped where is_news group by table_name
  )
  select table_name from told
$$;
comment on function relay.notice_swaps() is 'Called by the relays every second: remembers the names of watched tables, and tells every account to refetch, once, where another table has taken the name of a watched one. Returns such names; relay.check() says what to do.';

create or replace function relay.note_unpublished(event text) returns void
language sql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
  insert into relay.unpublished (event, unpublished_at) values (note_unpublished.event, clock_timestamp())
  on conflict on constraint unpublished_pkey do update set unpublished_at = excluded.unpublished_at
$$;
comment on function relay.note_unpublished(text) is 'Part of relay.unpublish(): what was recorded of the event until now is no fault.';

-- Makes function and trigger, where they are not so already, and writes the catalogue.
create or replace function relay.install(wanted relay.catalogue) returns text
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  current relay.catalogue;
  watched pg_class;
  name text := relay.capture_name(wanted.event, wanted.operation);
  body text;
  function_at regprocedure := to_regprocedure(format('relay_capture.%I()', relay.capture_name(wanted.event, wanted.operation)));
  settings text := (
    select string_agg(format(' set %s = %s', split_part(s, '=', 1),
             (select string_agg(quote_literal(value), ', ') from regexp_split_to_table(split_part(s, '=', 2), ', ') as value)), '')
      from unnest(relay.capture_settings()) as s);
  caution text;
  function_owner name;
  function_changes boolean;
  trigger_changes boolean;
begin
  select c.* into current from relay.catalogue as c where c.event = wanted.event and c.operation = wanted.operation;
  wanted := relay.find_table(wanted);
  select c.* into watched from pg_class as c where c.oid = wanted.on_table;
  if not found then
    raise exception 'relay.publish(%): its table was dropped', quote_literal(wanted.event)
      using errcode = 'undefined_table', hint = format('Publish it for another table, or: select relay.unpublish(%L)', wanted.event);
  end if;
  -- Triggers and functions are made of text: this makes sure that each is one expression, and fits the table.
  if wanted.operation <> 'TRUNCATE' then
    perform relay.try_expression('account', wanted.account, 'text', wanted.on_table, wanted.operation);
    perform relay.try_expression('payload', wanted.payload, 'jsonb', wanted.on_table, wanted.operation);
    if wanted.condition is not null then
      perform relay.try_expression('condition', wanted.condition, 'boolean', wanted.on_table, wanted.operation);
    end if;
  end if;

  if to_regrole(quote_ident(wanted.published_by)) is null then
    raise exception 'relay.publish(%): it was published by %, a role that is gone', quote_literal(wanted.event), quote_ident(wanted.published_by)
      using errcode = 'undefined_object',
            hint = format('Read its SQL in relay.catalogue, and adopt it: update relay.catalogue set published_by = current_user where event = %L; select relay.republish(%1$L)', wanted.event);
  end if;
  if not has_table_privilege(wanted.published_by::name, wanted.on_table, 'TRIGGER') then
    raise exception 'relay.publish(on_table => %): permission denied: %, who publishes %, may not make triggers there',
      quote_literal(wanted.on_table::text), quote_ident(wanted.published_by), wanted.event
      using errcode = 'insufficient_privilege', hint = 'Publish it as the owner of the table, or as a member of that role.';
  end if;
  body := relay.capture_body(wanted);
  function_owner := case
    when pg_has_role(wanted.published_by::name, watched.relowner, 'MEMBER') then pg_get_userbyid(watched.relowner)
    else wanted.published_by
  end;
  function_changes := not exists (
    select from pg_proc as p
     where p.oid = function_at and p.prosrc = body and p.prosecdef and p.proconfig @> relay.capture_settings()
       and pg_get_userbyid(p.proowner) = function_owner);
  if function_changes then
    execute format('create or replace function relay_capture.%I() returns trigger language plpgsql volatile security definer%s as %L', name, settings, body);
    execute format('comment on function relay_capture.%I() is %L', name, format('Recado: captures %s. Generated by relay.publish().', wanted.event));
    execute format('revoke all on function relay_capture.%I() from public', name);
    perform relay.admit_capture(function_owner);
    if function_owner <> (select pg_get_userbyid(p.proowner) from pg_proc as p where p.oid = to_regprocedure(format('relay_capture.%I()', name))) then
      execute format('alter function relay_capture.%I() owner to %I', name, function_owner);
    end if;
    function_at := format('relay_capture.%I()', name)::regprocedure;
  end if;

  trigger_changes := current.suspended is distinct from false
    or (current.on_table, current.level, current.fires_at, current.condition_in) is distinct from (wanted.on_table, wanted.level, wanted.fires_at, wanted.condition_in)
    or wanted.condition_in = 'trigger' and current.condition is distinct from wanted.condition
    or relay.trigger_argument(current) is distinct from relay.trigger_argument(wanted)
    or exists (
      select from relay.triggered_tables(wanted) as t(on_table)
       where not exists (
         select from pg_trigger as g
          where g.tgrelid = t.on_table and g.tgname = relay.trigger_name(wanted.event, wanted.operation)::name
            and g.tgenabled in ('O', 'A') and g.tgfoid = function_at
            and relay.trigger_definition(g.oid) = current.trigger_definition))
    or wanted.level = 'row' and exists (
      select from pg_partition_tree(wanted.on_table) as part
        left join pg_trigger as clone on clone.tgrelid = part.relid and clone.tgname = relay.trigger_name(wanted.event, wanted.operation)::name
       where part.level > 0 and coalesce(clone.tgenabled not in ('O', 'A'), true));
  if trigger_changes then
    perform relay.create_trigger(wanted);
    for caution in select c from relay.cautions(wanted) as c loop
      raise warning 'relay.publish(%): %', quote_literal(wanted.event), caution;
    end loop;
  end if;
  wanted.trigger_definition := (
    select relay.trigger_definition(t.oid) from pg_trigger as t
     where t.tgrelid = wanted.on_table and t.tgname = relay.trigger_name(wanted.event, wanted.operation)::name);

  if not function_changes and not trigger_changes
     and (current.account, current.payload, current.condition, current.description, current.payload_schema, current.table_name)
         is not distinct from (wanted.account, wanted.payload, wanted.condition, wanted.description, wanted.payload_schema, wanted.table_name) then
    return 'unchanged';
  end if;
  if current.on_table is distinct from wanted.on_table and current.event is not null then
    -- What was written to the table since it took the name, nobody has captured.
    perform relay.tell_all(wanted.event, wanted.table_name, 'table_replaced');
  end if;
  if current.event is null then
    insert into relay.catalogue select wanted.*;
    return 'published';
  end if;
  -- Not made anew: that would be signed anew, too.
  update relay.catalogue as c
     set on_table = wanted.on_table, table_name = wanted.table_name, told_of = null, known_as = null,
         level = wanted.level, fires_at = wanted.fires_at, condition = wanted.condition, condition_in = wanted.condition_in,
         account = wanted.account, payload = wanted.payload, key = wanted.key,
         description = wanted.description, payload_schema = wanted.payload_schema,
         suspended = wanted.suspended, suspended_at = wanted.suspended_at, trigger_definition = wanted.trigger_definition,
         published_by = wanted.published_by, published_at = wanted.published_at
   where c.event = wanted.event and c.operation = wanted.operation;
  return 'replaced';
end
$$;
comment on function relay.install(relay.catalogue) is 'Part of relay.publish() and relay.republish(): makes the trigger and its function, and records them.';

-- Of version 0.1, with an argument less.
drop function if exists relay.publish(text, text, text, text, text, text, text, jsonb, text, text, text);

create or replace function relay.publish(
  event text,
  on_table text default null,
  operation text default 'UPDATE',
  condition text default null,
  account text default null,
  payload text default null,
  description text default null,
  payload_schema jsonb default null,
  level text default 'row',
  at text default 'statement',
  key text default null,
  condition_in text default 'function'
) returns text
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
<<publish>>
declare
  wanted relay.catalogue;
  current relay.catalogue;
  taken_by text;
  failure text;
begin
  perform relay.refuse_name(event);
  wanted.event := event;
  wanted.description := description;
  wanted.payload_schema := payload_schema;
  wanted.suspended := false;
  wanted.published_by := current_user;
  wanted.published_at := clock_timestamp();
  wanted.level := lower(level);
  wanted.fires_at := lower(at);
  wanted.operation := case when on_table is null then 'EMIT' else upper(operation) end;

  if wanted.operation is null or wanted.operation not in ('INSERT', 'UPDATE', 'DELETE', 'TRUNCATE', 'EMIT') then
    raise exception 'relay.publish(operation => %): expected INSERT, UPDATE, DELETE or TRUNCATE', quote_nullable(operation)
      using errcode = 'invalid_parameter_value', hint = 'Several operations of one event are several calls.';
  end if;
  if wanted.level is null or wanted.level not in ('row', 'statement') then
    raise exception 'relay.publish(level => %): expected row or statement', quote_nullable(level) using errcode = 'invalid_parameter_value';
  end if;
  if wanted.fires_at is null or wanted.fires_at not in ('statement', 'commit') then
    raise exception 'relay.publish(at => %): expected statement or commit', quote_nullable(at) using errcode = 'invalid_parameter_value';
  end if;
  if condition_in is null or lower(condition_in) not in ('function', 'trigger') then
    raise exception 'relay.publish(condition_in => %): expected function or trigger', quote_nullable(condition_in) using errcode = 'invalid_parameter_value';
  end if;
  if lower(condition_in) = 'trigger' then
    if wanted.level <> 'row' or condition is null or wanted.operation = 'TRUNCATE' then
      raise exception 'relay.publish(condition_in => ''trigger''): only a row trigger with a condition has a WHEN'
        using errcode = 'invalid_parameter_value';
    end if;
    wanted.condition_in := 'trigger';
  end if;
  if wanted.operation = 'TRUNCATE' then
    wanted.level := 'statement';
  end if;
  if wanted.level = 'statement' and wanted.fires_at = 'commit' then
    raise exception 'relay.publish(at => ''commit''): Postgres defers row triggers only; use level => ''row'''
      using errcode = 'invalid_parameter_value';
  end if;

  begin
    wanted.on_table := to_regclass(on_table);
  exception when invalid_name or syntax_error or feature_not_supported then
    wanted.on_table := null; -- not even a name
  end;
  if on_table is not null and wanted.on_table is null then
    raise exception 'relay.publish(on_table => %): there is no such table', quote_literal(on_table)
      using errcode = 'undefined_table', hint = 'Write it with its schema, and in double quotes where it has capitals: public."Orders".';
  end if;
  select string_agg(distinct coalesce(t.oid::regclass::text, 'relay.emit()'), ', ') into taken_by
    from relay.catalogue as c left join pg_class as t on t.oid = c.on_table
   where c.event = wanted.event and c.on_table is distinct from wanted.on_table
     -- A table that was dropped keeps no name; one that was swapped has given it away.
     and (c.on_table is null or t.oid is not null and relay.current_table(c) is distinct from wanted.on_table);
  if taken_by is not null then
    raise exception 'relay.publish(event => %): the event exists already for %', quote_literal(event), taken_by
      using errcode = 'duplicate_object', hint = format('Choose another name, or first: select relay.unpublish(%L)', event);
  end if;

  -- They are the event's, and stay: calls for its further operations may leave them out, and so may a later call.
  select coalesce(wanted.description, min(c.description)), coalesce(wanted.payload_schema, min(c.payload_schema::text)::jsonb)
    into wanted.description, wanted.payload_schema
    from relay.catalogue as c where c.event = wanted.event;
  wanted.description := nullif(wanted.description, '');
  wanted.payload_schema := nullif(wanted.payload_schema, '{}');

  if wanted.operation = 'EMIT' then
    if coalesce(condition, account, payload, key) is not null then
      raise exception 'relay.publish(on_table => null): condition, account, payload and key belong to a trigger, and there is none without a table'
        using errcode = 'invalid_parameter_value';
    end if;
    select c.* into current from relay.catalogue as c where c.event = wanted.event and c.operation = 'EMIT';
    if current.event is not null
       and (current.description, current.payload_schema) is not distinct from (wanted.description, wanted.payload_schema) then
      return 'unchanged';
    end if;
    delete from relay.catalogue as c where c.event = wanted.event and c.operation = 'EMIT';
    insert into relay.catalogue select wanted.*;
    return case when current.event is null then 'published' else 'replaced' end;
  end if;

  if not exists (select from pg_class as c
                  where c.oid = wanted.on_table and c.relkind in ('r', 'p') and c.relnamespace <> 'relay'::regnamespace) then
    raise exception 'relay.publish(on_table => %): expected a table of an application', quote_literal(on_table)
      using errcode = 'wrong_object_type', hint = 'Views, foreign tables and the relay''s own tables cannot be watched.';
  end if;

  if wanted.operation <> 'TRUNCATE' then
    if account is null then
      raise exception 'relay.publish(account => ...): received null, expected an SQL expression such as new."accountId"'
        using errcode = 'null_value_not_allowed';
    end if;
    wanted.account := account;
    wanted.payload := coalesce(payload, format('to_jsonb(%s)', case when wanted.operation = 'DELETE' then 'old' else 'new' end));
    wanted.condition := condition;
  end if;
  if wanted.level = 'statement' and wanted.operation = 'UPDATE' then
    wanted.key := coalesce(key, (
      select string_agg(quote_ident(a.attname), ', ' order by a.attnum)
        from pg_index as i join pg_attribute as a on a.attrelid = i.indrelid and a.attnum = any (i.indkey)
       where i.indrelid = wanted.on_table and i.indisprimary));
    if wanted.key is null then
      raise exception 'relay.publish(key => ...): % has no primary key; name the columns that pair a row''s old and new version', wanted.on_table
        using errcode = 'invalid_parameter_value';
    end if;
    begin
      execute format('explain select from %1$s as new join %1$s as old using (%2$s)', wanted.on_table, wanted.key);
    exception when others then
      get stacked diagnostics failure = message_text;
      raise exception 'relay.publish(key => %): %', quote_literal(wanted.key), failure
        using errcode = 'invalid_parameter_value', hint = 'Expected columns of the table, separated by commas.';
    end;
  end if;


  return relay.install(wanted);
end
$$;
comment on function relay.publish(text, text, text, text, text, text, text, jsonb, text, text, text, text) is
  'Adds an event to the contract, or changes it. condition, account and payload are SQL over new and old; a null account means no event. Several operations are several calls, of which one gives description and payload_schema; a later call without them leaves them as they are, '''' and ''{}'' remove them. Example: select relay.publish(event => ''doctors.created'', on_table => ''public.doctors'', operation => ''INSERT'', account => ''new."accountId"'', payload => ''to_jsonb(new)'')';

create or replace function relay.unpublish(event text) returns boolean
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
declare
  found record;
  any_found boolean := false;
begin
  perform relay.drop_triggers(event);
  for found in select c.operation from relay.catalogue as c where c.event = unpublish.event loop
    any_found := true;
    execute format('drop function if exists relay_capture.%I()', relay.capture_name(event, found.operation));
  end loop;
  delete from relay.catalogue as c where c.event = unpublish.event;
  if any_found then
    perform relay.note_unpublished(event);
  end if;
  return any_found;
end
$$;
comment on function relay.unpublish(text) is 'Removes an event from the contract, with its triggers and functions. False: there was none of that name.';

create or replace function relay.suspend(event text) returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
begin
  if not exists (select from relay.catalogue as c where c.event = suspend.event) then
    raise exception 'relay.suspend(%): no such event', quote_nullable(event)
      using errcode = 'undefined_object', hint = 'select event from relay.contract lists them.';
  end if;
  perform relay.drop_triggers(event);
  update relay.catalogue as c set suspended = true, suspended_at = now() where c.event = suspend.event and not c.suspended;
end
$$;
comment on function relay.suspend(text) is 'Drops the triggers of an event so that a migration can change a column its condition names. In one transaction with relay.resume() no change goes uncaptured.';

create or replace function relay.republish(event text) returns text
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
declare
  published relay.catalogue;
  outcome text;
  outcomes text[];
begin
  for published in select * from relay.catalogue as c where c.event = republish.event order by c.operation loop
    if published.suspended then
      outcome := 'suspended';
    elsif published.operation = 'EMIT' then
      outcome := 'unchanged';
    else
      published.published_at := clock_timestamp();
      outcome := relay.install(published);
    end if;
    outcomes := outcomes || outcome;
  end loop;
  if outcomes is null then
    raise exception 'relay.republish(%): no such event', quote_nullable(event)
      using errcode = 'undefined_object', hint = 'select event from relay.contract lists them.';
  end if;
  return (select string_agg(distinct o, ', ') from unnest(outcomes) as o);
end
$$;
comment on function relay.republish(text) is 'Publishes an event again as the catalogue describes it: after an upgrade of Recado, or when its trigger or function was dropped. Suspended events stay so.';

create or replace function relay.resume(event text) returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
begin
  if not exists (select from relay.catalogue as c where c.event = resume.event) then
    raise exception 'relay.resume(%): no such event', quote_nullable(event)
      using errcode = 'undefined_object', hint = 'select event from relay.contract lists them.';
  end if;
  update relay.catalogue as c set suspended = false, suspended_at = null where c.event = resume.event;
  perform relay.republish(event);
end
$$;
comment on function relay.resume(text) is 'Publishes a suspended event again, against the table as it is now.';
