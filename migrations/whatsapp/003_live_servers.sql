-- Up Migration
--
-- What live servers showed, and replying.
--
--   evolution.outgoing    what the team sends: an INSERT is sent by the worker
--   evolution.receipts    chats that were read here and are to be marked read on WhatsApp

-- Two tenants may call their instances alike, each on a server of its own.
alter table evolution.instances drop constraint name_is_unique;
alter table evolution.instances add constraint a_tenants_names_are_unique unique ("tenantId", name);
create unique index an_instance_of_a_server_belongs_to_one_tenant on evolution.instances (lower(rtrim(host, '/')), name);

alter table evolution.instances
  drop constraint skip_names_kinds_of_chats,
  add constraint skip_names_kinds_of_chats check (skip <@ '{status,newsletter,broadcast,group,lid,phone,bot}'::text[]),
  add column "maySend" boolean not null default false,
  add column "mayMarkRead" boolean not null default false,
  add column "sendsPerMinute" integer not null default 20,
  add constraint sends_per_minute_is_between_1_and_600 check ("sendsPerMinute" between 1 and 600);
comment on column evolution.instances.skip is 'Kinds of chats left out: status, newsletter, broadcast, group, lid, phone, bot.';
comment on column evolution.instances."maySend" is 'true: rows of evolution.outgoing are sent. Off by default: a test system must not write to patients.';
comment on column evolution.instances."mayMarkRead" is 'true: a chat that is read here (unreadCount 0) is marked read on WhatsApp.';
comment on column evolution.instances."sendsPerMinute" is 'Most messages that are sent in a minute. WhatsApp blocks numbers that send too fast.';

alter table evolution.names add column in_address_book boolean not null default false;
comment on column evolution.names.in_address_book is 'The name in the phone''s address book. It is kept over what people call themselves.';

alter table evolution.sources
  add column older_until timestamptz(3),
  add column older_total bigint;
comment on column evolution.sources.older_total is 'How many messages up to older_until the server had. More of them later: history has reached it, and everything is read again.';

-- read_until has become exclusive: everything before it is read.
update evolution.chat_state set read_until = read_until + interval '1 millisecond', stated_at = stated_at + interval '1 millisecond';
comment on column evolution.chat_state.read_until is 'Messages before this are read: the latest answer, or just after the latest message that was read. Only ever forward.';

comment on column evolution.messages.status is 'PENDING, SENT, FAILED, DELIVERED, READ, PLAYED: only ever forward.';
comment on column evolution.messages.kind is 'text, image, video, audio, document, sticker, location, contact, poll, order, payment, interactive, event, invite, deleted, or unknown (see whatsapp).';

create table evolution.outgoing (
  id bigint generated always as identity primary key,
  "tenantId" text not null,
  "instanceName" text not null,
  "chatId" bigint references evolution.chats (id) on delete cascade,
  "whatsappChatId" text,
  text text,
  media jsonb,
  "quotedMessageId" text,
  "sentBy" text,
  status text not null default 'QUEUED',
  "reasonCode" text,
  reason text,
  "whatsappMessageId" text,
  "createdAt" timestamptz(3) not null default now(),
  "startedAt" timestamptz(3),
  "finishedAt" timestamptz(3),
  constraint outgoing_status_is_known check (status in ('QUEUED', 'SENDING', 'PENDING', 'SENT', 'FAILED', 'DELIVERED', 'READ', 'PLAYED')),
  constraint it_says_something check (coalesce(text, '') <> '' or media is not null),
  constraint it_has_a_recipient check (num_nonnulls("chatId", "whatsappChatId") > 0),
  constraint media_has_kind_and_url check (media is null or media ->> 'kind' in ('image', 'video', 'audio', 'document') and media ->> 'url' ~ '^https?://'),
  constraint text_has_at_most_65536_characters check (length(text) <= 65536)
);
create index outgoing_to_send on evolution.outgoing ("tenantId", "instanceName", id) where status in ('QUEUED', 'SENDING');
create unique index outgoing_by_message on evolution.outgoing ("whatsappMessageId", "instanceName", "tenantId");
comment on table evolution.outgoing is 'Messages to be sent. The worker sends a row that is inserted, once as far as the server allows, if the instance has "maySend"; status and reason say what became of it.';
comment on column evolution.outgoing."whatsappChatId" is 'Address or phone number, where there is no chat yet.';
comment on column evolution.outgoing.media is '{"kind": "image" | "video" | "audio" | "document", "url": "https://...", "mimetype": ..., "fileName": ...}; text is its caption.';
comment on column evolution.outgoing."quotedMessageId" is 'whatsappMessageId of the message that is answered.';
comment on column evolution.outgoing."sentBy" is 'Who wrote it, in the application''s words.';
comment on column evolution.outgoing.status is 'QUEUED, SENDING, then the message''s own status; FAILED: see reason.';
comment on column evolution.outgoing."reasonCode" is 'sending_not_allowed, send_unsure, send_without_id, evolution_refused, evolution_not_found, evolution_unauthorized.';
comment on column evolution.outgoing.reason is 'Why it was not sent, or why that is not known.';

create table evolution.receipts (
  chat_id bigint primary key references evolution.chats (id) on delete cascade,
  asked_at timestamptz(3) not null default clock_timestamp()
);
comment on table evolution.receipts is 'Chats that were read here and wait to be marked read on WhatsApp.';

-- They take and return more now.
drop function if exists evolution.claim(uuid, text, integer, interval);
drop function if exists evolution.request_sync(text);

do $$
begin
  if exists (select from pg_roles where rolname = 'recado_evolution') then
    grant select, insert, update, delete on evolution.outgoing, evolution.receipts to recado_evolution;
  end if;
end
$$;
