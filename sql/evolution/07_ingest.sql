-- From facts to rows.
--
--   evolution.ingest(source, facts, first)   stores the facts of one or thousands of envelopes
--     1 addresses and pairs   2 names   3 chats   4 messages   5 what happened to them
--     6 reactions and media   7 times and unread counts   8 names and addresses of chats   9 what the team sent
--
-- Facts can be stored again and in any order: each column is a maximum, a minimum, a flag that only goes up, or derived
-- from those. The time of arrival decides nothing, with two exceptions that carry no time of their own: names of the
-- address book, and edits from servers that do not date them.
-- One ingest at a time per source (an advisory lock), so its statements meet no concurrent ones; sources run in
-- parallel. A call is about two dozen statements, however many facts it brings.

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
  news_of text[];
  merged bigint[];
  created bigint[];
  new_messages bigint;
  spoken_in bigint[];
  ids text[];
  changed_ids text[];
  updated bigint[];
begin
  perform pg_advisory_xact_lock(hashtext('evolution.ingest'), of_source::integer);
  perform set_config('evolution.ingesting', 'on', true);
  -- The history of a new instance is one event, chat:synced, not one for each message.
  perform set_config('evolution.first_reading', case when is_first_reading then 'on' else 'off' end, true);
  select s.* into strict source from evolution.sources as s where s.id = of_source;

  select a.news_of, a.merged into news_of, merged from evolution.take_addresses(of_source, facts) as a;
  news_of := news_of || evolution.take_names(of_source, facts);
  created := evolution.open_chats(source, facts);
  ids := array(select distinct m.id from jsonb_to_recordset(facts -> 'messages') as m(id text));
  select t.new_messages, t.spoken_in into new_messages, spoken_in from evolution.take_messages(source, facts, ids) as t;
  changed_ids := evolution.take_changes(source, facts, case when new_messages > 0 then ids else '{}' end);
  ids := ids || evolution.take_reactions(source, facts, ids);
  perform evolution.take_media(source, facts);
  ids := ids || changed_ids;
  updated := evolution.count_unread(source, facts, ids, merged, spoken_in, is_first_reading);
  updated := updated || evolution.name_chats(of_source, news_of);
  updated := updated || evolution.remove_chats(of_source, facts);

  -- 9. What the team sent has the status of its message.
  update evolution.outgoing as o set status = m.status
    from evolution.messages as m
   where m."tenantId" = source."tenantId" and m."instanceName" = source.name
     and m."whatsappMessageId" = any (ids)
     and o."whatsappMessageId" = m."whatsappMessageId" and o."instanceName" = m."instanceName" and o."tenantId" = m."tenantId"
     and o.status <> m.status;

  return jsonb_build_object(
    'created', to_jsonb(created),
    'updated', (select coalesce(jsonb_agg(distinct u), '[]') from unnest(updated || merged) as u where u <> all (created)),
    'messages', new_messages);
end
$$;
comment on function evolution.ingest(bigint, jsonb, boolean) is 'Stores facts of a source (see relay/evolution/payloads/facts.ts); returns the chats created and updated, and the number of new messages.';
