-- What people and groups are called.
--
--   evolution.best_name(source, person)       what a person or group is called now
--   evolution.take_names(source, facts)       step 2 of evolution.ingest()
--   evolution.name_chats(source, addresses)   step 8 of evolution.ingest()

create or replace function evolution.best_name(of_source bigint, of_person text) returns text
language sql stable
set search_path = pg_catalog, pg_temp
as $$
  select n.name
    from evolution.aliases as a
    join evolution.names as n on n.source_id = a.source_id and n.alias = a.alias
   where a.source_id = of_source and a.person = of_person
   order by n.in_address_book desc, coalesce(n.said_at, n.heard_after, '-infinity') desc, (n.said_at is null) desc, n.heard_no desc
   limit 1
$$;
comment on function evolution.best_name(bigint, text) is 'The name in the address book, or else the newest. A name that no message carried counts as newer than the last message before it.';

create or replace function evolution.take_names(of_source bigint, facts jsonb, out renamed text[])
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
begin
  -- Most names are known: they are read and not written.
  with heard as (
    insert into evolution.names as known (source_id, alias, name, said_at, heard_after, in_address_book)
    select of_source, n.alias, n.name, n.said_at, greatest(n.after, c."lastMessageAt"), n.in_address_book
      from (select f.alias, f.name, bool_or(coalesce(f.book, false)) as in_address_book, to_timestamp(max(f.said) / 1000.0) as said_at, to_timestamp(max(f.after) / 1000.0) as after,
                   bool_or(f.said is not null or f.news) as is_news, max(f.position) as position
              from rows from (jsonb_to_recordset(facts -> 'names')
                     as (alias text, name text, said double precision, after double precision, news boolean, book boolean)) with ordinality
                as f(alias, name, said, after, news, book, position)
             group by f.alias, f.name) as n
      join evolution.aliases as a on a.source_id = of_source and a.alias = n.alias
      left join evolution.chats as c on c.id = a.chat_id
      left join evolution.names as k on k.source_id = of_source and k.alias = n.alias and k.name = n.name
     where k.alias is null or n.is_news and (k.said_at is null or n.said_at > k.said_at) or n.in_address_book and not k.in_address_book
     order by n.position
    on conflict (source_id, alias, name) do update set
      said_at = greatest(known.said_at, excluded.said_at),
      heard_after = case when excluded.said_at is null then greatest(known.heard_after, excluded.heard_after) else known.heard_after end,
      heard_no = case when excluded.said_at is null then excluded.heard_no else known.heard_no end,
      in_address_book = known.in_address_book or excluded.in_address_book
    returning known.alias
  )
  select coalesce(array_agg(heard.alias), '{}') into renamed from heard;
end
$$;
comment on function evolution.take_names(bigint, jsonb) is 'Stores names; returns the aliases that got one.';

create or replace function evolution.name_chats(of_source bigint, news_of text[], out changed bigint[])
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
begin
  -- A name that only the application can have given stays.
  with called as (
    select distinct a.chat_id, a.person from evolution.aliases as a
     where a.source_id = of_source and a.alias = any (news_of) and a.chat_id is not null
  ), better as (
    select c.id, case when best.replaces then best.name else c."contactName" end as name, coalesce(canonical.jid, c."whatsappChatId") as jid
      from called
      join evolution.chats as c on c.id = called.chat_id
      left join evolution.aliases as canonical on canonical.source_id = of_source and canonical.alias = called.person
     cross join lateral (
       select b.name, b.name is not null and (c."contactName" in ('', 'Desconhecido') or exists (
                select from evolution.aliases as a join evolution.names as n on n.source_id = a.source_id and n.alias = a.alias
                 where a.source_id = of_source and a.person = called.person and n.name = c."contactName")) as replaces
         from (select evolution.best_name(of_source, called.person) as name offset 0) as b) as best
  ), renamed as (
    update evolution.chats as c set
      "contactName" = better.name, "whatsappChatId" = better.jid, "contactNumber" = replace(better.jid, '@s.whatsapp.net', '')
      from better
     where c.id = better.id and (c."contactName" <> better.name or c."whatsappChatId" <> better.jid)
    returning c.id
  )
  select coalesce(array_agg(renamed.id), '{}') into changed from renamed;
end
$$;
comment on function evolution.name_chats(bigint, text[]) is 'Gives chats their best current names and addresses; returns the chats that changed.';
