// Names and unread messages as the worker reads them over REST.
import { addFake, connect, contents, insert, server, until, world } from './one-worker.ts';

test('the code of an instance made before its row, and the name of its profile, are read over REST', async () => {
  const evolution = await server();
  const fake = addFake(evolution);
  Object.assign(fake, { state: 'connecting', qrCode: '2@first', profileName: 'Clínica Aurora' });
  await insert(fake, evolution.url);
  await until(() => fake.subscribed, Boolean);
  // The first event makes the namespace and is lost.
  fake.emit('presence.update', {});
  const row = await until(
    async () =>
      (
        await world.rows<{ qrCode: string | null; profileName: string | null }>(
          'select "qrCode", "profileName" from evolution.instances where name = $1',
          [fake.name],
        )
      )[0]!,
    (seen) => seen.qrCode !== null,
  );
  expect(row).toEqual({ qrCode: '2@first', profileName: 'Clínica Aurora' });
});

test('names that only the address book or the groups know are read over REST', async () => {
  const evolution = await server();
  const fake = addFake(evolution);
  const [person, group] = ['5511999990001@s.whatsapp.net', '120363000000000009@g.us'];
  fake.message({ text: 'oi', jid: person }, true);
  fake.message(
    { text: 'oi', jid: group, key: { id: 'G', remoteJid: group, fromMe: false, participant: person } },
    true,
  );
  fake.contacts.push(
    { remoteJid: person, pushName: 'Ana' },
    { remoteJid: group, pushName: 'Bia, who wrote last' },
  );
  fake.groups.push({ id: group, subject: 'Recepção' });
  await insert(fake, evolution.url);
  await until(
    async () =>
      (
        await world.rows<{ contactName: string }>(
          'select "contactName" from evolution.chats where "instanceName" = $1 order by 1',
          [fake.name],
        )
      ).map(({ contactName }) => contactName),
    (names) => names.join() === 'Ana,Recepção',
  );
});

test('what comes in within the second of our answer is unread', async () => {
  const evolution = await server();
  const fake = await connect(evolution);
  const now = Math.floor(Date.now() / 1_000);
  const jid = '5511999990000@s.whatsapp.net';
  fake.message({
    text: 'resposta',
    jid,
    messageTimestamp: now,
    key: { id: 'A', remoteJid: jid, fromMe: true },
  });
  fake.message({ text: 'e agora?', jid, messageTimestamp: now });
  await until(
    () =>
      world.rows('select 1 from evolution.chats where "instanceName" = $1 and "unreadCount" = 1', [
        fake.name,
      ]),
    (rows) => rows.length === 1,
  );
});

test('the name in the address book wins over what somebody calls himself', async () => {
  const evolution = await server();
  const fake = await connect(evolution);
  const jid = '5511999990007@s.whatsapp.net';
  fake.message({ text: 'oi', jid, pushName: 'aninha ✨' });
  const name = () =>
    world.rows<{ contactName: string }>(
      'select "contactName" from evolution.chats where "whatsappChatId" = $1 and "instanceName" = $2',
      [jid, fake.name],
    );
  await until(name, (rows) => rows[0]?.contactName === 'aninha ✨');
  fake.emit('contacts.upsert', [{ remoteJid: jid, pushName: 'Ana Souza' }]);
  await until(name, (rows) => rows[0]?.contactName === 'Ana Souza');
  fake.message({ text: 'tudo bem?', jid, pushName: 'aninha' });
  await until(
    () => contents(fake),
    (c) => c.length === 2,
  );
  expect((await name())[0]?.contactName).toBe('Ana Souza');
});
