-- A change of isBusy has an event of its own. A change of updatedAt alone is none: ORMs set it with every write.
select relay.publish(
  event => 'doctors.updated',
  on_table => 'public.doctors',
  operation => 'UPDATE',
  condition => $$old."deletedAt" is null and new."deletedAt" is null and new."accountId" is not distinct from old."accountId"
    and to_jsonb(new) - '{isBusy,updatedAt}'::text[] is distinct from to_jsonb(old) - '{isBusy,updatedAt}'::text[]$$,
  account => $$new."accountId"$$,
  payload => $$to_jsonb(new) || jsonb_build_object('createdAt', relay.iso(new."createdAt"), 'updatedAt', relay.iso(new."updatedAt"), 'deletedAt', null)$$,
  description => 'A doctor on the account''s list changed in something else than being busy. Payload: the doctor.',
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
