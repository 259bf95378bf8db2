-- What a published event does when its trigger fires.
--
--   relay.trigger_name(catalogue)           the trigger's name on the table
--   relay.capture_name(catalogue)           its function's name in relay_capture
--   relay.capture_settings()                the settings the function runs with
--   relay.capture_body(catalogue)           the function's source, of one of three kinds:
--   relay.truncate_body, relay.row_body, relay.statement_body
--
-- Whatever can fail is evaluated in a block of its own that writes nothing: it costs no transaction id, and an
-- expression that fails becomes a relay:resync for the account instead of an error in the application's write. The
-- condition is evaluated there too, not in the trigger's WHEN: an error in a WHEN fails the write, and a column that a
-- WHEN names can be neither retyped nor dropped. A row that does not match costs about 5 us for it, most of them for
-- the function's settings; condition_in => 'trigger' is for tables where that is too much.

create or replace function relay.capture_name(published relay.catalogue) returns text
language sql immutable
set search_path = pg_catalog, pg_temp
as $$ select published.event || '/' || lower(published.operation) || coalesce('/' || nullif(published.number, 1), '') $$;
comment on function relay.capture_name(relay.catalogue) is 'Name of a published event''s function in relay_capture: doctors.deleted/update; of its second table doctors.deleted/update/2.';

-- Triggers fire in the order of their names, and "!" comes before letters and digits: an event is recorded before an
-- application's own trigger changes the row again, and before a foreign key's cascade.
-- Two tables of an event have triggers of different names: one may become a partition of the other, and Postgres
-- refuses that where the names are equal.
create or replace function relay.trigger_name(published relay.catalogue) returns text
language sql immutable
set search_path = pg_catalog, pg_temp
as $$ select '!' || relay.capture_name(published) $$;
comment on function relay.trigger_name(relay.catalogue) is 'Name of a published event''s trigger: !doctors.deleted/update.';

-- As pg_proc shows them. row_security off: row-level security that would hide rows is an error, which becomes a
-- relay:resync. The others are what a session has by default; the writer's own would show in a payload.
create or replace function relay.capture_settings() returns text[]
language sql immutable
set search_path = pg_catalog, pg_temp
as $$
  select array['search_path=pg_catalog, pg_temp', 'TimeZone=UTC', 'row_security=off', 'IntervalStyle=postgres',
               'bytea_output=hex', 'DateStyle=ISO, MDY', 'extra_float_digits=1']
$$;
comment on function relay.capture_settings() is 'Settings of every trigger function, as pg_proc shows them.';

create or replace function relay.truncate_body(published relay.catalogue) returns text
language sql stable
set search_path = pg_catalog, pg_temp set quote_all_identifiers = off
as $body$
  select format($f$
begin
  insert into relay.events (account_id, event, payload)
  values (null, 'relay:resync', jsonb_build_object('event', %1$L, 'table', %2$L, 'reason', 'truncated'));
  return null;
end
$f$, published.event, published.on_table)
$body$;
comment on function relay.truncate_body(relay.catalogue) is 'Part of relay.capture_body(): TRUNCATE names no rows, so every account refetches.';

-- use_column: an expression may name a column like one of our variables.
-- A path of no steps: pg_column_size() of a value as it is stored elsewhere tells of it as it was compressed.
-- A database of encoding SQL_ASCII takes any bytes; what is no UTF-8 cannot be sent.
-- An account of more than 256 bytes is nobody's, and its first 257 characters are so too: nobody refetches for it.
--
-- Overtaken: where a trigger of the application has changed the row again before this one fired, the later event is
-- recorded already, and this one would be the last word. xmax tells of the few rows to look at.
-- Retyped: a session that has fired the trigger before a column was retyped keeps plans with the old type, and each of
-- them fails for good. EXECUTE plans anew.
-- Unheard: the account of a deleted row is looked up in a row that a cascade has deleted before. Recorded for the
-- account '', which is nobody's.
create or replace function relay.row_body(published relay.catalogue) returns text
language plpgsql stable
set search_path = pg_catalog, pg_temp set quote_all_identifiers = off
as $body$
declare
  condition text := coalesce(published.condition, 'true');
  pair text := case published.operation
    when 'INSERT' then 'unnest(array[$1]) as new'
    when 'DELETE' then 'unnest(array[$1]) as old'
    else 'unnest(array[$1]) as new cross join unnest(array[$2]) as old' end;
begin
  return format($f$
#variable_conflict use_column
declare
  captured_account text;
  captured_payload jsonb;
  matches boolean;
  outcome text;
  failure text;
  state text;
begin
  begin%1$s
    captured_account := (%3$s)::text;
    if captured_account is null then
      %4$s
    else
      captured_payload := coalesce((%5$s)::jsonb, 'null');%6$s%2$s
    end if;
  exception
    when datatype_mismatch then
      begin
        execute %7$L into matches, captured_account, captured_payload using %8$s;
        if matches is not true or captured_account is null then
          return null;
        end if;%6$s%2$s
      exception when others then
        get stacked diagnostics failure = message_text, state = returned_sqlstate;
        outcome := 'capture_failed';
        begin
          execute %11$L into captured_account using %8$s;
          if captured_account is null then
            return null;
          end if;
        exception when others then
          captured_account := null; -- everybody
        end;
      end;
    when others then
      get stacked diagnostics failure = message_text, state = returned_sqlstate;
      outcome := 'capture_failed';
      begin
        captured_account := coalesce(captured_account, (%3$s)::text);
        if captured_account is null then
          return null;
        end if;
      exception when others then
        captured_account := null; -- everybody
      end;
  end;
  if outcome is null then
    insert into relay.events (account_id, event, payload) values (captured_account, %9$L, captured_payload);
  else
    insert into relay.events (account_id, event, payload)
    values (case outcome when 'unheard' then '' else left(captured_account, 257) end, case outcome when 'unheard' then 'relay:unheard' else 'relay:resync' end,
            jsonb_strip_nulls(jsonb_build_object('event', %9$L, 'table', %10$L, 'reason', outcome, 'sqlstate', state, 'error', failure)));
  end if;
  return null;
end
$f$,
    case when published.condition is not null and published.condition_in is distinct from 'trigger' then format($f$
    if (%s) is not true then
      return null;
    end if;$f$, published.condition) end,
    case when published.operation <> 'DELETE' and published.fires_at = 'statement' then format($f$
      if new.xmax <> '0' then
        if not exists (select from %s where ctid = new.ctid and tableoid = new.tableoid) then
          outcome := 'overtaken';
        end if;
      end if;$f$, published.on_table) end,
    published.account,
    case when relay.looks_up(published) then $f$outcome := 'unheard';$f$ else 'return null;' end,
    published.payload,
    $f$
      if octet_length(captured_account) > 256 or pg_column_size(captured_payload #> '{}') > 4194304 then
        raise exception 'the %', case when octet_length(captured_account) > 256 then 'account has more than 256 bytes' else 'payload has more than 4 MiB' end;
      end if;$f$ || case when current_setting('server_encoding') = 'SQL_ASCII' then $f$
      perform convert_from(convert_to(concat(captured_account, captured_payload), 'SQL_ASCII'), 'UTF8');$f$ else '' end,
    format('select matched.by, chosen.account, case when matched.by and chosen.account is not null then coalesce((%s)::jsonb, ''null'') end from %s '
           'cross join lateral (select (%s) as by offset 0) as matched cross join lateral (select case when matched.by then (%s)::text end as account offset 0) as chosen',
      published.payload, pair,
      condition, published.account),
    case published.operation when 'INSERT' then 'new' when 'DELETE' then 'old' else 'new, old' end,
    published.event,
    published.on_table,
    format('select (%s)::text from %s', published.account, pair));
end
$body$;
comment on function relay.row_body(relay.catalogue) is 'Part of relay.capture_body(): an event per row.';

-- For all rows of a statement one look and one insert.
create or replace function relay.statement_body(published relay.catalogue) returns text
language plpgsql stable
set search_path = pg_catalog, pg_temp set quote_all_identifiers = off
as $body$
declare
  rows_changed text := case published.operation
    when 'INSERT' then 'relay_new as new'
    when 'DELETE' then 'relay_old as old'
    else format('relay_new as new join relay_old as old using (%s)', published.key)
  end;
  refuse_unpaired text := '';
begin
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
    -- The accounts of the event; of all rows of the statement, where the condition is what fails; or every account.
    begin
      %7$s
      begin
        captured_accounts := array(select distinct left((%3$s)::text, 257) from %5$s where (%3$s)::text is not null and (%6$s));
      exception when others then
        captured_accounts := array(select distinct left((%3$s)::text, 257) from %5$s where (%3$s)::text is not null);
      end;
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
     case when current_setting('server_encoding') = 'SQL_ASCII' then $f$
    perform convert_from(convert_to(concat(c.account, c.payload), 'SQL_ASCII'), 'UTF8')
       from unnest(captured_accounts, captured_payloads) as c(account, payload);$f$ end);
end
$body$;
comment on function relay.statement_body(relay.catalogue) is 'Part of relay.capture_body(): the events of a whole statement.';

create or replace function relay.capture_body(published relay.catalogue) returns text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select case
    when published.operation = 'TRUNCATE' then relay.truncate_body(published)
    when published.level = 'row' then relay.row_body(published)
    else relay.statement_body(published)
  end
$$;
comment on function relay.capture_body(relay.catalogue) is 'Source of the trigger function of a published event.';

create or replace function relay.looks_up(published relay.catalogue) returns boolean
language sql immutable
set search_path = pg_catalog, pg_temp
as $$ select published.operation = 'DELETE' and published.level = 'row' and published.account ~* '\mselect\M' $$;
comment on function relay.looks_up(relay.catalogue) is 'Whether the account of a deleted row is looked up in other rows, which may be gone as well.';
