-- Up Migration
--
-- An instance made anew may have as many messages as the one before it: only its id on the server tells.

alter table evolution.sources add column server_id text;
comment on column evolution.sources.server_id is 'The id that the server gave the instance. Another one: it was made anew, with a history of its own, and everything is read again.';

-- It answers with one more column.
drop function if exists evolution.claim(uuid, text, integer, interval);
