-- Up Migration
--
-- What relays skip while another program has a slot locked must outlive the relay: its clients come back to another one
-- with positions beyond the skipped events.

create table relay.left_out (
  id bigint generated always as identity primary key,
  slot int not null check (slot between 0 and 7),
  seen pg_snapshot not null,
  since timestamptz not null default clock_timestamp()
);
comment on table relay.left_out is 'Slots that a relay reads past because another program has them locked. Once the slot is free, that relay, or another one if it is gone, searches it for events that were skipped; if there are any, all clients refetch.';
comment on column relay.left_out.seen is 'What the relay had seen of the slot.';
