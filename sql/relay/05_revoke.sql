-- Refusing tokens before they expire, or what they may hear.
--
--   relay.revoke(account, subject, token_id, before)         refuses tokens
--   relay.revoke_topic(account, topic, subject, before)      takes a topic away from tokens that stay good
--
-- The row in relay.revocations is the truth; the relay:revoke event, which has no payload, makes every relay read the
-- account's rows again, in its place among the other events, and close the sockets concerned or tell them of their
-- topics. A row with a topic concerns tokens of the account, of the subject where there is one, with an iat before
-- `before`: iat counts whole seconds, and a token of the same second loses the topic, too.

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
    raise exception 'account: received null, expected the account whose tokens shall be refused'
      using errcode = 'null_value_not_allowed';
  end if;
  insert into relay.revocations (account_id, subject, token_id, before)
  values (revoke.account, revoke.subject, revoke.token_id, revoke.before);
  insert into relay.events (account_id, event) values (revoke.account, 'relay:revoke');
end
$$;
comment on function relay.revoke(text, text, text, timestamptz) is 'Refuses the tokens of an account (of one subject, or one token id, where given) that were issued before `before`, and closes their sockets. A token''s iat counts whole seconds: one of the same second stays good, unless its token id is given. A token without iat counts as issued before everything.';

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
    raise exception 'account: received null, expected the account whose tokens shall lose the topic'
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
comment on function relay.revoke_topic(text, text, text, timestamptz) is 'Takes a topic away from the tokens of an account (of one subject, where given) that were issued before `before`; they stay good, and clients that are connected refetch. A later token that names the topic has it again. A token''s iat counts whole seconds: one of the same second loses the topic, too. A token without iat counts as issued before everything.';
