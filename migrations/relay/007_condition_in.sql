-- Up Migration
--
-- Where an event's condition is evaluated.

alter table relay.catalogue add column if not exists condition_in text;
comment on column relay.catalogue.condition_in is 'trigger: in its WHEN, where an error fails the write; null: in its function.';
