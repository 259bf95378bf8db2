-- Messages, and what happens to them.
--
--   evolution.status_rank(text)                      how far along a message is; evolution.status_at(rank) is its inverse
--   evolution.take_messages(source, facts, ids)      step 4 of evolution.ingest()
--   evolution.take_changes(source, facts, new_ids)   step 5 of evolution.ingest()

create or replace function evolution.status_rank(status text) returns integer
language sql immutable parallel safe
as $$ select coalesce(array_position(array['PENDING', 'SENT', 'FAILED', 'DELIVERED', 'READ', 'PLAYED'], status), 0) $$;
comment on function evolution.status_rank(text) is 'How far along a message is; a status only moves to a higher rank. FAILED is above SENT, which it follows, and below DELIVERED, which proves it wrong.';

create or replace function evolution.status_at(rank integer) returns text
language sql immutable parallel safe
as $$ select (array['PENDING', 'SENT', 'FAILED', 'DELIVERED', 'READ', 'PLAYED'])[rank] $$;
comment on function evolution.status_at(integer) is 'The status of a rank.';

create or replace function evolution.take_messages(source evolution.sources, facts jsonb, message_ids text[], out new_messages bigint, out spoken_in bigint[])
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
begin
  new_messages := 0;
  spoken_in := '{}';
  if message_ids = '{}' then
    return;
  end if;
  -- What the application stored itself when it sent the message.
  update evolution.messages as m set "instanceName" = source.name
   where m."tenantId" = source."tenantId" and m."instanceName" is null and m."whatsappMessageId" = any (message_ids)
     and m."chatId" in (select a.chat_id from evolution.aliases as a where a.source_id = source.id)
     and not exists (select from evolution.messages as o where o."tenantId" = source."tenantId"
                        and o."instanceName" = source.name and o."whatsappMessageId" = m."whatsappMessageId");
  with received as materialized (
    select distinct on (m.id) m.id, a.chat_id, m."fromMe", m.kind, m.content, m.whatsapp,
           min(to_timestamp(m."sentAt" / 1000.0)) over same_id as sent_at,
           coalesce(bool_or(m.live or to_timestamp(m."sentAt" / 1000.0) >= source.live_from) over same_id, false) as live,
           max(evolution.status_rank(m.status)) over same_id as rank,
           whole.length as fullness
      from jsonb_to_recordset(facts -> 'messages')
        as m(chat text, id text, "fromMe" boolean, kind text, content text, status text, "sentAt" double precision, live boolean, whatsapp jsonb)
      join evolution.aliases as a on a.source_id = source.id and a.alias = m.chat
     cross join lateral (select length(w.text), w.text from (select m.whatsapp::text as text offset 0) as w offset 0) as whole
    window same_id as (partition by m.id)
     order by m.id, whole.length desc, whole.text collate "C" desc
  ), known as materialized (
    select t.*, n.id as message_id, n."deletedAt" is null and
           (t.fullness, t.whatsapp::text collate "C") > (length(n.whatsapp::text), n.whatsapp::text collate "C") as fuller
      from received as t
      join evolution.messages as n on n."tenantId" = source."tenantId" and n."instanceName" = source.name and n."whatsappMessageId" = t.id
  ), born as (
    insert into evolution.messages ("chatId", "tenantId", "instanceName", "whatsappMessageId", content, direction, status, kind, "sentAt", live, whatsapp)
    select t.chat_id, source."tenantId", source.name, t.id, t.content, case when t."fromMe" then 'OUTGOING' else 'INCOMING' end,
           evolution.status_at(t.rank), t.kind, coalesce(t.sent_at, now()), t.live, t.whatsapp
      from received as t
     where not exists (select from known where known.id = t.id)
     order by coalesce(t.sent_at, now()), t.id
    on conflict on constraint a_message_of_an_instance_is_stored_once do nothing
    returning "chatId"
  ), repeated as (
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
end
$$;
comment on function evolution.take_messages(evolution.sources, jsonb, text[]) is 'Stores messages; returns how many are new, and their chats. Of several versions of one message the longest is kept, so that their order makes no difference.';

create or replace function evolution.take_changes(source evolution.sources, facts jsonb, new_ids text[], out changed_ids text[])
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
begin
  changed_ids := '{}';
  create temporary table if not exists happened
    (id text, kind text, rank integer, content text, at timestamptz, seen boolean, message_id bigint) on commit delete rows;
  delete from pg_temp.happened;
  insert into pg_temp.happened
  select h.id, h.kind, evolution.status_rank(h.status), h.content, to_timestamp(h.at / 1000.0), coalesce(h.seen, false)
    from jsonb_to_recordset(facts -> 'changes') as h(id text, kind text, status text, content text, at double precision, seen boolean);
  if new_ids <> '{}' then
    with unparked as (
      delete from evolution.parked as p where p.source_id = source.id and p."whatsappMessageId" = any (new_ids) returning p.*
    )
    insert into pg_temp.happened
    select u."whatsappMessageId", u.kind, evolution.status_rank(u.status), u.content, u.at, false from unparked as u;
  end if;
  if exists (select from pg_temp.happened) then
    update pg_temp.happened as h set message_id = m.id from evolution.messages as m
     where m."tenantId" = source."tenantId" and m."instanceName" = source.name and m."whatsappMessageId" = h.id;
    insert into evolution.parked as known (source_id, "whatsappMessageId", kind, status, content, at)
    select distinct on (h.id, h.kind) source.id, h.id, h.kind, evolution.status_at(h.rank), h.content, h.at
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
    changed_ids := array(select h.id from pg_temp.happened as h where h.message_id is not null);
  end if;
end
$$;
comment on function evolution.take_changes(evolution.sources, jsonb, text[]) is 'Applies statuses, edits and deletions, also those that came before their message; returns the messages concerned. Deletion wins over everything, a dated edit over an undated one, the later over the earlier.';
