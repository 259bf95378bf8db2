-- Writes the source of a trigger function that records an event for each row.
--
--   relay.row_body(catalogue)
--
-- use_column: an expression may name a column that has the name of one of our variables.
-- #> '{}' makes an uncompressed copy: pg_column_size() of a stored value is its compressed size.
-- A database with encoding SQL_ASCII accepts any bytes, but only UTF-8 can be sent.
-- An account of more than 256 bytes is cut to 257 characters, still too long for a client: so nobody refetches for it.
--
-- Overtaken: if a trigger of the application changed the row again before this one fired, the later event is already
-- recorded, and this stale one would come last. xmax picks out the few rows to check.
-- Retyped: a session that fired the trigger before a column was retyped keeps plans with the old type, which always
-- fail from then on. EXECUTE makes new plans.
-- Unheard: the account of a deleted row is looked up in a row that a cascade has already deleted. The event is recorded
-- for the account '', which no client has.
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
  given text := case published.operation when 'INSERT' then 'new' when 'DELETE' then 'old' else 'new, old' end;
  account text := relay.accounts_of(published);
  too_long text := case when published.several_accounts then 'exists (select from unnest(captured_account) as a where octet_length(a) > 256)'
    else 'octet_length(captured_account) > 256' end;
  narrowed boolean := published.audience is not null;
  -- A failure after this point is reported to the audience only.
  unless_nobody text := case when narrowed then relay.topics_guard() || $f$
      captured_audience := topics;
      if captured_audience = '{}' then
        outcome := 'nobody';
      else$f$ end;
begin
  return format($f$
#variable_conflict use_column
declare
  captured_account text%21$s;
  captured_payload jsonb;%12$s
  matches boolean;
  outcome text;
  failure text;
  state text;
begin
  begin%1$s
    captured_account := %3$s;
    if captured_account is null then
      %4$s
    else%13$s
      captured_payload := coalesce((%5$s)::jsonb, 'null');%6$s%2$s%15$s
    end if;
  exception
    when datatype_mismatch then
      begin
        execute %7$L into matches, captured_account, %16$scaptured_payload using %8$s;
        if matches is not true or captured_account is null then
          return null;
        end if;%14$s%6$s%2$s%15$s
      exception when others then
        get stacked diagnostics failure = message_text, state = returned_sqlstate;
        outcome := 'capture_failed';
        begin
          execute %11$L into captured_account using %8$s;
          if captured_account is null then
            return null;
          end if;%17$s
        exception when others then
          captured_account := null; -- everybody
        end;
      end;
    when others then
      get stacked diagnostics failure = message_text, state = returned_sqlstate;
      outcome := 'capture_failed';
      begin
        captured_account := coalesce(captured_account, %3$s);
        if captured_account is null then
          return null;
        end if;
      exception when others then
        captured_account := null; -- everybody
      end;
  end;
  if outcome is null then
    insert into relay.events (account_id, event, payload%18$s) %22$s;
  else
    insert into relay.events (account_id, event, payload%18$s)
    %23$s(case %19$s then '' else left(%24$s, 257) end, case %19$s then 'relay:unheard' else 'relay:resync' end,
            jsonb_strip_nulls(jsonb_build_object('event', %9$L, 'table', %10$L, 'reason', outcome, 'sqlstate', state, 'error', failure))%20$s)%25$s;
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
    account,
    case when relay.looks_up(published) then $f$outcome := 'unheard';$f$ else 'return null;' end,
    published.payload,
    format($f$
      if %1$s or pg_column_size(captured_payload #> '{}') > 4194304 then
        raise exception 'the %%', case when %1$s then 'account has more than 256 bytes' else 'payload has more than 4 MiB' end;
      end if;$f$, too_long) || case when current_setting('server_encoding') = 'SQL_ASCII' then $f$
      perform convert_from(convert_to(concat(captured_account, captured_payload), 'SQL_ASCII'), 'UTF8');$f$ else '' end,
    format('select matched.by, chosen.account, %scase when matched.by and chosen.account is not null%s then coalesce((%s)::jsonb, ''null'') end from %s '
           'cross join lateral (select (%s) as by offset 0) as matched cross join lateral (select case when matched.by then %s end as account offset 0) as chosen%s',
      case when narrowed then 'heard.topics, ' end, case when narrowed then $f$ and heard.topics is distinct from '{}'$f$ end,
      published.payload, pair, condition, account,
      case when narrowed then format(' cross join lateral (select case when chosen.account is not null then %s end as topics offset 0) as heard', relay.topics_of(published.audience)) end),
    given,
    published.event,
    published.on_table,
    format('select %s from %s', account, pair),
    case when narrowed then $f$
  captured_audience text[];
  topics text[];$f$ end,
    case when narrowed then format($f$
      topics := %s;$f$, relay.topics_of(published.audience)) || unless_nobody end,
    unless_nobody,
    case when narrowed then $f$
      end if;$f$ end,
    case when narrowed then 'topics, ' end,
    case when narrowed then format($f$
          begin
            execute %L into topics using %s;%s
            captured_audience := nullif(topics, '{}');
          exception when others then
            captured_audience := null; -- everybody of the account
          end;$f$, format('select %s from %s', relay.topics_of(published.audience), pair),
      given, relay.topics_guard()) end,
    case when narrowed then ', audience' end,
    case when narrowed then $f$when outcome in ('unheard', 'nobody')$f$ else $f$outcome when 'unheard'$f$ end,
    case when narrowed then $f$,
            case when outcome not in ('unheard', 'nobody') and captured_account is not null then captured_audience end$f$ end,
    case when published.several_accounts then '[]' end,
    format(case when published.several_accounts then 'select a, %L, captured_payload%s from unnest(captured_account) as a' else 'values (captured_account, %L, captured_payload%s)' end,
      published.event, case when narrowed then ', captured_audience' end),
    case when published.several_accounts then 'select recorded.* from unnest(coalesce(captured_account, array[null])) as a, lateral (values ' else 'values ' end,
    case when published.several_accounts then 'a' else 'captured_account' end,
    case when published.several_accounts then ') as recorded' end);
end
$body$;
comment on function relay.row_body(relay.catalogue) is 'Part of relay.capture_body(): an event per row.';
