-- From facts to rows.
--
--   evolution.status_rank(text)           how far along a message is; evolution.status_at(rank) is its inverse
--   evolution.best_name(source, person)   what a person or group is called now
--   evolution.merge_chats(source, people) makes one conversation of those whose addresses turned out to be one
--   evolution.ingest(source, facts, first)  takes in what one or thousands of envelopes told
--     1 addresses and pairs   2 names   3 chats   4 messages   5 what happened to them
--     6 reactions and media   7 times and unread counts   8 names and addresses of chats   9 what the team sent
--   evolution.mark_read()                 trigger: an application that sets unreadCount to 0 has read the chat
--
-- Everything is written so that facts can be told again and in any order: each column is a maximum, a minimum, a
-- flag that only goes up, or derived from those. Time of arrival decides nothing, with two exceptions that carry
-- no time of their own: names of the address book, and edits from servers that do not date them.
-- One ingest at a time per source (an advisory lock), so its statements need not fear each other; sources run in
-- parallel. A call is about a dozen statements, however many facts it brings.

create or replace function evolution.status_rank(status text) returns integer
language sql immutable parallel safe
as $$ select coalesce(array_position(array['PENDING', 'SENT', 'FAILED', 'DELIVERED', 'READ', 'PLAYED'], status), 0) $$;
comment on function evolution.status_rank(text) is 'How far along a message is; a status only moves to a higher rank. FAILED is above SENT, which it follows, and below DELIVERED, which proves it wrong.';

create or replace function evolution.status_at(rank integer) returns text
language sql immutable parallel safe
as $$ select (array['PENDING', 'SENT', 'FAILED', 'DELIVERED', 'READ', 'PLAYED'])[rank] $$;
comment on function evolution.status_at(integer) is 'The status of a rank.';

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
comment on function evolution.best_name(bigint, text) is 'The name in the address book, else the one with the latest time. One that came in no message yet is newer than the message before it.';

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
comment on function evolution.merge_chats(bigint, text[]) is 'Moves the messages of conversations that are one into the oldest and removes the others.';

create or replace function evolution.ingest(of_source bigint, facts jsonb, is_first_reading boolean default false)
returns jsonb
language plpgsql volatile
set search_path = pg_catalog, pg_temp
set timezone = 'UTC'
set client_min_messages = 'warning'
set jit = off
as $$
declare
  source evolution.sources;
  told_ids text[];
  paired_people text[];
  paired bigint;
  merged bigint[] := '{}';
  created bigint[] := '{}';
  updated bigint[] := '{}';
  spoken_in bigint[] := '{}';
  news_of text[];
  renamed text[];
  new_messages bigint := 0;
begin
  perform pg_advisory_xact_lock(hashtext('evolution.ingest'), of_source::integer);
  perform set_config('evolution.ingesting', 'on', true);
  -- The history of an instance is told as one event, chat:synced, not as one for each of its messages.
  perform set_config('evolution.first_reading', case when is_first_reading then 'on' else 'off' end, true);
  select s.* into strict source from evolution.sources as s where s.id = of_source;
  create temporary table if not exists wanted_chats (person text, jid text, chat_id bigint) on commit delete rows;
  create temporary table if not exists happened
    (id text, kind text, rank integer, content text, at timestamptz, seen boolean, message_id bigint) on commit delete rows;
  create temporary table if not exists concerned (chat_id bigint, last_at timestamptz, stated integer) on commit delete rows;
  delete from pg_temp.wanted_chats;
  delete from pg_temp.happened;
  delete from pg_temp.concerned;

  -- 1. Addresses and pairs. Of two ways to write a number the longer, with the ninth digit, is shown.
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

  -- A LID belongs to one number for good: whoever claims another for it is not believed.
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

  -- 2. Names. Most are known: those cost a look and no write.
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
  news_of := news_of || renamed;

  -- 3. Chats. One that the application made itself, or that is left from before, is taken over.
  insert into pg_temp.wanted_chats (person, jid)
  select distinct a.person, coalesce(canonical.jid, a.jid)
    from evolution.aliases as a
    left join evolution.aliases as canonical on canonical.source_id = of_source and canonical.alias = a.person
   where a.source_id = of_source and a.chat_id is null
     and a.alias in (select m.chat from jsonb_to_recordset(facts -> 'messages') as m(chat text)
                     union select c.alias from jsonb_to_recordset(facts -> 'chats') as c(alias text, "create" boolean) where c."create");
  if found then
    update pg_temp.wanted_chats as w set chat_id = (
      select min(c.id) from evolution.chats as c
       where c."tenantId" = source."tenantId"
         and c."whatsappChatId" in (select a.jid from evolution.aliases as a where a.source_id = of_source and a.person = w.person)
         and coalesce(c."instanceName", source.name) = source.name
         and not exists (select from evolution.aliases as other where other.chat_id = c.id));
    update evolution.chats as c set "instanceName" = source.name from pg_temp.wanted_chats as w
     where c.id = w.chat_id and c."instanceName" is null;
    with born as (
      insert into evolution.chats ("tenantId", "instanceName", "whatsappChatId", "contactName", "contactNumber", "lastMessageAt")
      select source."tenantId", source.name, w.jid, coalesce(evolution.best_name(of_source, w.person), 'Desconhecido'),
             replace(w.jid, '@s.whatsapp.net', ''),
             (select to_timestamp(max(t.at) / 1000.0)
                from evolution.aliases as a
                join (select m.chat as alias, m."sentAt" as at from jsonb_to_recordset(facts -> 'messages') as m(chat text, "sentAt" double precision)
                      union all
                      select c.alias, c."lastAt" from jsonb_to_recordset(facts -> 'chats') as c(alias text, "lastAt" double precision)) as t
                  on t.alias = a.alias
               where a.source_id = of_source and a.person = w.person)
        from pg_temp.wanted_chats as w where w.chat_id is null
       order by w.jid
      returning id, "whatsappChatId"
    ), linked as (
      update pg_temp.wanted_chats as w set chat_id = born.id from born where w.jid = born."whatsappChatId" and w.chat_id is null
    )
    select coalesce(array_agg(born.id), '{}') into created from born;
    update evolution.aliases as a set chat_id = w.chat_id from pg_temp.wanted_chats as w
     where a.source_id = of_source and a.person = w.person;
  end if;

  -- 4. Messages. Of several tellings of one the fullest is kept, which is the same one in any order.
  select coalesce(array_agg(distinct m.id), '{}') into told_ids from jsonb_to_recordset(facts -> 'messages') as m(id text);
  if told_ids <> '{}' then
    -- What the application stored itself when it sent the message.
    update evolution.messages as m set "instanceName" = source.name
     where m."tenantId" = source."tenantId" and m."instanceName" is null and m."whatsappMessageId" = any (told_ids)
       and m."chatId" in (select a.chat_id from evolution.aliases as a where a.source_id = of_source)
       and not exists (select from evolution.messages as o where o."tenantId" = source."tenantId"
                          and o."instanceName" = source.name and o."whatsappMessageId" = m."whatsappMessageId");
    with told as materialized (
      select distinct on (m.id) m.id, a.chat_id, m."fromMe", m.kind, m.content, m.whatsapp,
             min(to_timestamp(m."sentAt" / 1000.0)) over tellings as sent_at,
             coalesce(bool_or(m.live or to_timestamp(m."sentAt" / 1000.0) >= source.live_from) over tellings, false) as live,
             max(evolution.status_rank(m.status)) over tellings as rank,
             whole.length as fullness
        from jsonb_to_recordset(facts -> 'messages')
          as m(chat text, id text, "fromMe" boolean, kind text, content text, status text, "sentAt" double precision, live boolean, whatsapp jsonb)
        join evolution.aliases as a on a.source_id = of_source and a.alias = m.chat
       cross join lateral (select length(w.text), w.text from (select m.whatsapp::text as text offset 0) as w offset 0) as whole
      window tellings as (partition by m.id)
       order by m.id, whole.length desc, whole.text collate "C" desc
    ), known as materialized (
      select t.*, n.id as message_id, n."deletedAt" is null and
             (t.fullness, t.whatsapp::text collate "C") > (length(n.whatsapp::text), n.whatsapp::text collate "C") as fuller
        from told as t
        join evolution.messages as n on n."tenantId" = source."tenantId" and n."instanceName" = source.name and n."whatsappMessageId" = t.id
    ), born as (
      insert into evolution.messages ("chatId", "tenantId", "instanceName", "whatsappMessageId", content, direction, status, kind, "sentAt", live, whatsapp)
      select t.chat_id, source."tenantId", source.name, t.id, t.content, case when t."fromMe" then 'OUTGOING' else 'INCOMING' end,
             evolution.status_at(t.rank), t.kind, coalesce(t.sent_at, now()), t.live, t.whatsapp
        from told as t
       where not exists (select from known where known.id = t.id)
       order by coalesce(t.sent_at, now()), t.id
      on conflict on constraint a_message_of_an_instance_is_stored_once do nothing
      returning "chatId"
    ), told_again as (
      update evolution.messages as m set
        "sentAt" = least(m."sentAt", t.sent_at),
        live = m.live or t.live,
        status = evolution.status_at(greatest(t.rank, evolution.status_rank(m.status))),
        whatsapp = case when t.fuller then t.whatsapp else m.whatsapp end,
        kind = case when t.fuller then t.kind else m.kind end,
        content = case when t.fuller and m."editedAt" is null then t.content else m.content end
        from known as t
       where m.id = t.message_id
         and (t.fuller or t.sent_at < m."sentAt" or t.live and not m.live or t.rank > evolution.status_rank(m.status))
    )
    select count(*), coalesce(array_agg(distinct born."chatId"), '{}') into new_messages, spoken_in from born;
  end if;

  -- 5. What happened to messages, now and while they were unknown. Deletion wins over everything, a dated edit
  -- over an undated one, the later over the earlier.
  insert into pg_temp.happened
  select h.id, h.kind, evolution.status_rank(h.status), h.content, to_timestamp(h.at / 1000.0), coalesce(h.seen, false)
    from jsonb_to_recordset(facts -> 'changes') as h(id text, kind text, status text, content text, at double precision, seen boolean);
  if new_messages > 0 then
    with unparked as (
      delete from evolution.parked as p where p.source_id = of_source and p."whatsappMessageId" = any (told_ids) returning p.*
    )
    insert into pg_temp.happened
    select u."whatsappMessageId", u.kind, evolution.status_rank(u.status), u.content, u.at, false from unparked as u;
  end if;
  if exists (select from pg_temp.happened) then
    update pg_temp.happened as h set message_id = m.id from evolution.messages as m
     where m."tenantId" = source."tenantId" and m."instanceName" = source.name and m."whatsappMessageId" = h.id;
    insert into evolution.parked as known (source_id, "whatsappMessageId", kind, status, content, at)
    select distinct on (h.id, h.kind) of_source, h.id, h.kind, evolution.status_at(h.rank), h.content, h.at
      from pg_temp.happened as h where h.message_id is null
     order by h.id, h.kind, h.rank desc, h.at desc nulls last, h.content desc
    on conflict (source_id, "whatsappMessageId", kind) do update
      set status = excluded.status, content = excluded.content, at = excluded.at
      where case known.kind when 'status' then evolution.status_rank(excluded.status) > evolution.status_rank(known.status)
                            when 'edit' then coalesce(excluded.at, '-infinity') >= coalesce(known.at, '-infinity')
                            else false end;
    update evolution.messages as m set "deletedAt" = now(), "editedAt" = null, content = '', kind = 'deleted',
           whatsapp = jsonb_build_object('key', jsonb_build_object('id', m."whatsappMessageId", 'fromMe', m.direction = 'OUTGOING'))
      from pg_temp.happened as h where h.message_id = m.id and h.kind = 'delete' and m."deletedAt" is null;
    delete from evolution.media as f using pg_temp.happened as h where f.message_id = h.message_id and h.kind = 'delete';
    update evolution.messages as m set status = evolution.status_at(h.rank)
      from (select s.message_id, max(s.rank) as rank from pg_temp.happened as s
             where s.kind = 'status' and s.message_id is not null group by s.message_id) as h
     where m.id = h.message_id and h.rank > evolution.status_rank(m.status);
    update evolution.messages as m set content = h.content, "editedAt" = coalesce(h.at, m."sentAt")
      from (select distinct on (e.message_id) e.* from pg_temp.happened as e where e.kind = 'edit' and e.message_id is not null
             order by e.message_id, e.at desc nulls last, e.content desc) as h
     where m.id = h.message_id and m."deletedAt" is null
       and coalesce(h.at, m."sentAt") >= coalesce(m."editedAt", '-infinity')
       and (h.content <> m.content or m."editedAt" is null or not h.seen and h.at > m."editedAt");
  end if;

  -- 6. Reactions wait for their message by themselves; a person is known by the number where there is one.
  if jsonb_array_length(coalesce(facts -> 'reactions', '[]')) > 0 then
    insert into evolution.reactions as known (source_id, "whatsappMessageId", reactor, emoji, "reactedAt")
    select distinct on (r.id, coalesce(a.phone, r.reactor)) of_source, r.id, coalesce(a.phone, r.reactor), r.emoji, to_timestamp(r.at / 1000.0)
      from jsonb_to_recordset(facts -> 'reactions') as r(id text, reactor text, emoji text, at double precision)
      left join evolution.aliases as a on a.source_id = of_source and a.alias = r.reactor
     order by r.id, coalesce(a.phone, r.reactor), r.at desc, r.emoji desc
    on conflict (source_id, "whatsappMessageId", reactor) do update
      set emoji = excluded.emoji, "reactedAt" = excluded."reactedAt"
      where (excluded."reactedAt", excluded.emoji) > (known."reactedAt", known.emoji);
    told_ids := told_ids || array(select x.id from jsonb_to_recordset(facts -> 'reactions') as x(id text));
  end if;
  if exists (select from evolution.reactions as r
              where r."whatsappMessageId" = any (told_ids) and r.source_id = of_source and r.message_id is null) then
    update evolution.reactions as r set message_id = m.id
      from evolution.messages as m
     where r.source_id = of_source and r.message_id is null and r."whatsappMessageId" = any (told_ids)
       and m."tenantId" = source."tenantId" and m."instanceName" = source.name and m."whatsappMessageId" = r."whatsappMessageId";
  end if;
  insert into evolution.media (message_id, kind, mimetype, "fileName", bytes, seconds, width, height, voice, "viewOnce", url)
  select distinct on (m.id) m.id, f.kind, f.mimetype, f."fileName", f.bytes, f.seconds, f.width, f.height, f.voice, f."viewOnce", f.url
    from jsonb_to_recordset(facts -> 'messages') as t(id text, media jsonb)
   cross join lateral jsonb_to_record(t.media) as f(kind text, mimetype text, "fileName" text, bytes bigint, seconds bigint, width bigint, height bigint, voice boolean, "viewOnce" boolean, url text)
    join evolution.messages as m on m."tenantId" = source."tenantId" and m."instanceName" = source.name and m."whatsappMessageId" = t.id
   where jsonb_typeof(t.media) = 'object' and m."deletedAt" is null
   order by m.id, t.media::text desc
  on conflict (message_id) do nothing;

  -- 7. Times and unread counts of the chats concerned.
  insert into pg_temp.concerned
  select c.chat_id, max(c.last_at), max(c.stated)
    from (select m."chatId" as chat_id, m."sentAt" as last_at, null::integer as stated from evolution.messages as m
           where m."tenantId" = source."tenantId" and m."instanceName" = source.name
             and m."whatsappMessageId" = any (told_ids || array(select h.id from pg_temp.happened as h where h.message_id is not null))
          union all
          select a.chat_id, to_timestamp(f."lastAt" / 1000.0), f.stated
            from jsonb_to_recordset(facts -> 'chats') as f(alias text, "lastAt" double precision, stated integer)
            join evolution.aliases as a on a.source_id = of_source and a.alias = f.alias where a.chat_id is not null
          union all select m, null, null from unnest(merged) as m) as c
   group by c.chat_id;

  insert into evolution.chat_state as known (chat_id, read_until)
  -- What comes in within the second of an answer is not read by it.
  select m."chatId", max(m."sentAt" + case m.direction when 'OUTGOING' then interval '0' else interval '1 millisecond' end)
    from evolution.messages as m
   where m."tenantId" = source."tenantId" and m."instanceName" = source.name
     and m."whatsappMessageId" = any (told_ids || array(select h.id from pg_temp.happened as h where h.message_id is not null))
     and (m.direction = 'OUTGOING' or m.status in ('READ', 'PLAYED'))
   group by m."chatId"
  on conflict (chat_id) do update set read_until = excluded.read_until
    where known.read_until is null or excluded.read_until > known.read_until;
  if is_first_reading then
    insert into evolution.chat_state as known (chat_id, base, base_at)
    select a.chat_id, max(f.unread), max(coalesce(to_timestamp(f."lastAt" / 1000.0), now()))
      from jsonb_to_recordset(facts -> 'chats') as f(alias text, unread integer, "lastAt" double precision)
      join evolution.aliases as a on a.source_id = of_source and a.alias = f.alias
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
               -- Evolution's count stands for what we have not heard live, less what was read since.
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
  select coalesce(array_agg(rewritten.id), '{}') into updated from rewritten;

  -- 8. Names and addresses of chats. A name that nobody but the application can have given stays.
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
  select updated || coalesce(array_agg(renamed.id), '{}') into updated from renamed;

  if jsonb_array_length(coalesce(facts -> 'removed', '[]')) > 0 then
    with removed as (
      update evolution.chats as c set status = 'DELETED'
        from evolution.aliases as a
       where a.source_id = of_source and a.chat_id = c.id and c.status = 'ACTIVE'
         and a.alias in (select jsonb_array_elements_text(facts -> 'removed'))
      returning c.id
    )
    select updated || coalesce(array_agg(removed.id), '{}') into updated from removed;
  end if;

  -- 9. What the team sent, as the message goes its way.
  update evolution.outgoing as o set status = m.status
    from evolution.messages as m
   where m."tenantId" = source."tenantId" and m."instanceName" = source.name
     and m."whatsappMessageId" = any (told_ids || array(select h.id from pg_temp.happened as h where h.message_id is not null))
     and o."whatsappMessageId" = m."whatsappMessageId" and o."instanceName" = m."instanceName" and o."tenantId" = m."tenantId"
     and o.status <> m.status;

  return jsonb_build_object(
    'created', to_jsonb(created),
    'updated', (select coalesce(jsonb_agg(distinct u), '[]') from unnest(updated || merged) as u where u <> all (created)),
    'messages', new_messages);
end
$$;
comment on function evolution.ingest(bigint, jsonb, boolean) is 'Takes in facts of a source (see relay/evolution/payloads/facts.ts); answers which chats were created and updated, and how many messages are new.';

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
comment on function evolution.mark_read() is 'Trigger of evolution.chats: an application that sets unreadCount to 0 has read the chat, and WhatsApp is told so where the instance may.';

do $$
begin
  if not exists (select from pg_trigger where tgrelid = 'evolution.chats'::regclass and tgname = 'read_by_the_application') then
    create trigger read_by_the_application after update on evolution.chats for each row
      when (new."unreadCount" = 0 and old."unreadCount" <> 0 and coalesce(current_setting('evolution.ingesting', true), '') <> 'on')
      execute function evolution.mark_read();
  end if;
end
$$;
