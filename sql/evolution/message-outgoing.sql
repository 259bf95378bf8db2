-- The steps of a reply until it is a message. Later ones are message:status.
select relay.publish(
  event => 'message:outgoing',
  on_table => 'evolution.outgoing',
  operation => 'UPDATE',
  condition => $$old."whatsappMessageId" is null and old.status is distinct from new.status$$,
  account => $$new."tenantId"$$,
  payload => $$jsonb_build_object('id', new.id, 'chatId', new."chatId", 'whatsappChatId', new."whatsappChatId", 'status', new.status,
    'reasonCode', new."reasonCode", 'reason', new.reason, 'whatsappMessageId', new."whatsappMessageId", 'sentBy', new."sentBy")$$,
  description => 'A message that the team sends went on, or was refused. Payload: {id, chatId, whatsappChatId, status, reasonCode, reason, whatsappMessageId, sentBy}; id is that of evolution.outgoing.',
  payload_schema => '{"type": "object", "required": ["id", "status"], "properties": {"id": {"type": "integer"}, "chatId": {"type": ["integer", "null"]}, "whatsappChatId": {"type": ["string", "null"]}, "status": {"enum": ["QUEUED", "SENDING", "PENDING", "SENT", "FAILED", "DELIVERED", "READ", "PLAYED"]}, "reasonCode": {"type": ["string", "null"]}, "reason": {"type": ["string", "null"]}, "whatsappMessageId": {"type": ["string", "null"]}, "sentBy": {"type": ["string", "null"]}}}'
);
