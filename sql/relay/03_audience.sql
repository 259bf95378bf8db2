-- Who hears an event: its accounts, and its audience inside them.
--
--   relay.accounts_of(catalogue)    SQL that gives the account of a row, or its accounts as an array
--   relay.topics_of(expression)     SQL that gives the topics of a row
--   relay.topics_guard()            PL/pgSQL that raises if they are too many or too long
--
-- An audience is a list of topics: a client hears the event if its token has one of them. Without an audience everybody
-- of the account hears it. In an audience, null and an empty list mean nobody: an expression that finds no row must not
-- make a private event public. Events for nobody are not recorded but counted, as a row relay:unheard for the account
-- '', which no client has.

-- Gives null if the row has no account.
create or replace function relay.accounts_of(published relay.catalogue) returns text
language sql immutable
set search_path = pg_catalog, pg_temp
as $$
  select format(case when published.several_accounts
    then $f$nullif(array(select distinct a from unnest((%s)::text[]) as a where a is not null order by a), '{}')$f$
    else '(%s)::text' end, published.account)
$$;
comment on function relay.accounts_of(relay.catalogue) is 'Part of relay.capture_body(): SQL that gives the account of a row, or the accounts as an array.';

-- Gives null for everybody (the topic *), and an empty array for nobody. Sorted and distinct, so that equal audiences
-- are equal arrays.
create or replace function relay.topics_of(expression text) returns text
language sql immutable strict
set search_path = pg_catalog, pg_temp
as $$
  select format($f$(select case when not coalesce(bool_or(topic = '*'), false) then coalesce(array_agg(distinct topic collate "C"), '{}') end from unnest((%s)::text[]) as topic where topic is not null)$f$, expression)
$$;
comment on function relay.topics_of(text) is 'Part of relay.capture_body(): SQL that gives the topics of a row. Null: everybody; empty: nobody.';

-- If all topics together are short, no limit can be exceeded and the exact checks are skipped.
create or replace function relay.topics_guard() returns text
language sql immutable
set search_path = pg_catalog, pg_temp
as $$
  select $f$
      if octet_length(array_to_string(topics, ',')) > 128 then
        if cardinality(topics) > 100 or exists (select from unnest(topics) as topic where octet_length(topic) > 128) then
          raise exception 'the audience has more than 100 topics, or one of more than 128 bytes';
        end if;
      end if;$f$
$$;
comment on function relay.topics_guard() is 'Part of relay.row_body(): raises if an audience has too many topics, or one that is too long.';
