select relay.publish(
  event => 'chat:merged',
  on_table => 'evolution.merges',
  operation => 'INSERT',
  account => $$new."tenantId"$$,
  payload => $$jsonb_build_object('chatId', new.chat_id, 'remoteJid', new."whatsappChatId", 'intoChatId', new.into_chat_id)$$,
  description => 'Two conversations turned out to be one person. Payload: {chatId, remoteJid, intoChatId}; drop the first, its messages are in the second.',
  payload_schema => '{"type": "object", "required": ["chatId", "remoteJid", "intoChatId"], "properties": {"chatId": {"type": "integer"}, "remoteJid": {"type": "string"}, "intoChatId": {"type": "integer"}}}'
);
