-- Up Migration
--
-- An event may be for several accounts.

alter table relay.catalogue add column several_accounts boolean not null default false;
comment on column relay.catalogue.several_accounts is 'account gives an array: an event for each account in it. relay.publish() sees that for itself.';
