-- The source of a trigger function that records the events of a whole statement: one look at its rows, and one insert.
--
--   relay.statement_body(catalogue)

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
