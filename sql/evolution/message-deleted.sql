select relay.publish(
  event => 'message:deleted',
  on_table => 'evolution.messages',
  operation => 'UPDATE',
  condition => $$old."deletedAt" is null and new."deletedAt" is not null$$,
  account => $$new."tenantId"$$,
  payload => $$jsonb_build_object('chatId', new."chatId", 'messageId', new.id, 'whatsappMessageId', new."whatsappMessageId")$$,
  description => 'A message was taken back. Payload: {chatId, messageId, whatsappMessageId}.',
  payload_schema => '{"type": "object", "required": ["chatId", "messageId", "whatsappMessageId"], "properties": {"chatId": {"type": "integer"}, "messageId": {"type": "integer"}, "whatsappMessageId": {"type": ["string", "null"]}}}'
);
