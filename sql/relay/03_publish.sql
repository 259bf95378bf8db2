-- Changing the contract.
--
--   relay.publish(event, on_table, operation, ...)   trigger + function + row in relay.catalogue
--   relay.unpublish(event)                         removes them
--   relay.suspend(event), relay.resume(event)      drops the triggers for the time of a migration
--   relay.republish(event)                         makes trigger and function anew, from the catalogue
--   relay.admit(role)                              lets a role insert events
--   and their parts: trigger_name, capture_body, capture_settings, expression_failure, try_expression, install,
--   lock_table, create_trigger, trigger_definition, drop_triggers
--
-- One trigger and one function per event and operation; both carry their names, so that \d of the table reads
-- as a list of its events. Whoever publishes gains no rights: the function belongs to the owner of the table if
-- the publisher may act for that role, and to the publisher otherwise. That stays so when somebody mightier (a
-- migrating superuser) publishes it again from the catalogue, and nothing runs SQL of the catalogue on the way.

create or replace function relay.admit(role_name name) returns void
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  execute format('grant usage on schema relay to %I', role_name);
  execute format('grant usage, create on schema relay_capture to %I', role_name);
  execute format('grant insert (account_id, event, payload) on relay.events to %I', role_name);
  execute format('grant execute on function relay.emit(text, text, jsonb) to %I', role_name);
end
$$;
comment on function relay.admit(name) is 'Lets a role insert into relay.events (account_id, event, payload only), call relay.emit(), and own capture functions.';

create or replace function relay.trigger_name(event text, operation text) returns text
language sql immutable
set search_path = pg_catalog, pg_temp
as $$ select event || '/' || lower(operation) $$;
comment on function relay.trigger_name(text, text) is 'Name of the trigger and of its function: doctors.deleted/update.';

-- The function of a trigger. Account and payload are evaluated in a block of their own that writes nothing: it
-- costs no transaction id, and an expression that fails becomes a relay:resync for the account instead of an
-- error in the application's write. The insert stands outside it.
-- use_column: an expression may name a column like one of our variables.
-- A path of no steps: pg_column_size() of a value as it is stored elsewhere tells of it as it was compressed.
-- A database of encoding SQL_ASCII takes any bytes; what is no UTF-8 cannot be sent.
-- An account of more than 256 bytes is nobody's, and its first 257 characters are so too: nobody refetches for it.
create or replace function relay.capture_body(published relay.catalogue) returns text
language plpgsql stable
set search_path = pg_catalog, pg_temp
as $body$
declare
  rows_changed text;
  refuse_unpaired text := '';
  any_bytes boolean := current_setting('server_encoding') = 'SQL_ASCII';
begin
  if published.operation = 'TRUNCATE' then
    return format($f$
begin
  insert into relay.events (account_id, event, payload)
  values (null, 'relay:resync', jsonb_build_object('event', %1$L, 'table', %2$L, 'reason', 'truncated'));
  return null;
end
$f$, published.event, published.on_table);
  end if;

  if published.level = 'row' then
    return format($f$
#variable_conflict use_column
declare
  captured_account text;
  captured_payload jsonb;
  failure text;
begin
  begin
    captured_account := (%3$s)::text;
    if captured_account is null then
      return null;
    end if;
    captured_payload := coalesce((%4$s)::jsonb, 'null');
    if octet_length(captured_account) > 256 or pg_column_size(captured_payload #> '{}') > 4194304 then
      raise exception 'the %%', case when octet_length(captured_account) > 256 then 'account has more than 256 bytes' else 'payload has more than 4 MiB' end;
    end if;%5$s
  exception when others then
    get stacked diagnostics failure = message_text;
    insert into relay.events (account_id, event, payload)
    values (left(captured_account, 257), 'relay:resync', jsonb_build_object(
      'event', %1$L, 'table', %2$L, 'reason', 'capture_failed', 'sqlstate', sqlstate, 'error', failure));
    return null;
  end;
  insert into relay.events (account_id, event, payload) values (captured_account, %1$L, captured_payload);
  return null;
end
$f$, published.event, published.on_table, published.account, published.payload,
     case when any_bytes then $f$
    perform convert_from(convert_to(concat(captured_account, captured_payload), 'SQL_ASCII'), 'UTF8');$f$ end);
  end if;

  rows_changed := case published.operation
    when 'INSERT' then 'relay_new as new'
    when 'DELETE' then 'relay_old as old'
    else format('relay_new as new join relay_old as old using (%s)', published.key)
  end;
  -- A row whose key was changed has no pair, and would be passed over.
  if published.operation = 'UPDATE' then
    refuse_unpaired := format(
      'if (select count(*) from relay_new) <> (select count(*) from %s) then raise exception ''the key (%s) of a row was changed''; end if;',
      rows_changed, published.key);
  end if;
  return format($f$
#variable_conflict use_column
declare
  captured_accounts text[];
  captured_payloads jsonb[];
  failure text;
begin
  begin
    %7$s
    select array_agg(captured.account), array_agg(captured.payload)
      into captured_accounts, captured_payloads
      from (select chosen.account, coalesce((%4$s)::jsonb, 'null') as payload
              from %5$s cross join lateral (select (%3$s)::text as account offset 0) as chosen
             where chosen.account is not null and (%6$s)) as captured;
    if exists (select from unnest(captured_accounts) as a where octet_length(a) > 256) then
      raise exception 'an account has more than 256 bytes';
    end if;
    if exists (select from unnest(captured_payloads) as p where pg_column_size(p) > 4194304) then
      raise exception 'a payload has more than 4 MiB';
    end if;%8$s
  exception when others then
    get stacked diagnostics failure = message_text;
    -- All accounts of the statement; every account there is (null), where even they cannot be told.
    begin
      %7$s
      captured_accounts := array(select distinct left((%3$s)::text, 257) from %5$s where (%3$s)::text is not null and (%6$s));
    exception when others then
      captured_accounts := array[null];
    end;
    insert into relay.events (account_id, event, payload)
    select a, 'relay:resync', jsonb_build_object(
             'event', %1$L, 'table', %2$L, 'reason', 'capture_failed', 'sqlstate', sqlstate, 'error', failure)
      from unnest(captured_accounts) as a;
    return null;
  end;
  if captured_accounts is not null then
    insert into relay.events (account_id, event, payload)
    select c.account, %1$L, c.payload from unnest(captured_accounts, captured_payloads) as c(account, payload);
  end if;
  return null;
end
$f$, published.event, published.on_table, published.account, published.payload, rows_changed,
     coalesce(published.condition, 'true'), refuse_unpaired,
     case when any_bytes then $f$
    perform convert_from(convert_to(concat(c.account, c.payload), 'SQL_ASCII'), 'UTF8')
       from unnest(captured_accounts, captured_payloads) as c(account, payload);$f$ end);
end
$body$;
comment on function relay.capture_body(relay.catalogue) is 'Source of the trigger function of a published event.';

create or replace function relay.capture_settings() returns text[]
language sql immutable
set search_path = pg_catalog, pg_temp
as $$ select array['search_path=pg_catalog, pg_temp', 'TimeZone=UTC', 'row_security=off'] $$;
comment on function relay.capture_settings() is 'Settings of every trigger function, as pg_proc shows them. Off: row-level security that would hide rows is an error, which becomes a relay:resync.';

-- Parses the expression with old and new as rows of the table, under the search_path the trigger function will have,
-- so that what passes here passes there. In a WHERE: there, an expression is of one row; an aggregate would be of all
-- rows, and give the wrong account.
-- As a cursor over EXPLAIN that is never fetched: Postgres refuses it where the text is more than one statement, and
-- plans nothing. Planning calls functions declared immutable, and others than the publisher come here too: migrating
-- superusers, and whoever calls relay.check().
create or replace function relay.expression_failure(expression text, target text, on_table regclass, operation text) returns text
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  parsed refcursor;
  failure text;
begin
  open parsed for execute format('explain select from %s where %s', concat_ws(' cross join ',
    case when operation in ('INSERT', 'UPDATE') then format('%s as new', on_table) end,
    case when operation in ('UPDATE', 'DELETE') then format('%s as old', on_table) end),
    -- A trigger's WHEN casts nothing.
    format(case target when 'boolean' then '(%s)' else '(%s)::%s is not null' end, expression, target));
  close parsed;
  return null;
exception when others then
  get stacked diagnostics failure = message_text;
  return failure;
end
$$;
comment on function relay.expression_failure(text, text, regclass, text) is 'Why an expression of the contract cannot work on its table; null: it can. Parses it, and runs none of it.';

create or replace function relay.try_expression(argument text, expression text, target text, on_table regclass, operation text)
returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  failure text := relay.expression_failure(expression, target, on_table, operation);
begin
  if failure is not null then
    raise exception 'relay.publish(% => ...): %', argument, failure
      using errcode = 'invalid_parameter_value',
            detail = format('Received: %s', expression),
            hint = format('Expected an SQL expression over %s of %s that can be cast to %s. Qualify tables and functions with their schema; camelCase columns need double quotes.',
              case operation when 'INSERT' then 'new' when 'DELETE' then 'old' else 'new and old' end, on_table, target);
  end if;
end
$$;
comment on function relay.try_expression(text, text, text, regclass, text) is 'Raises, naming the argument, where an expression given to relay.publish() cannot work.';

-- A table, and then its partitions: in the order in which writers that name the table lock them. DROP TRIGGER alone locks
-- the partitions first, and a writer between two of its statements would be caught in a deadlock. A writer that names
-- a partition holds that one first; so nobody waits for a partition while the table is held. Where one is busy, all
-- locks are given back, and it is tried again.
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
      -- Who may make triggers need not be one who may write, and only those may lock.
      when insufficient_privilege then return;
      when lock_not_available then
        -- A lock_timeout of the caller is over: it is the table itself that is busy.
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

create or replace function relay.drop_triggers(of_event text, of_operation text default null) returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  found record;
begin
  for found in
    select c.operation, t.tgrelid::regclass as on_table, t.tgname
      from relay.catalogue as c
      join pg_trigger as t on t.tgname = relay.trigger_name(c.event, c.operation)::name and t.tgrelid = c.on_table
     where c.event = of_event and (of_operation is null or c.operation = of_operation)
  loop
    perform relay.lock_table(found.on_table, 'access exclusive');
    execute format('drop trigger %I on %s', found.tgname, found.on_table);
  end loop;
end
$$;
comment on function relay.drop_triggers(text, text) is 'Drops the triggers of an event from its table.';

create or replace function relay.create_trigger(published relay.catalogue) returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  trigger_name text := relay.trigger_name(published.event, published.operation);
  failure text;
begin
  perform relay.drop_triggers(published.event, published.operation);
  perform relay.lock_table(published.on_table, 'share row exclusive');
  execute format('create %s trigger %I after %s on %s %s %s %s execute function relay_capture.%I()',
    case published.fires_at when 'commit' then 'constraint' end,
    trigger_name,
    published.operation,
    published.on_table,
    case when published.fires_at = 'commit' then 'deferrable initially deferred' end,
    case when published.level = 'statement' then concat_ws(' ',
      case when published.operation <> 'TRUNCATE' then concat_ws(' ', 'referencing',
        case when published.operation <> 'INSERT' then 'old table as relay_old' end,
        case when published.operation <> 'DELETE' then 'new table as relay_new' end) end,
      'for each statement')
    else 'for each row' end,
    case when published.level = 'row' and published.condition is not null then format('when (%s)', published.condition) end,
    trigger_name);
  -- Only the owner may; a publisher that merely has the TRIGGER privilege goes without.
  if pg_has_role(current_user, (select c.relowner from pg_class as c where c.oid = published.on_table), 'MEMBER') then
    execute format('comment on trigger %I on %s is %L', trigger_name, published.on_table,
      format('Recado: records %s. %s', published.event, coalesce(published.description, '')));
  end if;
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
    raise exception 'relay.publish(%): the trigger on % could not be created: %',
      case when published.condition is null then quote_literal(published.event) else 'condition => ...' end, published.on_table, failure
      using errcode = sqlstate,
            hint = 'A condition sees new and old only. A look into other tables goes into account, where null means no event.';
end
$$;
comment on function relay.create_trigger(relay.catalogue) is 'Creates the trigger of a published event anew.';

-- Without the table's name, which may change.
create or replace function relay.trigger_definition(of_trigger oid) returns text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select replace(pg_get_triggerdef(t.oid), format(' ON %I.%I ', n.nspname, c.relname), ' ON ... ')
    from pg_trigger as t join pg_class as c on c.oid = t.tgrelid join pg_namespace as n on n.oid = c.relnamespace
   where t.oid = of_trigger
$$;
comment on function relay.trigger_definition(oid) is 'A trigger as Postgres prints it. The catalogue keeps what relay.publish() made, so that relay.check() sees what was changed by hand.';

-- Makes function and trigger, where they are not so already, and writes the catalogue.
create or replace function relay.install(wanted relay.catalogue) returns text
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  current relay.catalogue;
  watched pg_class;
  name text := relay.trigger_name(wanted.event, wanted.operation);
  body text := relay.capture_body(wanted);
  function_at regprocedure := to_regprocedure(format('relay_capture.%I()', relay.trigger_name(wanted.event, wanted.operation)));
  function_owner name;
  function_changes boolean;
  trigger_changes boolean;
begin
  select c.* into current from relay.catalogue as c where c.event = wanted.event and c.operation = wanted.operation;
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

  function_owner := case
    when to_regrole(quote_ident(wanted.published_by)) is null then current_user
    when pg_has_role(wanted.published_by::name, watched.relowner, 'MEMBER') then pg_get_userbyid(watched.relowner)
    else wanted.published_by
  end;
  function_changes := not exists (
    select from pg_proc as p
     where p.oid = function_at and p.prosrc = body and p.prosecdef and p.proconfig @> relay.capture_settings()
       and pg_get_userbyid(p.proowner) = function_owner);
  if function_changes then
    execute format('create or replace function relay_capture.%I() returns trigger language plpgsql volatile security definer '
      'set search_path = pg_catalog, pg_temp set timezone = ''UTC'' set row_security = off as %L', name, body);
    execute format('comment on function relay_capture.%I() is %L', name, format('Recado: captures %s. Generated by relay.publish().', wanted.event));
    execute format('revoke all on function relay_capture.%I() from public', name);
    perform relay.admit(function_owner);
    if function_owner <> (select pg_get_userbyid(p.proowner) from pg_proc as p where p.oid = to_regprocedure(format('relay_capture.%I()', name))) then
      execute format('alter function relay_capture.%I() owner to %I', name, function_owner);
    end if;
    function_at := format('relay_capture.%I()', name)::regprocedure;
  end if;

  trigger_changes := current.suspended is distinct from false
    or (current.on_table, current.level, current.fires_at) is distinct from (wanted.on_table, wanted.level, wanted.fires_at)
    or (wanted.level = 'row' and current.condition is distinct from wanted.condition)
    or not exists (
      select from pg_trigger as t
       where t.tgrelid = wanted.on_table and t.tgname = name::name and t.tgenabled in ('O', 'A') and t.tgfoid = function_at
         and relay.trigger_definition(t.oid) = current.trigger_definition)
    or wanted.level = 'row' and exists (
      select from pg_partition_tree(wanted.on_table) as part
        left join pg_trigger as clone on clone.tgrelid = part.relid and clone.tgname = name::name
       where part.level > 0 and coalesce(clone.tgenabled not in ('O', 'A'), true));
  if trigger_changes then
    perform relay.create_trigger(wanted);
    if wanted.level = 'row' and wanted.operation = 'UPDATE' and watched.relkind = 'p' then
      raise warning 'relay.publish(%): a row that moves to another partition of % is no UPDATE for a row trigger; with level => ''statement'' it is',
        quote_literal(wanted.event), wanted.on_table;
    end if;
    if wanted.level = 'statement' and watched.relkind = 'p' then
      raise warning 'relay.publish(%): statements that name a partition of % instead of it are not captured; with level => ''row'' they are',
        quote_literal(wanted.event), wanted.on_table;
    end if;
    if exists (select from pg_attribute as a where a.attrelid = wanted.on_table and a.attgenerated = 'v' and not a.attisdropped) then
      raise warning 'relay.publish(%): virtual generated columns of % are null in new and old; write their expression instead',
        quote_literal(wanted.event), wanted.on_table;
    end if;
  end if;
  wanted.trigger_definition := (
    select relay.trigger_definition(t.oid) from pg_trigger as t where t.tgrelid = wanted.on_table and t.tgname = name::name);

  if not function_changes and not trigger_changes
     and (current.account, current.payload, current.condition, current.description, current.payload_schema)
         is not distinct from (wanted.account, wanted.payload, wanted.condition, wanted.description, wanted.payload_schema) then
    return 'unchanged';
  end if;
  delete from relay.catalogue as c where c.event = wanted.event and c.operation = wanted.operation;
  insert into relay.catalogue select wanted.*;
  return case when current.event is null then 'published' else 'replaced' end;
end
$$;
comment on function relay.install(relay.catalogue) is 'Part of relay.publish() and relay.republish(): makes the trigger and its function, and records them.';

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
  key text default null
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
  wanted.published_at := now();
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
     and (c.on_table is null or t.oid is not null);  -- a table that was dropped keeps no name
  if taken_by is not null then
    raise exception 'relay.publish(event => %): the event exists already for %', quote_literal(event), taken_by
      using errcode = 'duplicate_object', hint = format('Choose another name, or first: select relay.unpublish(%L)', event);
  end if;

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

  -- They are the event's: calls for its further operations may leave them out.
  select coalesce(wanted.description, min(c.description)), coalesce(wanted.payload_schema, min(c.payload_schema::text)::jsonb)
    into wanted.description, wanted.payload_schema
    from relay.catalogue as c where c.event = wanted.event and c.operation <> wanted.operation;

  return relay.install(wanted);
end
$$;
comment on function relay.publish(text, text, text, text, text, text, text, jsonb, text, text, text) is
  'Adds an event to the contract, or changes it. condition, account and payload are SQL over new and old; a null account means no event. Several operations are several calls, of which one gives description and payload_schema. Example: select relay.publish(event => ''doctors.created'', on_table => ''public.doctors'', operation => ''INSERT'', account => ''new."accountId"'', payload => ''to_jsonb(new)'')';

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
    execute format('drop function if exists relay_capture.%I()', relay.trigger_name(event, found.operation));
  end loop;
  delete from relay.catalogue as c where c.event = unpublish.event;
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
