-- Who answers which conversation is the application's own matter: a table of the sample clinics, by which the events of
-- the WhatsApp pack are narrowed. Run at every start; it publishes nothing again.
--
-- The reception hears every conversation; an attendant hears their own.

create table if not exists public."chatAttendants" (
  "chatId" bigint primary key references evolution.chats on delete cascade,
  "tenantId" text not null,
  attendant text
);
comment on table public."chatAttendants" is 'Who answers a conversation; null, or no row: the reception. A change is two events: chat:released for who had it, chat:assigned for who has it.';

create or replace function public."chatAudience"("chatId" bigint) returns text[]
language sql stable
set search_path = pg_catalog, pg_temp
begin atomic
  select array['reception', (select 'user:' || a.attendant from public."chatAttendants" as a where a."chatId" = $1)];
end;

-- Where two conversations turn out to be one, the one that stays keeps its attendant; where it has none, it takes the
-- other's. Each statement of a merge fires this before the other conversation is removed.
create or replace function public."keepAttendant"() returns trigger
language plpgsql
set search_path = pg_catalog, pg_temp
as $$
begin
  insert into public."chatAttendants" as known ("chatId", "tenantId", attendant)
  select new.into_chat_id, had."tenantId", had.attendant from public."chatAttendants" as had
   where had."chatId" = new.chat_id and had.attendant is not null
  on conflict ("chatId") do update set attendant = excluded.attendant where known.attendant is null;
  return null;
end
$$;
create or replace trigger "keepAttendant" after insert on evolution.merges
for each row execute function public."keepAttendant"();

-- Each event of a conversation, in all calls that make it; once narrowed, it is left alone.
do $do$
declare
  narrowed record;
begin
  for narrowed in
    select c.call, of.chat
      from relay.contract as c
      join (values
        ('chat:new', 'new.id'),
        ('chat:update', 'new.id'),
        ('chat:message', 'new."chatId"'),
        ('chat:merged', 'new.chat_id'),
        ('message:edited', 'new."chatId"'),
        ('message:deleted', 'new."chatId"'),
        ('message:status', 'new."chatId"'),
        ('message:outgoing', 'new."chatId"'),
        ('message:reaction', '(select m."chatId" from evolution.messages as m where m.id = new.message_id)')
      ) as of (event, chat) on of.event = c.event
     where c.audience is null
  loop
    execute format('%s, audience => %L)', left(narrowed.call, -2), format('public."chatAudience"(%s)', narrowed.chat));
  end loop;
end
$do$;

-- A conversation that is handed over. One event for both would show the old attendant what the new one gets.
do $do$
begin
  if exists (select from relay.contract where event = 'chat:assigned') then
    return;
  end if;
  perform relay.publish('chat:released', 'public."chatAttendants"', 'UPDATE',
    condition => $$old.attendant is distinct from new.attendant and old.attendant is not null$$,
    account => $$old."tenantId"$$,
    payload => $$jsonb_build_object('chatId', old."chatId")$$,
    audience => $$array['user:' || old.attendant]$$,
    description => 'A conversation is no longer yours. Payload: {chatId}.',
    payload_schema => '{"type": "object", "required": ["chatId"], "properties": {"chatId": {"type": "integer"}}}');
  perform relay.publish('chat:assigned', 'public."chatAttendants"', made.operation,
    condition => made.condition,
    account => $$new."tenantId"$$,
    payload => $$(select to_jsonb(c) || jsonb_build_object('attendant', new.attendant, 'lastMessage', (
        select m.content from evolution.messages as m where m."chatId" = c.id order by m."sentAt" desc, m.id desc limit 1))
      from evolution.chats as c where c.id = new."chatId")$$,
    audience => $$array['reception', 'user:' || new.attendant]$$,
    description => 'A conversation has another attendant; null is the reception. Payload: the chat, with attendant and lastMessage.',
    payload_schema => '{"type": "object", "required": ["id", "contactName", "unreadCount", "attendant", "lastMessage"], "properties": {"id": {"type": "integer"}, "contactName": {"type": "string"}, "unreadCount": {"type": "integer"}, "attendant": {"type": ["string", "null"]}, "lastMessage": {"type": ["string", "null"]}}}')
    from (values ('INSERT', null), ('UPDATE', $$old.attendant is distinct from new.attendant$$)) as made (operation, condition);
end
$do$;
