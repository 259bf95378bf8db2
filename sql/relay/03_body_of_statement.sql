-- Writes the source of a trigger function that records the events of a whole statement with one query and one insert.
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
  chosen text := format(case when published.several_accounts then 'select distinct a as account from unnest((%s)::text[]) as a'
    else 'select (%s)::text as account offset 0' end, published.account);
  accounts text := format(case when published.several_accounts then 'select distinct left(chosen.account, 257) from %2$s cross join lateral (%3$s) as chosen where chosen.account is not null'
    else 'select distinct left((%1$s)::text, 257) from %2$s where (%1$s)::text is not null' end, published.account, rows_changed, chosen);
  narrowed boolean := published.audience is not null;
  -- The rows of a two-dimensional array must have one length, so audiences are collected as literals.
  heard text := case when narrowed then format(
    ' cross join lateral (select case when chosen.account is not null then %s end as topics offset 0) as heard', relay.topics_of(published.audience)) end;
  too_much text := $f$octet_length(c.topics) > 128 and (cardinality(c.topics::text[]) > 100 or exists (select from unnest(c.topics::text[]) as topic where octet_length(topic) > 128))$f$;
begin
  -- A row whose key was changed has no pair, and would be missed.
  if published.operation = 'UPDATE' then
    refuse_unpaired := format(
      'if (select count(*) from relay_new) <> (select count(*) from %s) then raise exception ''the key (%s) of a row was changed''; end if;',
      rows_changed, published.key);
  end if;
  return format($f$
#variable_conflict use_column
declare
  captured_accounts text[];
  captured_payloads jsonb[];%9$s
  failure text;
begin
  begin
    %7$s
    select array_agg(captured.account), array_agg(captured.payload)%10$s
      into captured_accounts, captured_payloads%11$s
      from (select chosen.account, %12$s as payload%13$s
              from %5$s cross join lateral (%3$s) as chosen%14$s
             where chosen.account is not null and (%6$s)) as captured;
    if exists (select from unnest(captured_accounts) as a where octet_length(a) > 256) then
      raise exception 'an account has more than 256 bytes';
    end if;
    if exists (select from unnest(captured_payloads) as p where pg_column_size(p) > 4194304) then
      raise exception 'a payload has more than 4 MiB';
    end if;%15$s%8$s
  exception when others then
    get stacked diagnostics failure = message_text;
    -- The accounts of the event; of all rows of the statement, where the condition is what fails; or every account.
    begin
      %7$s
      begin%16$s
        captured_accounts := array(%4$s and (%6$s));%17$s
      exception when others then
        captured_accounts := array(%4$s);
      end;
    exception when others then
      captured_accounts := array[null];
    end;
    insert into relay.events (account_id, event, payload%18$s)
    select a%24$s, 'relay:resync', jsonb_build_object(
             'event', %1$L, 'table', %2$L, 'reason', 'capture_failed', 'sqlstate', sqlstate, 'error', failure)%19$s
      from unnest(captured_accounts%20$s) as %21$s;
    return null;
  end;
  if captured_accounts is not null then
    insert into relay.events (account_id, event, payload%18$s)
    select c.account, %1$L, c.payload%22$s from unnest(captured_accounts, captured_payloads%20$s) as c(account, payload%18$s)%23$s;
  end if;
  return null;
end
$f$, published.event, published.on_table, chosen, accounts, rows_changed,
     coalesce(published.condition, 'true'), refuse_unpaired,
     case when current_setting('server_encoding') = 'SQL_ASCII' then $f$
    perform convert_from(convert_to(concat(c.account, c.payload), 'SQL_ASCII'), 'UTF8')
       from unnest(captured_accounts, captured_payloads) as c(account, payload);$f$ end,
     case when narrowed then $f$
  captured_audiences text[];$f$ end,
     case when narrowed then ', array_agg(captured.audience)' end,
     case when narrowed then ', captured_audiences' end,
     format(case when narrowed then $f$case when heard.topics is distinct from '{}' then coalesce((%s)::jsonb, 'null') end$f$ else $f$coalesce((%s)::jsonb, 'null')$f$ end, published.payload),
     case when narrowed then ', heard.topics::text as audience' end,
     heard,
     case when narrowed then format($f$
    if exists (select from unnest(captured_audiences) as c(topics) where %s) then
      raise exception 'an audience has more than 100 topics, or one of more than 128 bytes';
    end if;$f$, too_much) end,
     case when narrowed then format($f$
       begin
        select array_agg(c.account), array_agg(case when not coalesce(%s, false) then c.topics end) into strict captured_accounts, captured_audiences
          from (select distinct left(chosen.account, 257), heard.topics::text
                  from %s cross join lateral (%s) as chosen%s
                 where chosen.account is not null and heard.topics is distinct from '{}' and (%s)) as c(account, topics)
        having count(*) > 0;
       exception when others then
        captured_audiences := null;$f$, too_much, rows_changed, chosen, heard, coalesce(published.condition, 'true')) end,
     case when narrowed then $f$
       end;$f$ end,
     case when narrowed then ', audience' end,
     case when narrowed then ', a.audience::text[]' end,
     case when narrowed then ', captured_audiences' end,
     case when narrowed then 'a(account, audience)' else 'a' end,
     case when narrowed then ', c.audience::text[]' end,
     case when narrowed then format($f$
     where c.audience is distinct from '{}';
    insert into relay.events (account_id, event, payload)
    select '', 'relay:unheard', jsonb_build_object('event', %L, 'table', %L, 'reason', 'nobody', 'rows', count(*))
      from unnest(captured_audiences) as c(audience) where c.audience = '{}' having count(*) > 0$f$, published.event, published.on_table) end,
     case when narrowed then '.account' end);
end
$body$;
comment on function relay.statement_body(relay.catalogue) is 'Part of relay.capture_body(): the events of a whole statement.';
