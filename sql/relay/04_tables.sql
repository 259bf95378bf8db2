-- The tables of an event, which may be swapped, renamed and recreated.
--
--   relay.current_table(catalogue)               the table that an entry of the catalogue belongs to now
--   relay.entries_at(event, operation, table)    the entries that belong to a table
--   relay.entries_of(event, on_table, caller)    those of an event, or of one of its tables
--   relay.published_kin(catalogue)               the event's other tables related to this one by inheritance
--   relay.notice_swaps()                         for the relays: reports tables that were swapped
--   relay.tell_all(event, table, reason)         tells every account to refetch

-- The name decides: if a table was swapped or recreated, the entry belongs to the table that took its name, even if
-- that one was renamed since. A table that was merely renamed keeps its events under its new name.
create or replace function relay.current_table(published relay.catalogue) returns regclass
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select coalesce(
    case when relay.table_named(published.table_name) = published.on_table then published.on_table end,
    (select holder
       from unnest(published.table_name || published.known_as) with ordinality as known(name, place), relay.table_named(known.name) as holder
      where holder <> published.on_table
        -- Another table of the event, which was renamed to this, is not this one's successor.
        and (known.place = 1 or not exists (
              select from relay.catalogue as c
               where (c.event, c.operation, c.on_table) = (published.event, published.operation, holder)))
      order by known.place desc limit 1),
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

create or replace function relay.entries_at(event text, operation text, on_table regclass) returns setof relay.catalogue
language sql stable
set search_path = pg_catalog, pg_temp set quote_all_identifiers = off
as $$
  select c.*
    from relay.catalogue as c
   where c.event = entries_at.event and c.operation = entries_at.operation
     -- There may be thousands of entries, and the last condition is expensive.
     and (c.on_table = entries_at.on_table or c.told_of = entries_at.on_table
          or (select format('%I.%I', n.nspname, t.relname) from pg_class as t join pg_namespace as n on n.oid = t.relnamespace
               where t.oid = entries_at.on_table) = any (c.table_name || c.known_as))
     and relay.current_table(c) = entries_at.on_table
   -- If two tables have become one, the published name decides.
   order by relay.table_named(c.table_name) is not distinct from entries_at.on_table desc, c.number
$$;
comment on function relay.entries_at(text, text, regclass) is 'The entries of the catalogue that belong to a table now; the one to keep comes first.';

create or replace function relay.entries_of(event text, on_table text, caller text) returns setof relay.catalogue
language plpgsql stable
set search_path = pg_catalog, pg_temp set quote_all_identifiers = off
as $$
declare
  wanted regclass;
  name text;
begin
  if entries_of.on_table is not null then
    begin
      wanted := to_regclass(entries_of.on_table);
      name := (select format('%I.%I', part[1], part[2]) from parse_ident(entries_of.on_table) as part);
    exception when invalid_name or invalid_parameter_value or syntax_error or feature_not_supported then
      name := null; -- it is not a valid name
    end;
  end if;
  return query
    select c.*
      from relay.catalogue as c
     where c.event = entries_of.event
       and (entries_of.on_table is null
            or wanted is null and c.table_name = name
            or (c.event, c.operation, c.number) in (
              select e.event, e.operation, e.number
                from (select distinct o.operation from relay.catalogue as o where o.event = entries_of.event) as made_by,
                     relay.entries_at(entries_of.event, made_by.operation, wanted) as e))
     order by c.operation, relay.table_named(c.table_name) is not distinct from relay.current_table(c) desc, c.number;
  if not found and caller is not null then
    if exists (select from relay.catalogue as c where c.event = entries_of.event) then
      raise exception '%(%, on_table => %): no such table of the event', caller, quote_nullable(event), quote_nullable(on_table)
        using errcode = 'undefined_object', hint = 'select event, on_table from relay.contract lists them.';
    end if;
    raise exception '%(%): no such event', caller, quote_nullable(event)
      using errcode = 'undefined_object', hint = 'select event from relay.contract lists them.';
  end if;
end
$$;
comment on function relay.entries_of(text, text, text) is 'The entries of an event in the catalogue, or of one of its tables. If there is none and a caller is given, raises in its name.';

-- Inheriting tables and partitions have their trigger from the entry of their parent.
create or replace function relay.published_kin(published relay.catalogue, out kin regclass, out is_above boolean) returns setof record
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  with recursive above as (
    select i.inhparent as oid from pg_inherits as i where i.inhrelid = published.on_table
    union
    select i.inhparent from above join pg_inherits as i on i.inhrelid = above.oid
  ),
  below as (
    select i.inhrelid as oid from pg_inherits as i where i.inhparent = published.on_table
    union
    select i.inhrelid from below join pg_inherits as i on i.inhparent = below.oid
  )
  select c.on_table, family.is_above
    from (select oid, true as is_above from above union all select oid, false from below) as family
    join relay.catalogue as c on c.on_table = family.oid and c.event = published.event and c.operation = published.operation
   where not c.suspended
$$;
comment on function relay.published_kin(relay.catalogue) is 'Tables of the same event from which a published table inherits or of which it is a partition, and the other way round: what is written to one is recorded for both.';

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
      from (select w.event, w.operation, w.number, w.told_of as told_before, nullif(relay.current_table(w), w.on_table)::oid as told_of,
                   case when own.name = any (w.table_name || w.known_as) then w.known_as else w.known_as || own.name end as known_as
              from relay.catalogue as w
              left join lateral (
                select format('%I.%I', n.nspname, t.relname) as name
                  from pg_class as t join pg_namespace as n on n.oid = t.relnamespace where t.oid = w.on_table) as own on true
             -- All others still have their published name.
             where w.table_name is not null and (own.name is distinct from w.table_name or w.told_of is not null)) as now
     where (c.event, c.operation, c.number) = (now.event, now.operation, now.number)
       and (c.told_of, c.known_as) is distinct from (now.told_of, now.known_as)
    returning c.event, c.table_name, c.told_of is not null and c.told_of is distinct from now.told_before as is_news
  ),
  told as (
    select relay.tell_all(min(event), table_name, 'table_replaced'), table_name from swapped where is_news group by table_name
  )
  select table_name from told
$$;
comment on function relay.notice_swaps() is 'Called by the relays every second: records the names of watched tables. If another table has taken the name of a watched one, tells every account once to refetch. Returns such names; relay.check() says what to do.';
