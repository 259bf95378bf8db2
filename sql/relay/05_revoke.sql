-- Refusing tokens before they expire.
--
--   relay.revoke(account, subject, token_id, before)
--
-- The row in relay.revocations is the truth; the relay:revoke event makes every relay read it again, in its place
-- among the other events, and close the sockets concerned.

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
