-- Up Migration
--
-- What is installed beside the relay itself, so that a later migration upgrades it without being told again.

create table if not exists relay.packs (
  pack text primary key,
  makes_tables boolean not null,
  installed_at timestamptz not null default now(),
  constraint pack_is_known check (pack in ('clinic', 'whatsapp'))
);
comment on table relay.packs is 'Packs that are installed here: recado migrate --clinic, --whatsapp.';
comment on column relay.packs.makes_tables is 'false: the application has its own clinic tables, and the pack only publishes events on them.';
