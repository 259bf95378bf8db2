-- Conversations that appear and go.
--
--   evolution.open_chats(source, facts)     step 3 of evolution.ingest()
--   evolution.remove_chats(source, facts)   the last part of its step 8

create or replace function evolution.open_chats(source evolution.sources, facts jsonb, out created bigint[])
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
begin
  created := '{}';
  create temporary table if not exists wanted_chats (person text, jid text, chat_id bigint) on commit delete rows;
  delete from pg_temp.wanted_chats;
  -- A chat that the application made itself, or that is left from before, is taken over.
  insert into pg_temp.wanted_chats (person, jid)
  select distinct a.person, coalesce(canonical.jid, a.jid)
    from evolution.aliases as a
    left join evolution.aliases as canonical on canonical.source_id = source.id and canonical.alias = a.person
   where a.source_id = source.id and a.chat_id is null
     and a.alias in (select m.chat from jsonb_to_recordset(facts -> 'messages') as m(chat text)
                     union select c.alias from jsonb_to_recordset(facts -> 'chats') as c(alias text, "create" boolean) where c."create");
  if found then
    update pg_temp.wanted_chats as w set chat_id = (
      select min(c.id) from evolution.chats as c
       where c."tenantId" = source."tenantId"
         and c."whatsappChatId" in (select a.jid from evolution.aliases as a where a.source_id = source.id and a.person = w.person)
         and coalesce(c."instanceName", source.name) = source.name
         and not exists (select from evolution.aliases as other where other.chat_id = c.id));
    update evolution.chats as c set "instanceName" = source.name from pg_temp.wanted_chats as w
     where c.id = w.chat_id and c."instanceName" is null;
    with latest as (
      select a.person, to_timestamp(max(t.at) / 1000.0) as at
        from (select m.chat as alias, m."sentAt" as at from jsonb_to_recordset(facts -> 'messages') as m(chat text, "sentAt" double precision)
              union all
              select c.alias, c."lastAt" from jsonb_to_recordset(facts -> 'chats') as c(alias text, "lastAt" double precision)) as t
        join evolution.aliases as a on a.source_id = source.id and a.alias = t.alias
       group by a.person
    ), born as (
      insert into evolution.chats ("tenantId", "instanceName", "whatsappChatId", "contactName", "contactNumber", "lastMessageAt")
      select source."tenantId", source.name, w.jid, coalesce(evolution.best_name(source.id, w.person), 'Desconhecido'),
             replace(w.jid, '@s.whatsapp.net', ''), latest.at
        from pg_temp.wanted_chats as w left join latest on latest.person = w.person
       where w.chat_id is null
       order by w.jid
      returning id, "whatsappChatId"
    ), linked as (
      update pg_temp.wanted_chats as w set chat_id = born.id from born where w.jid = born."whatsappChatId" and w.chat_id is null
    )
    select coalesce(array_agg(born.id), '{}') into created from born;
    update evolution.aliases as a set chat_id = w.chat_id from pg_temp.wanted_chats as w
     where a.source_id = source.id and a.person = w.person;
  end if;
end
$$;
comment on function evolution.open_chats(evolution.sources, jsonb) is 'Opens chats for messages; returns those that are new.';

create or replace function evolution.remove_chats(of_source bigint, facts jsonb, out removed bigint[])
language plpgsql volatile
set search_path = pg_catalog, pg_temp
as $$
begin
  removed := '{}';
  if jsonb_array_length(coalesce(facts -> 'removed', '[]')) > 0 then
    with gone as (
      update evolution.chats as c set status = 'DELETED'
        from evolution.aliases as a
       where a.source_id = of_source and a.chat_id = c.id and c.status = 'ACTIVE'
         and a.alias in (select jsonb_array_elements_text(facts -> 'removed'))
      returning c.id
    )
    select coalesce(array_agg(gone.id), '{}') into removed from gone;
  end if;
end
$$;
comment on function evolution.remove_chats(bigint, jsonb) is 'Marks chats that were deleted on the phone; answers which.';
