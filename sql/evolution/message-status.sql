select relay.publish(
  event => 'message:status',
  on_table => 'evolution.messages',
  operation => 'UPDATE',
  condition => $$old.status is distinct from new.status$$,
  account => $$new."tenantId"$$,
  payload => $$jsonb_build_object('chatId', new."chatId", 'messageId', new.id, 'whatsappMessageId', new."whatsappMessageId", 'status', new.status)$$,
  description => 'A message was sent, delivered, read or played. Payload: {chatId, messageId, whatsappMessageId, status}.',
  payload_schema => '{"type": "object", "required": ["chatId", "messageId", "whatsappMessageId", "status"], "properties": {"chatId": {"type": "integer"}, "messageId": {"type": "integer"}, "whatsappMessageId": {"type": ["string", "null"]}, "status": {"enum": ["PENDING", "FAILED", "SENT", "DELIVERED", "READ", "PLAYED"]}}}'
);
