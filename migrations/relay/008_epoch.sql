-- Up Migration
--
-- The epoch is written, not computed: two standbys of one primary, promoted one after the other, compute the same.
-- A position carries a few digits of a time, by which a history that was undone is told from the one that took its
-- transaction ids.

alter table relay.installation add column fingerprint text;
alter table relay.installation add column emptied_witness text;
comment on column relay.installation.epoch is 'Random. Positions of another epoch are not honoured.';
comment on column relay.installation.fingerprint is 'What told this database from others when the epoch was written: where it is otherwise now, the database was restored, copied or failed over, and gets a new epoch.';
comment on column relay.installation.emptied_witness is 'Digits of the time of the last event of the transaction emptied_through; see relay.witness().';
comment on column relay.installation.id is 'Made at the installation; part of the fingerprint.';

-- The last event of a transaction is found without reading the others, of which there may be a million.
drop index relay.events_by_xid;
create index events_by_xid on relay.events (xid, id);
drop index relay.events_by_account;
create index events_by_account on relay.events (account_id, xid, id);

-- They take other arguments, or have another meaning.
drop function if exists relay.position_text(text, bigint, bigint[]);
drop function if exists relay.new_epoch();
