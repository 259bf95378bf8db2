-- Who is who: the addresses of a source, and which of them are one person.
--
--   evolution.merge_chats(source, people)     makes one conversation of those whose addresses are one person's
--   evolution.take_addresses(source, facts)   step 1 of evolution.ingest()

create or replace function evolution.merge_chats(of_source bigint, people text[]) returns bigint[]
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  merge record;
  gone bigint[];
  kept bigint[] := '{}';
begin
  for merge in
    select min(a.chat_id) as keep, array_agg(distinct a.chat_id) as chats
      from evolution.aliases as a
     where a.source_id = of_source and a.chat_id is not null and a.person = any (people)
     group by a.person
    having count(distinct a.chat_id) > 1
     order by 1
  loop
    gone := array_remove(merge.chats, merge.keep);
    insert into evolution.merges (source_id, "tenantId", chat_id, into_chat_id, "whatsappChatId")
    select of_source, c."tenantId", c.id, merge.keep, c."whatsappChatId" from evolution.chats as c where c.id = any (gone);
    update evolution.messages set "chatId" = merge.keep where "chatId" = any (gone);
    update evolution.chats as c set
      "lastMessageAt" = greatest(c."lastMessageAt", other.last_at),
      status = case when c.status = 'DELETED' and other.is_active then 'ACTIVE' else c.status end
      from (select max(g."lastMessageAt") as last_at, bool_or(g.status = 'ACTIVE') as is_active from evolution.chats as g where g.id = any (gone)) as other
     where c.id = merge.keep;
    insert into evolution.chat_state as known (chat_id, read_until, base, base_at, stated, stated_at)
    select merge.keep, max(s.read_until), sum(s.base), max(s.base_at), sum(s.stated), max(s.stated_at)
      from evolution.chat_state as s where s.chat_id = any (gone)
    on conflict (chat_id) do update set
      read_until = greatest(known.read_until, excluded.read_until),
      base = coalesce(known.base + excluded.base, known.base, excluded.base),
      base_at = greatest(known.base_at, excluded.base_at),
      stated = coalesce(known.stated + excluded.stated, known.stated, excluded.stated),
      stated_at = greatest(known.stated_at, excluded.stated_at);
    update evolution.aliases set chat_id = merge.keep where source_id = of_source and chat_id = any (gone);
    begin
      delete from evolution.chats where id = any (gone);
    exception when foreign_key_violation then
      -- A table of the application refers to it and does not cascade: it stays, empty.
      update evolution.chats set status = 'MERGED', "unreadCount" = 0 where id = any (gone);
    end;
    kept := kept || merge.keep;
  end loop;
  return kept;
end
$$;
comment on function evolution.merge_chats(bigint, text[]) is 'Merges conversations with one person: moves their messages into the oldest, and removes the others.';

create or replace function evolution.take_addresses(of_source bigint, facts jsonb, out news_of text[], out merged bigint[])
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
declare
  paired_people text[];
  paired bigint;
begin
  merged := '{}';
  -- Of two ways to write a number the longer, with the ninth digit, is shown.
  with noted as (
    insert into evolution.aliases as known (source_id, alias, jid)
    select of_source, a.alias, a.jid from jsonb_to_recordset(facts -> 'addresses') as a(alias text, jid text)
     where not exists (
       select from evolution.aliases as k
        where k.source_id = of_source and k.alias = a.alias and length(k.jid) >= length(a.jid))
    on conflict (source_id, alias) do update set jid = excluded.jid
    returning known.alias
  )
  select coalesce(array_agg(noted.alias), '{}') into news_of from noted;

  -- A LID never moves to another number: a second number for it is ignored.
  if jsonb_array_length(coalesce(facts -> 'pairs', '[]')) > 0 then
    update evolution.aliases as lid set phone = pair.phone
      from jsonb_to_recordset(facts -> 'pairs') as pair(lid text, phone text)
     where lid.source_id = of_source and lid.alias = pair.lid and lid.phone is null;
    get diagnostics paired = row_count;
  end if;
  if paired > 0 then
    news_of := news_of || array(select p.lid from jsonb_to_recordset(facts -> 'pairs') as p(lid text));
    select array_agg(distinct p.phone) into paired_people from jsonb_to_recordset(facts -> 'pairs') as p(phone text);
    merged := evolution.merge_chats(of_source, paired_people);
    update evolution.aliases as a set chat_id = known.chat_id
      from (select k.person, min(k.chat_id) as chat_id from evolution.aliases as k
             where k.source_id = of_source and k.chat_id is not null and k.person = any (paired_people)
             group by k.person) as known
     where a.source_id = of_source and a.person = known.person and a.chat_id is null;
    -- A reaction under the LID and one under the number are the same person's: the later stays.
    insert into evolution.reactions as known (source_id, "whatsappMessageId", reactor, emoji, "reactedAt", message_id)
    select distinct on (r."whatsappMessageId", a.phone) r.source_id, r."whatsappMessageId", a.phone, r.emoji, r."reactedAt", r.message_id
      from evolution.reactions as r
      join evolution.aliases as a on a.source_id = r.source_id and a.alias = r.reactor and a.phone = any (paired_people)
     where r.source_id = of_source
     order by r."whatsappMessageId", a.phone, r."reactedAt" desc, r.emoji desc
    on conflict (source_id, "whatsappMessageId", reactor) do update
      set emoji = excluded.emoji, "reactedAt" = excluded."reactedAt"
      where (excluded."reactedAt", excluded.emoji) > (known."reactedAt", known.emoji);
    delete from evolution.reactions as r using evolution.aliases as a
     where r.source_id = of_source and a.source_id = of_source and a.alias = r.reactor and a.phone = any (paired_people);
  end if;
end
$$;
comment on function evolution.take_addresses(bigint, jsonb) is 'Stores addresses and pairs; returns the aliases whose address is new or changed, and the chats that others were merged into.';
