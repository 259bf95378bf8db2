-- `name` is Evolution's word for contactName, and what the team's clients read from updates.
-- A change of lastMessageAt alone is no event: the message that caused it is one.
select relay.publish(
  event => 'chat:update',
  on_table => 'evolution.chats',
  operation => 'UPDATE',
  condition => $$(old."whatsappChatId", old."contactName", old."contactNumber", old.status, old."unreadCount")
    is distinct from (new."whatsappChatId", new."contactName", new."contactNumber", new.status, new."unreadCount")$$,
  account => $$new."tenantId"$$,
  payload => $$jsonb_build_object('remoteJid', old."whatsappChatId", 'chatId', new.id, 'updates', jsonb_strip_nulls(jsonb_build_object(
    'name', case when old."contactName" <> new."contactName" then new."contactName" end,
    'contactName', case when old."contactName" <> new."contactName" then new."contactName" end,
    'contactNumber', case when old."contactNumber" <> new."contactNumber" then new."contactNumber" end,
    'whatsappChatId', case when old."whatsappChatId" <> new."whatsappChatId" then new."whatsappChatId" end,
    'unreadCount', case when old."unreadCount" <> new."unreadCount" then new."unreadCount" end,
    'lastMessageAt', case when old."lastMessageAt" is distinct from new."lastMessageAt" then new."lastMessageAt" end,
    'status', case when old.status <> new.status then new.status end)))$$,
  description => 'Something of a chat changed. Payload: {remoteJid, chatId, updates}; remoteJid is the address the client knows, updates has only what changed.',
  payload_schema => '{"type": "object", "required": ["remoteJid", "updates"], "properties": {"remoteJid": {"type": "string"}, "chatId": {"type": "integer"}, "updates": {"type": "object", "properties": {"name": {"type": "string"}, "contactName": {"type": "string"}, "contactNumber": {"type": "string"}, "unreadCount": {"type": "integer"}, "lastMessageAt": {"type": "string"}, "status": {"type": "string"}, "whatsappChatId": {"type": "string"}}}}}'
);
