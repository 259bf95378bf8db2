-- Up Migration
--
-- The Evolution worker's own tables. Functions and triggers are in sql/evolution/.
--
--   evolution.instances       which WhatsApp numbers to connect: rows decide
--   evolution.workers         worker processes that are alive
--   evolution.leases          which of them holds which instance
--   evolution.sync_requests   "read everything again", asked through the database
--   evolution.sources         a tenant's instance, remembered after its row is gone
--   evolution.aliases         (source, address) -> chat
--   evolution.names           what an address was called, and when
--   evolution.chat_state      what the unread count is derived from
--   evolution.merges          conversations that turned out to be one
--   evolution.media           what a message carried
--   evolution.reactions       who reacted to what
--   evolution.parked          updates of messages that were not seen yet
--   evolution.rejected        what could not be read, and why

-- In every key the most selective column comes first: these tables fill in seconds, long before they have
-- statistics, and a plan made without them must not be able to read all of a source.

create table evolution.instances (
  id bigint generated always as identity primary key,
  name text not null,
  "tenantId" text not null,
  host text not null,
  "apiKey" text not null,
  desired text not null default 'connected',
  mode text not null default 'auto',
  skip text[] not null default '{status,newsletter}',
  status text not null default 'disconnected',
  "statusReason" text,
  "statusAt" timestamptz(3) not null default now(),
  state text,
  "stateReason" text,
  "ownJid" text,
  "profileName" text,
  "qrCode" text,
  "pairingCode" text,
  "qrAt" timestamptz(3),
  "createdAt" timestamptz(3) not null default now(),
  constraint name_is_unique unique (name),
  constraint name_is_not_empty check (name <> ''),
  constraint tenant_is_not_empty check ("tenantId" <> ''),
  constraint host_is_a_url check (host ~* '^https?://[^/]+'),
  constraint desired_is_connected_or_disconnected check (desired in ('connected', 'disconnected')),
  constraint mode_is_known check (mode in ('auto', 'instance', 'global')),
  constraint skip_names_kinds_of_chats check (skip <@ '{status,newsletter,broadcast,group,lid,phone}'::text[])
);
comment on table evolution.instances is 'WhatsApp numbers to connect. Inserting, changing or deleting a row takes effect within a second, without a restart.';
comment on column evolution.instances.name is 'Name of the instance on the Evolution server, as written there (case counts).';
comment on column evolution.instances."tenantId" is 'Account whose clients hear of its chats.';
comment on column evolution.instances.host is 'Base URL of the Evolution server, for example https://evolution.example.com';
comment on column evolution.instances."apiKey" is 'Secret. Readable only to the owner and to recado_evolution; grant no one else select on this column.';
comment on column evolution.instances.desired is 'connected, or disconnected to pause it.';
comment on column evolution.instances.mode is 'Where the server emits: auto listens to both the instance''s namespace and the root; global or instance to one.';
comment on column evolution.instances.skip is 'Kinds of chats left out: status, newsletter, broadcast, group, lid, phone.';
comment on column evolution.instances.status is 'Our connection: disconnected, connecting, waiting (for the server''s first event since its start), connected, polling (no websocket there), unreachable, unauthorized, not_found, refused.';
comment on column evolution.instances.state is 'WhatsApp''s connection, as Evolution says: connecting, open, close, refused.';
comment on column evolution.instances."qrCode" is 'To be drawn and scanned with the phone; the last one sent.';

create table evolution.workers (
  id uuid primary key,
  host text not null,
  pid integer not null,
  "startedAt" timestamptz(3) not null default now(),
  "seenAt" timestamptz(3) not null default clock_timestamp()
);
comment on table evolution.workers is 'Worker processes; one that was not seen for a few seconds is gone.';

create table evolution.leases (
  instance_id bigint primary key references evolution.instances (id) on delete cascade,
  worker_id uuid not null,
  until timestamptz(3) not null
);
comment on table evolution.leases is 'Which worker holds which instance. A lease that ran out may be taken by any worker.';

create table evolution.sync_requests (
  id bigint generated always as identity primary key,
  instance_id bigint not null references evolution.instances (id) on delete cascade,
  state text not null default 'queued',
  created integer,
  updated integer,
  error_code text,
  error text,
  requested_at timestamptz(3) not null default now(),
  finished_at timestamptz(3),
  constraint state_is_known check (state in ('queued', 'running', 'done', 'failed')),
  constraint finished_or_finished_at_null check ((state in ('done', 'failed')) = (finished_at is not null))
);
create unique index one_sync_at_a_time on evolution.sync_requests (instance_id) where state in ('queued', 'running');
create index sync_requests_by_instance on evolution.sync_requests (instance_id);
comment on table evolution.sync_requests is 'Requests to read an instance''s chats again. Make one with: select evolution.request_sync(''name'')';

create table evolution.sources (
  id bigint generated always as identity primary key,
  "tenantId" text not null,
  name text not null,
  live_from timestamptz(3) not null default now(),
  caught_up_to timestamptz(3),
  synced_at timestamptz(3),
  constraint a_tenants_instance_is_one_source unique ("tenantId", name)
);
comment on table evolution.sources is 'A tenant''s instance, remembered after its row is deleted: added again, it finds its chats; given to another tenant, it shows that tenant nothing of before.';
comment on column evolution.sources.live_from is 'Messages sent later count as unread even when they are first read over REST.';
comment on column evolution.sources.caught_up_to is 'Every message up to this time of WhatsApp has been read over REST; the next catch-up starts some time before.';
comment on column evolution.sources.synced_at is 'First complete reading of chats and history; null: not yet.';

create table evolution.aliases (
  source_id bigint not null references evolution.sources (id) on delete cascade,
  alias text not null,
  jid text not null,
  phone text,
  person text not null generated always as (coalesce(phone, alias)) stored,
  chat_id bigint references evolution.chats (id) on delete cascade,
  constraint an_address_belongs_to_one_chat primary key (alias, source_id)
);
create index aliases_by_person on evolution.aliases (person, source_id);
create index aliases_by_chat on evolution.aliases (chat_id);
comment on table evolution.aliases is 'Every address seen, and the conversation it belongs to. A person can have several: phone number and LIDs.';
comment on column evolution.aliases.alias is 'The address as it is looked up: Brazilian mobiles without their ninth digit.';
comment on column evolution.aliases.jid is 'The address as WhatsApp writes it.';
comment on column evolution.aliases.phone is 'For a LID: alias of the phone number it belongs to, once known.';
comment on column evolution.aliases.chat_id is 'Null: the address is known only as a group''s member or from the address book.';

create table evolution.names (
  source_id bigint not null,
  alias text not null,
  name text not null,
  said_at timestamptz(3),
  heard_after timestamptz(3),
  heard_no bigint generated by default as identity,
  primary key (alias, source_id, name),
  foreign key (alias, source_id) references evolution.aliases on delete cascade
);
comment on table evolution.names is 'What an address was called. Names come without an order of their own, so a chat is called by the name with the latest time.';
comment on column evolution.names.said_at is 'Latest message that carried the name.';
comment on column evolution.names.heard_after is 'For a name without a message: the chat''s latest message when it was first heard.';

create table evolution.chat_state (
  chat_id bigint primary key references evolution.chats (id) on delete cascade,
  read_until timestamptz(3),
  base integer,
  base_at timestamptz(3),
  stated integer,
  stated_at timestamptz(3)
);
comment on table evolution.chat_state is 'What unreadCount is derived from, so that telling it again changes nothing.';
comment on column evolution.chat_state.read_until is 'Latest answer, or latest incoming message known to be read; only ever forward.';
comment on column evolution.chat_state.base is 'Unread count Evolution gave when the history was first read; stands for messages that are not live.';
comment on column evolution.chat_state.stated is 'Unread count a bridge stated; replaces what came before stated_at.';

create table evolution.merges (
  id bigint generated always as identity primary key,
  source_id bigint not null references evolution.sources (id) on delete cascade,
  "tenantId" text not null,
  chat_id bigint not null,
  into_chat_id bigint not null,
  "whatsappChatId" text not null,
  merged_at timestamptz(3) not null default now()
);
comment on table evolution.merges is 'Conversations that turned out to be one, when a LID and a phone number were found to be one person.';

create table evolution.media (
  message_id bigint primary key references evolution.messages (id) on delete cascade,
  kind text not null,
  mimetype text,
  "fileName" text,
  bytes bigint,
  seconds bigint,
  width bigint,
  height bigint,
  voice boolean not null default false,
  "viewOnce" boolean not null default false,
  url text
);
comment on table evolution.media is 'What a message carried. The file itself is fetched from Evolution by the message''s key; its decryption key is not stored.';

create table evolution.reactions (
  source_id bigint not null references evolution.sources (id) on delete cascade,
  "whatsappMessageId" text not null,
  reactor text not null,
  emoji text not null,
  "reactedAt" timestamptz(3) not null,
  message_id bigint references evolution.messages (id) on delete cascade,
  primary key ("whatsappMessageId", source_id, reactor)
);
create index reactions_by_message on evolution.reactions (message_id);
comment on table evolution.reactions is 'The latest reaction of each person to each message.';
comment on column evolution.reactions.reactor is 'me, or the address of who reacted.';
comment on column evolution.reactions.emoji is 'Empty: taken back. The row stays, so that an older telling does not bring it back.';
comment on column evolution.reactions.message_id is 'Null while the message has not been seen.';

create table evolution.parked (
  source_id bigint not null references evolution.sources (id) on delete cascade,
  "whatsappMessageId" text not null,
  kind text not null,
  status text,
  content text,
  at timestamptz(3),
  parked_at timestamptz(3) not null default now(),
  primary key ("whatsappMessageId", source_id, kind),
  constraint kind_is_known check (kind in ('status', 'edit', 'delete'))
);
create index parked_by_time on evolution.parked (parked_at);
comment on table evolution.parked is 'Updates of messages that were not seen yet; applied when the message comes, dropped after 30 days.';

create table evolution.rejected (
  id bigint generated always as identity primary key,
  "tenantId" text not null,
  "instanceName" text not null,
  event text not null,
  reason text not null,
  item jsonb not null,
  rejected_at timestamptz(3) not null default now()
);
create index rejected_by_time on evolution.rejected (rejected_at);
comment on table evolution.rejected is 'What an Evolution server sent that could not be read or stored, and why; without binaries and keys, dropped after 30 days.';

-- Roles are the cluster's; where this one may not create them, the owner's rights are enough for the worker.
do $$
begin
  if not exists (select from pg_roles where rolname = 'recado_evolution') then
    create role recado_evolution nologin;
  end if;
exception when insufficient_privilege or duplicate_object then
  raise notice 'role recado_evolution was not created: %', sqlerrm;
end
$$;
do $$
begin
  if exists (select from pg_roles where rolname = 'recado_evolution') then
    grant usage on schema evolution to recado_evolution;
    grant select, insert, update, delete on all tables in schema evolution to recado_evolution;
  end if;
end
$$;
