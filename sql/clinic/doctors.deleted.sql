select relay.publish(
  event => 'doctors.deleted',
  on_table => 'public.doctors',
  operation => 'UPDATE',
  condition => $$old."deletedAt" is null and (new."deletedAt" is not null or new."accountId" is distinct from old."accountId")$$,
  account => $$old."accountId"$$,
  payload => $$to_jsonb(old.id)$$,
  description => 'A doctor left the account''s list: soft-deleted, deleted, or moved to another account. Payload: the id.',
  payload_schema => '{"type": "integer"}'
);

select relay.publish(
  event => 'doctors.deleted',
  on_table => 'public.doctors',
  operation => 'DELETE',
  condition => $$old."deletedAt" is null$$,
  account => $$old."accountId"$$,
  payload => $$to_jsonb(old.id)$$
);

-- TRUNCATE names no rows, so every account is told to refetch.
select relay.publish(event => 'doctors.deleted', on_table => 'public.doctors', operation => 'TRUNCATE');
