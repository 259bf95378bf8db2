-- Revokes tokens before they expire, or single topics of them.
--
--   relay.revoke(account, subject, token_id, before)         refuses tokens
--   relay.revoke_topic(account, topic, subject, before)      takes a topic away from tokens, which stay valid
--
-- The row in relay.revocations is the source of truth. The relay:revoke event, which has no payload, makes every relay
-- read the account's rows again, in order with the other events, and close the affected sockets or change their topics.
-- A row with a topic applies to tokens of the account, and of the subject if there is one, with an iat before `before`.
-- iat counts whole seconds, so a token from the same second loses the topic too.

create or replace function relay.revoke(
  account text,
  subject text default null,
  token_id text default null,
  before timestamptz default clock_timestamp()
) returns void
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  if revoke.account is null then
    raise exception 'account: received null, expected the account whose tokens are to be refused'
      using errcode = 'null_value_not_allowed';
  end if;
  insert into relay.revocations (account_id, subject, token_id, before)
  values (revoke.account, revoke.subject, revoke.token_id, revoke.before);
  insert into relay.events (account_id, event) values (revoke.account, 'relay:revoke');
end
$$;
comment on function relay.revoke(text, text, text, timestamptz) is 'Refuses the tokens of an account (of one subject or token id, if given) that were issued before `before`, and closes their sockets. A token''s iat counts whole seconds: a token from the same second stays valid, unless its token id is given. A token without iat counts as older than any other.';

create or replace function relay.revoke_topic(
  account text,
  topic text,
  subject text default null,
  before timestamptz default clock_timestamp()
) returns void
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
begin
  if revoke_topic.account is null then
    raise exception 'account: received null, expected the account whose tokens are to lose the topic'
      using errcode = 'null_value_not_allowed';
  end if;
  if revoke_topic.topic is null or revoke_topic.topic in ('', '*') or octet_length(revoke_topic.topic) > 128 then
    raise exception 'topic: received %, expected the name of a topic, of at most 128 bytes', coalesce(quote_literal(left(revoke_topic.topic, 140)), 'null')
      using errcode = 'invalid_parameter_value', hint = 'relay.revoke() refuses the tokens themselves.';
  end if;
  insert into relay.revocations (account_id, subject, topic, before)
  values (revoke_topic.account, revoke_topic.subject, revoke_topic.topic, coalesce(revoke_topic.before, clock_timestamp()));
  insert into relay.events (account_id, event) values (revoke_topic.account, 'relay:revoke');
end
$$;
comment on function relay.revoke_topic(text, text, text, timestamptz) is 'Takes a topic away from the tokens of an account (of one subject, if given) that were issued before `before`. The tokens stay valid, and connected clients refetch. A later token that names the topic has it again. A token''s iat counts whole seconds: a token from the same second loses the topic too. A token without iat counts as older than any other.';
