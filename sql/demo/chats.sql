-- A few conversations for the sample clinics, as the Evolution worker would have written them.

insert into evolution.chats ("tenantId", "whatsappChatId", "contactName", "contactNumber", "lastMessageAt", "unreadCount") values
  ('1', '5581988881111@s.whatsapp.net', 'Maria Souza', '5581988881111', now() - interval '4 minutes', 2),
  ('1', '5581977772222@s.whatsapp.net', 'Pedro Alves', '5581977772222', now() - interval '52 minutes', 0),
  ('2', '5511966663333@s.whatsapp.net', 'Carlos Nunes', '5511966663333', now() - interval '9 minutes', 1);

insert into evolution.messages ("chatId", "tenantId", content, direction, "sentAt")
select c.id, c."tenantId", said.content, said.direction, now() - said.ago
  from (values
    ('5581988881111@s.whatsapp.net', 'Bom dia! Estou a caminho.', 'INCOMING', interval '6 minutes'),
    ('5581988881111@s.whatsapp.net', 'Chego em dez minutos.', 'INCOMING', interval '4 minutes'),
    ('5581977772222@s.whatsapp.net', 'Combinado, até já.', 'OUTGOING', interval '52 minutes'),
    ('5511966663333@s.whatsapp.net', 'Posso levar o exame antigo?', 'INCOMING', interval '9 minutes')
  ) as said (address, content, direction, ago)
  join evolution.chats as c on c."whatsappChatId" = said.address;
