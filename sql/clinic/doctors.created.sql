select relay.publish(
  event => 'doctors.created',
  on_table => 'public.doctors',
  operation => 'INSERT',
  condition => $$new."deletedAt" is null$$,
  account => $$new."accountId"$$,
  payload => $$to_jsonb(new) || jsonb_build_object('createdAt', relay.iso(new."createdAt"), 'updatedAt', relay.iso(new."updatedAt"), 'deletedAt', null)$$,
  description => 'A doctor came onto the account''s list: new, restored, or from another account. Payload: the doctor.',
  payload_schema => '{
    "type": "object",
    "required": ["id", "accountId", "name", "isBusy", "createdAt", "updatedAt", "deletedAt"],
    "properties": {
      "id": {"type": "integer"},
      "accountId": {"type": "integer"},
      "name": {"type": "string"},
      "isBusy": {"type": "boolean"},
      "createdAt": {"type": "string", "format": "date-time"},
      "updatedAt": {"type": "string", "format": "date-time"},
      "deletedAt": {"type": "null"}
    }
  }'
);

select relay.publish(
  event => 'doctors.created',
  on_table => 'public.doctors',
  operation => 'UPDATE',
  condition => $$new."deletedAt" is null and (old."deletedAt" is not null or new."accountId" is distinct from old."accountId")$$,
  account => $$new."accountId"$$,
  payload => $$to_jsonb(new) || jsonb_build_object('createdAt', relay.iso(new."createdAt"), 'updatedAt', relay.iso(new."updatedAt"), 'deletedAt', null)$$
);
