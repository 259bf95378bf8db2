select relay.publish(
  event => 'session:status',
  on_table => 'evolution.instances',
  operation => 'UPDATE',
  condition => $$new.state is not null and (old.state, old."stateReason") is distinct from (new.state, new."stateReason")$$,
  account => $$new."tenantId"$$,
  payload => $$jsonb_build_object('instance', new.name, 'name', new.name, 'status', new.state, 'state', new.state, 'statusReason', new."stateReason", 'wuid', new."ownJid", 'profileName', new."profileName")$$,
  description => 'The phone was connected or disconnected. Payload: {instance, status, statusReason, wuid, profileName}; status is connecting, open, close or refused.',
  payload_schema => '{"type": "object", "required": ["instance", "status"], "properties": {"instance": {"type": "string"}, "name": {"type": "string"}, "status": {"type": "string"}, "state": {"type": "string"}, "statusReason": {"type": ["string", "null"]}, "wuid": {"type": ["string", "null"]}, "profileName": {"type": ["string", "null"]}}}'
);
