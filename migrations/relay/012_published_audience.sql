-- Up Migration
--
-- Who hears an event is part of what is published.

alter table relay.catalogue add column audience text;
comment on column relay.catalogue.audience is 'Topics of those who hear the event, as SQL over the row; null: everybody of the account.';
