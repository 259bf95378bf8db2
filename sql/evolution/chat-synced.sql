-- Counted when it is captured: the history is complete then.
select relay.publish(
  event => 'chat:synced',
  on_table => 'evolution.sources',
  operation => 'UPDATE',
  condition => $$old.synced_at is null and new.synced_at is not null$$,
  account => $$new."tenantId"$$,
  payload => $$jsonb_build_object('instanceName', new.name,
    'chats', (select count(*) from evolution.chats as c where c."tenantId" = new."tenantId" and c."instanceName" = new.name),
    'messages', (select count(*) from evolution.messages as m where m."tenantId" = new."tenantId" and m."instanceName" = new.name))$$,
  description => 'The history of an instance has been read for the first time: load its chats. Payload: {instanceName, chats, messages}, with the counts.',
  payload_schema => '{"type": "object", "required": ["instanceName", "chats", "messages"], "properties": {"instanceName": {"type": "string"}, "chats": {"type": "integer"}, "messages": {"type": "integer"}}}'
);
