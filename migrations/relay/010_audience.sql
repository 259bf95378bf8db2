-- Up Migration
--
-- Who hears an event, inside its account. Nothing is rewritten: a column without a default is a change of the catalogs.

alter table relay.events add column audience text[];
comment on column relay.events.audience is 'Topics of those who hear the event: whoever holds one of them. Null: everybody of the account.';
