-- Up Migration
--
-- The trace that a writer's session belongs to, in the words of the W3C: set relay.traceparent = '00-...'. A default, so
-- that every way to write an event has it. No row is rewritten: the default of those that are there is null.

alter table relay.events
  add column traceparent text default nullif(left(current_setting('relay.traceparent', true), 55), '');
comment on column relay.events.traceparent is 'Trace context of the session that wrote the event, from its setting relay.traceparent; null: none.';
