-- What goes with a message: reactions and media.
--
--   evolution.take_reactions(source, facts, ids)   step 6 of evolution.ingest()
--   evolution.take_media(source, facts)            the rest of it

create or replace function evolution.take_reactions(source evolution.sources, facts jsonb, message_ids text[], out reacted_ids text[])
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
begin
  reacted_ids := '{}';
  -- A reaction without its message waits in the table. A person is known by the phone number where there is one.
  if jsonb_array_length(coalesce(facts -> 'reactions', '[]')) > 0 then
    insert into evolution.reactions as known (source_id, "whatsappMessageId", reactor, emoji, "reactedAt")
    select distinct on (r.id, coalesce(a.phone, r.reactor)) source.id, r.id, coalesce(a.phone, r.reactor), r.emoji, to_timestamp(r.at / 1000.0)
      from jsonb_to_recordset(facts -> 'reactions') as r(id text, reactor text, emoji text, at double precision)
      left join evolution.aliases as a on a.source_id = source.id and a.alias = r.reactor
     order by r.id, coalesce(a.phone, r.reactor), r.at desc, r.emoji desc
    on conflict (source_id, "whatsappMessageId", reactor) do update
      set emoji = excluded.emoji, "reactedAt" = excluded."reactedAt"
      where (excluded."reactedAt", excluded.emoji) > (known."reactedAt", known.emoji);
    reacted_ids := array(select x.id from jsonb_to_recordset(facts -> 'reactions') as x(id text));
  end if;
  if exists (select from evolution.reactions as r
              where r."whatsappMessageId" = any (message_ids || reacted_ids) and r.source_id = source.id and r.message_id is null) then
    update evolution.reactions as r set message_id = m.id
      from evolution.messages as m
     where r.source_id = source.id and r.message_id is null and r."whatsappMessageId" = any (message_ids || reacted_ids)
       and m."tenantId" = source."tenantId" and m."instanceName" = source.name and m."whatsappMessageId" = r."whatsappMessageId";
  end if;
end
$$;
comment on function evolution.take_reactions(evolution.sources, jsonb, text[]) is 'Stores reactions, and links waiting ones to their message; returns the ids of the messages reacted to.';

create or replace function evolution.take_media(source evolution.sources, facts jsonb) returns void
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
begin
  insert into evolution.media (message_id, kind, mimetype, "fileName", bytes, seconds, width, height, voice, "viewOnce", url)
  select distinct on (m.id) m.id, f.kind, f.mimetype, f."fileName", f.bytes, f.seconds, f.width, f.height, f.voice, f."viewOnce", f.url
    from jsonb_to_recordset(facts -> 'messages') as t(id text, media jsonb)
   cross join lateral jsonb_to_record(t.media) as f(kind text, mimetype text, "fileName" text, bytes bigint, seconds bigint, width bigint, height bigint, voice boolean, "viewOnce" boolean, url text)
    join evolution.messages as m on m."tenantId" = source."tenantId" and m."instanceName" = source.name and m."whatsappMessageId" = t.id
   where jsonb_typeof(t.media) = 'object' and m."deletedAt" is null
   order by m.id, t.media::text desc
  on conflict (message_id) do nothing;
end
$$;
comment on function evolution.take_media(evolution.sources, jsonb) is 'Stores what messages carried.';
