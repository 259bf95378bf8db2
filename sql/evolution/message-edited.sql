select relay.publish(
  event => 'message:edited',
  on_table => 'evolution.messages',
  operation => 'UPDATE',
  condition => $$old.content is distinct from new.content and new."deletedAt" is null$$,
  account => $$new."tenantId"$$,
  payload => $$jsonb_build_object('chatId', new."chatId", 'messageId', new.id, 'whatsappMessageId', new."whatsappMessageId", 'content', new.content, 'editedAt', new."editedAt")$$,
  description => 'The text of a message changed. Payload: {chatId, messageId, whatsappMessageId, content, editedAt}.',
  payload_schema => '{"type": "object", "required": ["chatId", "messageId", "whatsappMessageId", "content"], "properties": {"chatId": {"type": "integer"}, "messageId": {"type": "integer"}, "whatsappMessageId": {"type": ["string", "null"]}, "content": {"type": "string"}, "editedAt": {"type": ["string", "null"]}}}'
);
