select relay.publish(
  event => 'session:qrcode',
  on_table => 'evolution.instances',
  operation => 'UPDATE',
  condition => $$new."qrCode" is not null and old."qrCode" is distinct from new."qrCode"$$,
  account => $$new."tenantId"$$,
  payload => $$jsonb_build_object('instance', new.name, 'name', new.name, 'code', new."qrCode", 'qrcode', new."qrCode", 'pairingCode', new."pairingCode")$$,
  description => 'A code to scan with the phone. Payload: {instance, code, pairingCode}; draw the code, the picture is not sent.',
  payload_schema => '{"type": "object", "required": ["instance", "code"], "properties": {"instance": {"type": "string"}, "name": {"type": "string"}, "code": {"type": "string"}, "qrcode": {"type": "string"}, "pairingCode": {"type": ["string", "null"]}}}'
);
