-- Up Migration
--
-- WhatsApp conversations, as the application reads them. Names are the application's (camelCase, as its ORM
-- writes them); the worker's own tables are in 002_worker.sql. They are in a schema of their own, since an application
-- may have tables of these names; one that wants them under its own names makes a view.
--
--   evolution.chats      one row per conversation
--   evolution.messages   one row per message
--
-- "tenantId" is text: the applications that use this name give tenants ids of their own making (cuids, slugs),
-- accounts of the clinic are integers, and a token's account is compared by its text form anyway.

create schema evolution;
comment on schema evolution is 'WhatsApp through Evolution servers. Add a number with: insert into evolution.instances (name, "tenantId", host, "apiKey") values (...); see how it does with: select * from evolution.overview';

create table evolution.chats (
  id bigint generated always as identity primary key,
  "tenantId" text not null,
  "instanceName" text,
  "whatsappChatId" text not null,
  "contactName" text not null default 'Desconhecido',
  "contactNumber" text not null default '',
  status text not null default 'ACTIVE',
  "lastMessageAt" timestamptz(3),
  "unreadCount" integer not null default 0,
  "createdAt" timestamptz(3) not null default now(),
  constraint unread_count_is_not_negative check ("unreadCount" >= 0)
);
create index chats_by_address on evolution.chats ("tenantId", "whatsappChatId");
create index chats_by_last_message on evolution.chats ("tenantId", "lastMessageAt" desc nulls last);

comment on table evolution.chats is 'Conversations of WhatsApp. Written by the Evolution worker; applications may change contactName, status and unreadCount (0: everything was read).';
comment on column evolution.chats."instanceName" is 'WhatsApp number (evolution.instances.name) the conversation is held with; null for chats an application made.';
comment on column evolution.chats."whatsappChatId" is 'Address to send to: the phone number where it is known, else the LID; a group''s own.';
comment on column evolution.chats."contactNumber" is 'The phone number; a group''s or an unknown person''s address is shown whole.';
comment on column evolution.chats.status is 'ACTIVE, DELETED (deleted on the phone), or the application''s own.';
comment on column evolution.chats."unreadCount" is 'Incoming messages since the last answer or reading, on whichever device it happened.';

create table evolution.messages (
  id bigint generated always as identity primary key,
  "chatId" bigint not null references evolution.chats (id) on delete cascade,
  "tenantId" text not null,
  "instanceName" text,
  "whatsappMessageId" text,
  content text not null default '',
  direction text not null,
  status text not null default 'DELIVERED',
  kind text not null default 'text',
  "sentAt" timestamptz(3) not null default now(),
  "editedAt" timestamptz(3),
  "deletedAt" timestamptz(3),
  live boolean not null default false,
  whatsapp jsonb not null default '{}',
  "createdAt" timestamptz(3) not null default now(),
  constraint direction_is_incoming_or_outgoing check (direction in ('INCOMING', 'OUTGOING')),
  -- The message's id first: with the tenant first, a plan made without statistics reads the tenant's every message.
  constraint a_message_of_an_instance_is_stored_once unique ("whatsappMessageId", "instanceName", "tenantId")
);
create index messages_by_chat on evolution.messages ("chatId", "sentAt");
create index messages_that_may_be_unread on evolution.messages ("chatId", "sentAt") where live and direction = 'INCOMING';

comment on table evolution.messages is 'Messages of WhatsApp. Written by the Evolution worker.';
comment on column evolution.messages."whatsappMessageId" is 'key.id of WhatsApp: the same in every telling of the message, and in the log of every other instance that saw it.';
comment on column evolution.messages.content is 'Text, caption or file name; empty for media without one, and after a deletion.';
comment on column evolution.messages.status is 'PENDING, FAILED, SENT, DELIVERED, READ, PLAYED: only ever forward.';
comment on column evolution.messages.kind is 'text, image, video, audio, document, sticker, location, contact, poll, poll_vote, order, interactive, event, invite, empty (content not received), deleted, or unknown (see whatsapp).';
comment on column evolution.messages."sentAt" is 'WhatsApp''s time of the message, to the second.';
comment on column evolution.messages.live is 'Heard as it happened, or sent after the instance was added here; only such messages count as unread by themselves.';
comment on column evolution.messages.whatsapp is 'Fields of the Evolution message that clients read (key, pushName, message, ...), without binaries.';
