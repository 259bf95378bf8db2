select relay.publish(
  event => 'chat:new',
  on_table => 'evolution.chats',
  operation => 'INSERT',
  level => 'statement',
  account => $$new."tenantId"$$,
  payload => $$to_jsonb(new)$$,
  description => 'A conversation appeared. Payload: the chat.',
  payload_schema => '{"type": "object", "required": ["id", "tenantId", "whatsappChatId", "contactName", "contactNumber", "status", "lastMessageAt", "unreadCount"], "properties": {"id": {"type": "integer"}, "tenantId": {"type": "string"}, "instanceName": {"type": ["string", "null"]}, "whatsappChatId": {"type": "string"}, "contactName": {"type": "string"}, "contactNumber": {"type": "string"}, "status": {"type": "string"}, "lastMessageAt": {"type": ["string", "null"]}, "unreadCount": {"type": "integer"}, "createdAt": {"type": "string"}}}'
);
