-- Erasure: blanks events in the table and in the memory of every relay.
--
--   relay.forget(account)            everything that was recorded for an account
--   relay.forget(account, payload)   the events whose payload contains this: {"id": 7}
--
-- The rows stay as a relay:resync without content, since positions refer to them, until retention removes them. The
-- event recorded here makes the relays blank their memory, and connected clients refetch.

create or replace function relay.forget(account text, payload jsonb default null) returns bigint
language plpgsql volatile security definer
set search_path = pg_catalog, pg_temp
as $$
declare
  forgotten bigint;
begin
  if forget.account is null then
    raise exception 'account: received null, expected the account whose events are to be erased'
      using errcode = 'null_value_not_allowed';
  end if;
  update relay.events as e set event = 'relay:resync', payload = jsonb_build_object('reason', 'forgotten'), audience = null
   where e.account_id = forget.account and e.event <> 'relay:revoke'
     and (forget.payload is null or e.payload @> forget.payload or e.payload -> 'error' is not null)
     and e.payload is distinct from jsonb_build_object('reason', 'forgotten');
  get diagnostics forgotten = row_count;
  insert into relay.events (account_id, event, payload)
  values (forget.account, 'relay:resync', jsonb_build_object('reason', 'forgotten'));
  return forgotten;
end
$$;
comment on function relay.forget(text, jsonb) is 'Blanks the events of an account, or those whose payload contains the given one, in the table and in the memory of every relay; clients of the account refetch. Returns how many rows were blanked. Backups and write-ahead logs still contain the events.';
