select relay.publish(
  event => 'chat:message',
  on_table => 'evolution.messages',
  operation => 'INSERT',
  level => 'statement',
  condition => $$coalesce(current_setting('evolution.first_reading', true), '') <> 'on' or new.live$$,
  account => $$new."tenantId"$$,
  payload => $$jsonb_build_object('chatId', new."chatId", 'message', jsonb_build_object(
    'id', new.id, 'chatId', new."chatId", 'tenantId', new."tenantId", 'instanceName', new."instanceName",
    'whatsappMessageId', new."whatsappMessageId", 'content', new.content, 'direction', new.direction, 'status', new.status,
    'kind', new.kind, 'sentAt', new."sentAt", 'live', new.live) || new.whatsapp)$$,
  description => 'A message, from whichever side. Payload: {chatId, message}; the message has the stored columns and the Evolution message''s key, pushName and message. live is false for history. The history of a new instance is not told message by message: see chat:synced.',
  payload_schema => '{"type": "object", "required": ["chatId", "message"], "properties": {"chatId": {"type": "integer"}, "message": {"type": "object", "required": ["id", "chatId", "whatsappMessageId", "content", "direction", "status"], "properties": {"id": {"type": "integer"}, "chatId": {"type": "integer"}, "whatsappMessageId": {"type": ["string", "null"]}, "content": {"type": "string"}, "direction": {"enum": ["INCOMING", "OUTGOING"]}, "status": {"type": "string"}, "kind": {"type": "string"}, "sentAt": {"type": "string"}, "live": {"type": "boolean"}, "key": {"type": "object"}, "pushName": {"type": ["string", "null"]}, "message": {"type": ["object", "null"]}}}}}'
);
