select relay.publish(
  event => 'doctors.busy',
  on_table => 'public.doctors',
  operation => 'UPDATE',
  condition => $$old."deletedAt" is null and new."deletedAt" is null and new."accountId" is not distinct from old."accountId"
    and new."isBusy" is distinct from old."isBusy"$$,
  account => $$new."accountId"$$,
  payload => $$jsonb_build_object('id', new.id, 'isBusy', new."isBusy")$$,
  description => 'A doctor became busy or free. Payload: {id, isBusy}.',
  payload_schema => '{"type": "object", "required": ["id", "isBusy"], "properties": {"id": {"type": "integer"}, "isBusy": {"type": "boolean"}}}'
);
