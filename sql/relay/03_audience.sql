-- Whom an event is for: its accounts, and who hears it inside them.
--
--   relay.accounts_of(catalogue)    SQL that gives the account of a row, or its accounts as an array
--   relay.topics_of(expression)     SQL that gives the topics of a row
--   relay.topics_guard(indent)      PL/pgSQL that raises where they are too many or too long
--
-- An audience is a list of topics, and whoever's token has one of them hears the event. Without an audience everybody of
-- the account hears it. With one, null and a list without topics are nobody: an expression that finds no row must not
-- make a private event public. What nobody hears is not recorded but counted: a row relay:unheard for the account '',
-- which is nobody's.

-- Null: the row has none.
create or replace function relay.accounts_of(published relay.catalogue) returns text
language sql immutable
set search_path = pg_catalog, pg_temp
as $$
  select format(case when published.several_accounts
    then $f$nullif(array(select distinct a from unnest((%s)::text[]) as a where a is not null order by a), '{}')$f$
    else '(%s)::text' end, published.account)
$$;
comment on function relay.accounts_of(relay.catalogue) is 'Part of relay.capture_body(): SQL that gives the account of a row, or the accounts as an array.';

-- Null: everybody, by the topic *; an empty array: nobody. Sorted and distinct, so that equal audiences are equal arrays.
create or replace function relay.topics_of(expression text) returns text
language sql immutable strict
set search_path = pg_catalog, pg_temp
as $$
  select format($f$(select case when not coalesce(bool_or(topic = '*'), false) then coalesce(array_agg(distinct topic collate "C"), '{}') end from unnest((%s)::text[]) as topic where topic is not null)$f$, expression)
$$;
comment on function relay.topics_of(text) is 'Part of relay.capture_body(): SQL that gives the topics of a row. Null: everybody; empty: nobody.';

-- A text of all topics that is short needs no closer look: a hundred of them have more bytes with their commas.
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
comment on function relay.topics_guard() is 'Part of relay.row_body(): raises where an audience has more topics than may be recorded, or longer ones.';
