-- A reaction may come before its message. The event follows when both are stored.
select relay.publish(
  event => 'message:reaction',
  on_table => 'evolution.reactions',
  operation => 'UPDATE',
  condition => $$new.message_id is not null and (old.message_id is null and new.emoji <> '' or old.message_id is not null and old.emoji <> new.emoji)$$,
  account => $$(select m."tenantId" from evolution.messages as m where m.id = new.message_id)$$,
  payload => $$(select jsonb_build_object('chatId', m."chatId", 'messageId', m.id, 'whatsappMessageId', m."whatsappMessageId",
      'fromMe', new.reactor = 'me', 'reactor', new.reactor, 'reaction', new.emoji)
    from evolution.messages as m where m.id = new.message_id)$$,
  description => 'Someone reacted to a message, or took it back (reaction: ""). Payload: {chatId, messageId, whatsappMessageId, fromMe, reactor, reaction}.',
  payload_schema => '{"type": "object", "required": ["chatId", "messageId", "whatsappMessageId", "fromMe", "reactor", "reaction"], "properties": {"chatId": {"type": "integer"}, "messageId": {"type": "integer"}, "whatsappMessageId": {"type": ["string", "null"]}, "fromMe": {"type": "boolean"}, "reactor": {"type": "string"}, "reaction": {"type": "string"}}}'
);
