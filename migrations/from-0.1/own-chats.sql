-- Where the application had a table public.chats of its own, version 0.1 wrote WhatsApp's chats into that. What was
-- written there stays the application's. The worker begins anew with tables of its own: it reads every chat again.

select relay.unpublish(event)
  from (select distinct event from relay.catalogue
         where event in ('chat:new', 'chat:message', 'chat:update', 'message:status', 'message:edited', 'message:deleted')) as published;
drop trigger if exists read_by_the_application on public.chats;

alter table evolution.aliases drop constraint aliases_chat_id_fkey;
alter table evolution.chat_state drop constraint chat_state_chat_id_fkey;
alter table evolution.media drop constraint media_message_id_fkey;
alter table evolution.reactions drop constraint reactions_message_id_fkey;
truncate evolution.aliases, evolution.names, evolution.chat_state, evolution.merges, evolution.media, evolution.reactions, evolution.parked;
update evolution.sources set caught_up_to = null, synced_at = null;
alter table evolution.aliases add foreign key (chat_id) references evolution.chats (id) on delete cascade;
alter table evolution.chat_state add foreign key (chat_id) references evolution.chats (id) on delete cascade;
alter table evolution.media add foreign key (message_id) references evolution.messages (id) on delete cascade;
alter table evolution.reactions add foreign key (message_id) references evolution.messages (id) on delete cascade;
