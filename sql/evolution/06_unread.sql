-- Times and unread counts of chats.
--
--   evolution.count_unread(...)   step 7 of evolution.ingest()
--   evolution.mark_read()         trigger: an application that sets unreadCount to 0 has read the chat

create or replace function evolution.count_unread(source evolution.sources, facts jsonb, ids text[], merged bigint[], spoken_in bigint[], is_first_reading boolean, out changed bigint[])
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
begin
  create temporary table if not exists concerned (chat_id bigint, last_at timestamptz, stated integer) on commit delete rows;
  delete from pg_temp.concerned;
  insert into pg_temp.concerned
  select c.chat_id, max(c.last_at), max(c.stated)
    from (select m."chatId" as chat_id, m."sentAt" as last_at, null::integer as stated from evolution.messages as m
           where m."tenantId" = source."tenantId" and m."instanceName" = source.name
             and m."whatsappMessageId" = any (ids)
          union all
          select a.chat_id, to_timestamp(f."lastAt" / 1000.0), f.stated
            from jsonb_to_recordset(facts -> 'chats') as f(alias text, "lastAt" double precision, stated integer)
            join evolution.aliases as a on a.source_id = source.id and a.alias = f.alias where a.chat_id is not null
          union all select m, null, null from unnest(merged) as m) as c
   group by c.chat_id;

  insert into evolution.chat_state as known (chat_id, read_until)
  -- Our answer does not mark messages of the same second as read.
  select m."chatId", max(m."sentAt" + case m.direction when 'OUTGOING' then interval '0' else interval '1 millisecond' end)
    from evolution.messages as m
   where m."tenantId" = source."tenantId" and m."instanceName" = source.name
     and m."whatsappMessageId" = any (ids)
     and (m.direction = 'OUTGOING' or m.status in ('READ', 'PLAYED'))
   group by m."chatId"
  on conflict (chat_id) do update set read_until = excluded.read_until
    where known.read_until is null or excluded.read_until > known.read_until;
  if is_first_reading then
    insert into evolution.chat_state as known (chat_id, base, base_at)
    select a.chat_id, max(f.unread), max(coalesce(to_timestamp(f."lastAt" / 1000.0), now()))
      from jsonb_to_recordset(facts -> 'chats') as f(alias text, unread integer, "lastAt" double precision)
      join evolution.aliases as a on a.source_id = source.id and a.alias = f.alias
     where f.unread > 0 and a.chat_id is not null
     group by a.chat_id
    on conflict (chat_id) do update set base = excluded.base, base_at = excluded.base_at where known.base is null;
  end if;
  insert into evolution.chat_state as known (chat_id, read_until, stated, stated_at)
  select n.chat_id, n.at, n.stated, n.at
    from (select n.chat_id, n.stated, coalesce(greatest(n.last_at, c."lastMessageAt"), now()) + interval '1 millisecond' as at
            from pg_temp.concerned as n join evolution.chats as c on c.id = n.chat_id where n.stated is not null) as n
  on conflict (chat_id) do update
    set read_until = excluded.read_until, stated = excluded.stated, stated_at = excluded.stated_at
    where known.read_until is null or excluded.stated_at >= known.read_until;

  with counted as (
    select n.chat_id, n.last_at, live.unread
           + case when s.stated_at >= s.read_until then s.stated else 0 end
           + case when s.base > 0 and (s.read_until is null or s.read_until <= s.base_at) then (
               -- Evolution's count covers messages that were not heard live; what was read since is subtracted.
               select least(greatest(s.base - count(*) filter (where k.live), 0),
                            count(*) filter (where not k.live and (s.read_until is null or k."sentAt" >= s.read_until)) + greatest(s.base - count(*), 0))
                 from evolution.messages as k where k."chatId" = n.chat_id and k.direction = 'INCOMING' and k."sentAt" <= s.base_at)
             else 0 end as unread
      from pg_temp.concerned as n
      left join evolution.chat_state as s on s.chat_id = n.chat_id
     cross join lateral (
       select count(*) as unread from evolution.messages as m
        where m."chatId" = n.chat_id and m.direction = 'INCOMING' and m.live and m."sentAt" >= coalesce(s.read_until, '-infinity')
           and m.status not in ('READ', 'PLAYED')) as live
  ), rewritten as (
    update evolution.chats as c set
      "unreadCount" = counted.unread,
      "lastMessageAt" = greatest(c."lastMessageAt", counted.last_at),
      status = case when c.status = 'DELETED' and c.id = any (spoken_in) then 'ACTIVE' else c.status end
      from counted
     where c.id = counted.chat_id
       and (c."unreadCount" <> counted.unread
            or counted.last_at > coalesce(c."lastMessageAt", '-infinity')
            or c.status = 'DELETED' and c.id = any (spoken_in))
    returning c.id
  )
  select coalesce(array_agg(rewritten.id), '{}') into changed from rewritten;
end
$$;
comment on function evolution.count_unread(evolution.sources, jsonb, text[], bigint[], bigint[], boolean) is 'Derives lastMessageAt and unreadCount of the chats that messages and facts belong to; returns those that changed.';

create or replace function evolution.mark_read() returns trigger
language plpgsql security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  insert into evolution.chat_state as known (chat_id, read_until, base)
  select new.id, max(m."sentAt") + interval '1 millisecond', 0 from evolution.messages as m where m."chatId" = new.id
  on conflict (chat_id) do update set read_until = greatest(known.read_until, excluded.read_until), stated = null, stated_at = null, base = 0;
  insert into evolution.receipts (chat_id)
  select new.id from evolution.instances as i
   where i."tenantId" = new."tenantId" and i.name = new."instanceName" and i."mayMarkRead"
  on conflict (chat_id) do update set asked_at = excluded.asked_at;
  return null;
end
$$;
comment on function evolution.mark_read() is 'Trigger of evolution.chats: an application that sets unreadCount to 0 has read the chat; it is marked read on WhatsApp where the instance allows it.';

do $$
begin
  if not exists (select from pg_trigger where tgrelid = 'evolution.chats'::regclass and tgname = 'read_by_the_application') then
    create trigger read_by_the_application after update on evolution.chats for each row
      when (new."unreadCount" = 0 and old."unreadCount" <> 0 and coalesce(current_setting('evolution.ingesting', true), '') <> 'on')
      execute function evolution.mark_read();
  end if;
end
$$;
