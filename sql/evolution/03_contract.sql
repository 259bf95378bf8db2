-- What the team's screens hear of WhatsApp: one call per event. The worker only writes; these triggers do the rest.
--
--   chat:new  chat:message  chat:update  chat:merged
--   message:status  message:edited  message:deleted  message:reaction
--   session:status  session:qrcode
--
-- Names and shapes of the first three are those the team's clients were written against. What is
-- inserted is captured per statement: a history is thousands of rows at once, and a row trigger each would be most
-- of its cost. (For updates the pairing of old and new rows costs more than it saves.)

select relay.publish(
  event => 'chat:new',
  on_table => 'public.chats',
  operation => 'INSERT',
  level => 'statement',
  account => $$new."tenantId"$$,
  payload => $$to_jsonb(new)$$,
  description => 'A conversation appeared. Payload: the chat.',
  payload_schema => '{"type": "object", "required": ["id", "tenantId", "whatsappChatId", "contactName", "contactNumber", "status", "lastMessageAt", "unreadCount"], "properties": {"id": {"type": "integer"}, "tenantId": {"type": "string"}, "instanceName": {"type": ["string", "null"]}, "whatsappChatId": {"type": "string"}, "contactName": {"type": "string"}, "contactNumber": {"type": "string"}, "status": {"type": "string"}, "lastMessageAt": {"type": ["string", "null"]}, "unreadCount": {"type": "integer"}, "createdAt": {"type": "string"}}}'
);

select relay.publish(
  event => 'chat:message',
  on_table => 'public.messages',
  operation => 'INSERT',
  level => 'statement',
  account => $$new."tenantId"$$,
  payload => $$jsonb_build_object('chatId', new."chatId", 'message', jsonb_build_object(
    'id', new.id, 'chatId', new."chatId", 'tenantId', new."tenantId", 'instanceName', new."instanceName",
    'whatsappMessageId', new."whatsappMessageId", 'content', new.content, 'direction', new.direction, 'status', new.status,
    'kind', new.kind, 'sentAt', new."sentAt") || new.whatsapp)$$,
  description => 'A message, from whichever side. Payload: {chatId, message}; the message has the stored columns and the Evolution message''s key, pushName and message.',
  payload_schema => '{"type": "object", "required": ["chatId", "message"], "properties": {"chatId": {"type": "integer"}, "message": {"type": "object", "required": ["id", "chatId", "whatsappMessageId", "content", "direction", "status"], "properties": {"id": {"type": "integer"}, "chatId": {"type": "integer"}, "whatsappMessageId": {"type": ["string", "null"]}, "content": {"type": "string"}, "direction": {"enum": ["INCOMING", "OUTGOING"]}, "status": {"type": "string"}, "kind": {"type": "string"}, "sentAt": {"type": "string"}, "key": {"type": "object"}, "pushName": {"type": ["string", "null"]}, "message": {"type": ["object", "null"]}}}}}'
);

-- `name` is what Evolution calls contactName, and what the seed's clients read from updates.
-- A change of lastMessageAt alone is not told: the message that caused it was.
select relay.publish(
  event => 'chat:update',
  on_table => 'public.chats',
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

select relay.publish(
  event => 'chat:merged',
  on_table => 'evolution.merges',
  operation => 'INSERT',
  account => $$new."tenantId"$$,
  payload => $$jsonb_build_object('chatId', new.chat_id, 'remoteJid', new."whatsappChatId", 'intoChatId', new.into_chat_id)$$,
  description => 'Two conversations turned out to be one person. Payload: {chatId, remoteJid, intoChatId}; drop the first, its messages are in the second.',
  payload_schema => '{"type": "object", "required": ["chatId", "remoteJid", "intoChatId"], "properties": {"chatId": {"type": "integer"}, "remoteJid": {"type": "string"}, "intoChatId": {"type": "integer"}}}'
);

select relay.publish(
  event => 'message:status',
  on_table => 'public.messages',
  operation => 'UPDATE',
  condition => $$old.status is distinct from new.status$$,
  account => $$new."tenantId"$$,
  payload => $$jsonb_build_object('chatId', new."chatId", 'messageId', new.id, 'whatsappMessageId', new."whatsappMessageId", 'status', new.status)$$,
  description => 'A message was sent, delivered, read or played. Payload: {chatId, messageId, whatsappMessageId, status}.',
  payload_schema => '{"type": "object", "required": ["chatId", "messageId", "whatsappMessageId", "status"], "properties": {"chatId": {"type": "integer"}, "messageId": {"type": "integer"}, "whatsappMessageId": {"type": ["string", "null"]}, "status": {"enum": ["PENDING", "FAILED", "SENT", "DELIVERED", "READ", "PLAYED"]}}}'
);

select relay.publish(
  event => 'message:edited',
  on_table => 'public.messages',
  operation => 'UPDATE',
  condition => $$old.content is distinct from new.content and new."deletedAt" is null$$,
  account => $$new."tenantId"$$,
  payload => $$jsonb_build_object('chatId', new."chatId", 'messageId', new.id, 'whatsappMessageId', new."whatsappMessageId", 'content', new.content, 'editedAt', new."editedAt")$$,
  description => 'The text of a message changed. Payload: {chatId, messageId, whatsappMessageId, content, editedAt}.',
  payload_schema => '{"type": "object", "required": ["chatId", "messageId", "whatsappMessageId", "content"], "properties": {"chatId": {"type": "integer"}, "messageId": {"type": "integer"}, "whatsappMessageId": {"type": ["string", "null"]}, "content": {"type": "string"}, "editedAt": {"type": ["string", "null"]}}}'
);

select relay.publish(
  event => 'message:deleted',
  on_table => 'public.messages',
  operation => 'UPDATE',
  condition => $$old."deletedAt" is null and new."deletedAt" is not null$$,
  account => $$new."tenantId"$$,
  payload => $$jsonb_build_object('chatId', new."chatId", 'messageId', new.id, 'whatsappMessageId', new."whatsappMessageId")$$,
  description => 'A message was taken back. Payload: {chatId, messageId, whatsappMessageId}.',
  payload_schema => '{"type": "object", "required": ["chatId", "messageId", "whatsappMessageId"], "properties": {"chatId": {"type": "integer"}, "messageId": {"type": "integer"}, "whatsappMessageId": {"type": ["string", "null"]}}}'
);

-- A reaction may be there before its message; it is told when both are.
select relay.publish(
  event => 'message:reaction',
  on_table => 'evolution.reactions',
  operation => 'UPDATE',
  condition => $$new.message_id is not null and (old.message_id is null and new.emoji <> '' or old.message_id is not null and old.emoji <> new.emoji)$$,
  account => $$(select m."tenantId" from public.messages as m where m.id = new.message_id)$$,
  payload => $$(select jsonb_build_object('chatId', m."chatId", 'messageId', m.id, 'whatsappMessageId', m."whatsappMessageId",
      'fromMe', new.reactor = 'me', 'reactor', new.reactor, 'reaction', new.emoji)
    from public.messages as m where m.id = new.message_id)$$,
  description => 'Someone reacted to a message, or took it back (reaction: ""). Payload: {chatId, messageId, whatsappMessageId, fromMe, reactor, reaction}.',
  payload_schema => '{"type": "object", "required": ["chatId", "messageId", "whatsappMessageId", "fromMe", "reactor", "reaction"], "properties": {"chatId": {"type": "integer"}, "messageId": {"type": "integer"}, "whatsappMessageId": {"type": ["string", "null"]}, "fromMe": {"type": "boolean"}, "reactor": {"type": "string"}, "reaction": {"type": "string"}}}'
);

select relay.publish(
  event => 'session:status',
  on_table => 'evolution.instances',
  operation => 'UPDATE',
  condition => $$new.state is not null and (old.state, old."stateReason") is distinct from (new.state, new."stateReason")$$,
  account => $$new."tenantId"$$,
  payload => $$jsonb_build_object('instance', new.name, 'name', new.name, 'status', new.state, 'state', new.state, 'statusReason', new."stateReason", 'wuid', new."ownJid", 'profileName', new."profileName")$$,
  description => 'The phone was connected or disconnected. Payload: {instance, status, statusReason, wuid, profileName}; status is connecting, open, close or refused.',
  payload_schema => '{"type": "object", "required": ["instance", "status"], "properties": {"instance": {"type": "string"}, "name": {"type": "string"}, "status": {"type": "string"}, "state": {"type": "string"}, "statusReason": {"type": ["string", "null"]}, "wuid": {"type": ["string", "null"]}, "profileName": {"type": ["string", "null"]}}}'
);

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
