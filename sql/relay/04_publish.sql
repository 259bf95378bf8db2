-- Changing the contract.
--
--   relay.publish(event, on_table, operation, ...)   trigger + function + entry in relay.catalogue
--
-- Its parts, and what else changes the contract:
--
--   04_tables       which table an entry belongs to, and swapped tables
--   04_rights       who may capture, and who has signed an event's SQL
--   04_cautions     the warnings
--   04_install      from an entry to trigger and function, and back
--   04_unpublish    relay.unpublish(), republish(), suspend(), resume()
--
-- Each event, operation and table has an entry, with its own trigger and function, named so that \d of the table reads
-- as a list of its events.

-- Of earlier versions, with fewer arguments.
drop function if exists relay.publish(text, text, text, text, text, text, text, jsonb, text, text, text);
drop function if exists relay.publish(text, text, text, text, text, text, text, jsonb, text, text, text, text);

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
  condition_in text default 'function',
  audience text default null
) returns text
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
#variable_conflict use_variable
<<publish>>
declare
  wanted relay.catalogue;
  current relay.catalogue;
  kin text;
  failure text;
begin
  perform relay.refuse_name(event);
  wanted.event := event;
  wanted.description := description;
  wanted.payload_schema := payload_schema;
  wanted.suspended := false;
  wanted.several_accounts := false;
  wanted.published_by := current_user;
  wanted.published_at := clock_timestamp();
  wanted.level := lower(level);
  wanted.fires_at := lower(at);
  wanted.operation := case when on_table is null then 'EMIT' else upper(operation) end;

  if wanted.operation is null or wanted.operation not in ('INSERT', 'UPDATE', 'DELETE', 'TRUNCATE', 'EMIT') then
    raise exception 'relay.publish(operation => %): expected INSERT, UPDATE, DELETE or TRUNCATE', quote_nullable(operation)
      using errcode = 'invalid_parameter_value', hint = 'Call it once for each operation of the event.';
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
    wanted.on_table := null; -- it is not a valid name
  end;
  if on_table is not null and wanted.on_table is null then
    raise exception 'relay.publish(on_table => %): there is no such table', quote_literal(on_table)
      using errcode = 'undefined_table', hint = 'Write it with its schema, and in double quotes where it has capitals: public."Orders".';
  end if;
  if exists (select from relay.catalogue as c where c.event = wanted.event and (c.on_table is null) <> (wanted.on_table is null)) then
    raise exception 'relay.publish(event => %): the event exists already for %', quote_literal(event),
      case when on_table is null then (select string_agg(distinct c.table_name, ', ') from relay.catalogue as c where c.event = wanted.event) else 'relay.emit()' end
      using errcode = 'duplicate_object',
            hint = format('relay.emit() may send the events of tables, too. Choose another name, or first: select relay.unpublish(%L)', event);
  end if;
  wanted.number := case when wanted.on_table is null then 1 else coalesce(
    (select e.number from relay.entries_at(wanted.event, wanted.operation, wanted.on_table) as e limit 1),
    (select n from generate_series(1, (select count(*) + 1 from relay.catalogue as c where c.event = wanted.event)) as n
      where not exists (select from relay.catalogue as c where (c.event, c.operation, c.number) = (wanted.event, wanted.operation, n))
      order by n limit 1)) end;
  select c.* into current from relay.catalogue as c where (c.event, c.operation, c.number) = (wanted.event, wanted.operation, wanted.number);
  if octet_length(relay.trigger_name(wanted)) > 63 then
    raise exception 'relay.publish(event => %): the name is too long for an event of so many tables', quote_literal(event)
      using errcode = 'name_too_long', hint = 'Choose a shorter one.';
  end if;

  -- They belong to the event: calls for further operations and tables, and later calls, may leave them out.
  wanted.description := coalesce(wanted.description, (
    select c.description from relay.catalogue as c where c.event = wanted.event and c.description is not null
     order by c.number = wanted.number desc, c.number, c.operation = wanted.operation desc, c.operation limit 1));
  wanted.payload_schema := coalesce(wanted.payload_schema, (
    select c.payload_schema from relay.catalogue as c where c.event = wanted.event and c.payload_schema is not null
     order by c.number = wanted.number desc, c.number, c.operation = wanted.operation desc, c.operation limit 1));
  wanted.description := nullif(wanted.description, '');
  wanted.payload_schema := nullif(wanted.payload_schema, '{}');

  if wanted.operation = 'EMIT' then
    if coalesce(condition, account, payload, key, audience) is not null then
      raise exception 'relay.publish(on_table => null): condition, account, payload, audience and key belong to a trigger, and there is none without a table'
        using errcode = 'invalid_parameter_value', hint = 'relay.emit() takes the account, the payload and the audience.';
    end if;
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
    -- A later call that leaves it out keeps it: the upgrade of a pack does not know it, and would make the event
    -- public.
    wanted.audience := nullif(coalesce(audience, current.audience), '');
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

  select string_agg(k.kin::text, ', ') into kin from relay.published_kin(wanted) as k;
  if kin is not null and current.event is null then
    raise exception 'relay.publish(on_table => %): % has the event already, and shares rows with it', quote_literal(on_table), kin
      using errcode = 'duplicate_object', hint = 'Tables that inherit, and partitions, are captured with the table they belong to. Publish the event for that one alone.';
  end if;
  if current.event is null and exists (select from relay.catalogue as c where c.event = wanted.event and c.on_table <> wanted.on_table) then
    raise notice 'relay.publish(%): the event has several tables now; relay.unpublish(event, on_table) removes one of them', quote_literal(event);
  end if;
  if wanted.audience is null and wanted.operation <> 'TRUNCATE'
     and exists (select from relay.catalogue as c
                  where c.event = wanted.event and c.audience is not null and (c.operation, c.number) <> (wanted.operation, wanted.number)) then
    raise warning 'relay.publish(%): %, everybody of the account hears the event; in its other calls it has an audience', quote_literal(event),
      format('after %s of a row of %s', wanted.operation, wanted.on_table)
      using hint = 'Give each call of relay.publish() for it an audience; array[''*''] is everybody.';
  end if;
  return relay.install(wanted);
end
$$;
comment on function relay.publish(text, text, text, text, text, text, text, jsonb, text, text, text, text, text) is
  'Adds an event to the contract, or changes it. condition, account and payload are SQL over new and old; a null account means no event, an array of accounts an event for each. audience is a list of topics: clients whose token has one of them hear it; null means nobody, array[''*''] or no audience means everybody of the account. Several operations need several calls, one of which gives description and payload_schema; a later call without them or without audience keeps them, '''' and ''{}'' remove them. Several tables may share an event. Example: select relay.publish(event => ''doctors.created'', on_table => ''public.doctors'', operation => ''INSERT'', account => ''new."accountId"'', payload => ''to_jsonb(new)'')';
