// What the database does with facts beyond the captured conversations.

import type { Instance } from '../../../evolution/ingest/instance.ts';
import { createStore, type Unit } from '../../../evolution/ingest/store.ts';
import { Facts, type MessageFact } from '../../../evolution/payloads/facts.ts';
import { addInstance, eventsOf, startWorld, stateOf, type World } from '../world.ts';

let world: World;
beforeAll(async () => {
  world = await startWorld();
});
afterAll(() => world.close());

const store = () =>
  createStore(world.pool, { id: '00000000-0000-0000-0000-000000000001', host: 'test', pid: 1 });
const JID = '5531933330000@s.whatsapp.net';

function said(id: string, fields: Partial<MessageFact> = {}): Unit {
  const facts = new Facts();
  facts.addresses.set(JID, JID);
  const sentAt = 1_790_000_000_000 + Number(id.slice(1)) * 1_000;
  facts.message({
    chat: JID,
    id,
    fromMe: false,
    kind: 'text',
    content: id,
    status: 'DELIVERED',
    sentAt,
    live: true,
    whatsapp: { key: { id } },
    media: null,
    ...fields,
  });
  return { event: 'messages.upsert', facts };
}

async function unread(instance: Instance): Promise<number> {
  return (await stateOf(world, instance.tenantId))[0]!.unreadCount;
}

test('one that the database refuses is set aside, the others of its batch are written', async () => {
  const instance = await addInstance(world);
  const units = Array.from({ length: 50 }, (_, i) =>
    said(`M${i}`, i === 17 ? { status: 'NONSENSE' as never } : {}),
  );
  const { messages } = await store().ingest(instance, units);
  expect(messages).toBe(49);
  const rejected = await world.rows<{ event: string; reason: string }>(
    'select event, reason from evolution.rejected where "instanceName" = $1',
    [instance.name],
  );
  expect(rejected).toEqual([
    { event: 'messages.upsert', reason: expect.stringMatching(/^the database refused it: .*status/) },
  ]);
});

test('unread: counted after the last answer; an application that sets it to 0 has read the chat, replays included', async () => {
  const instance = await addInstance(world);
  await store().ingest(instance, [said('M1'), said('M2'), said('M3')]);
  expect(await unread(instance)).toBe(3);
  await world.rows('update evolution.chats set "unreadCount" = 0 where "tenantId" = $1', [instance.tenantId]);
  await store().ingest(instance, [said('M1'), said('M2'), said('M3')]);
  expect(await unread(instance)).toBe(0);
  await store().ingest(instance, [said('M4')]);
  expect(await unread(instance)).toBe(1);
  await store().ingest(instance, [said('M6', { fromMe: true })]);
  expect(await unread(instance)).toBe(0);
  // Late, but written before the answer.
  await store().ingest(instance, [said('M5')]);
  expect(await unread(instance)).toBe(0);
});

test("the application's own chat, its message and its name for the contact are kept", async () => {
  const instance = await addInstance(world);
  await world.rows(
    `insert into evolution.chats ("tenantId", "whatsappChatId", "contactName") values ($1, $2, 'Ana (VIP)')`,
    [instance.tenantId, JID],
  );
  await world.rows(
    `insert into evolution.messages ("chatId", "tenantId", "whatsappMessageId", content, direction, status)
     select id, "tenantId", 'M9', 'nosso', 'OUTGOING', 'PENDING' from evolution.chats where "tenantId" = $1`,
    [instance.tenantId],
  );
  const named = said('M1');
  named.facts.name(JID, 'Ana', 1_790_000_001_000);
  await store().ingest(instance, [named, said('M9', { fromMe: true, content: 'nosso', status: 'SENT' })]);
  const chats = await stateOf(world, instance.tenantId);
  expect(chats).toMatchObject([
    { contactName: 'Ana (VIP)', messages: [{ id: 'M1' }, { id: 'M9', status: 'SENT' }] },
  ]);
});

test('a LID and a number found to be one person: one chat, and the screens are told', async () => {
  const instance = await addInstance(world);
  const byLid = said('M1', { chat: '7@lid' });
  byLid.facts.addresses.set('7@lid', '7@lid');
  await store().ingest(instance, [byLid]);
  await store().ingest(instance, [said('M2')]);
  expect(await stateOf(world, instance.tenantId)).toHaveLength(2);
  const pair = new Facts();
  pair.addresses.set('7@lid', '7@lid').set(JID, JID);
  pair.pairs.set('7@lid', JID);
  await store().ingest(instance, [{ event: 'chats.set', facts: pair }]);
  expect(await stateOf(world, instance.tenantId)).toMatchObject([
    { whatsappChatId: JID, unreadCount: 2, messages: [{ id: 'M1' }, { id: 'M2' }] },
  ]);
  const events = await eventsOf(world, instance.tenantId);
  expect(events.filter((e) => e.event === 'chat:merged')).toMatchObject([{ payload: { remoteJid: JID } }]);
  expect(events.filter((e) => e.event === 'chat:update').at(-1)).toMatchObject({
    payload: { remoteJid: '7@lid', updates: { whatsappChatId: JID } },
  });
});

test('nobody but the owner and the worker reads the keys', async () => {
  const grants = await world.rows(
    `select distinct grantee from information_schema.column_privileges
      where table_schema = 'evolution' and table_name = 'instances' and column_name = 'apiKey' and privilege_type = 'SELECT'
        and grantee <> (select tableowner from pg_tables where schemaname = 'evolution' and tablename = 'instances')`,
  );
  expect(grants).toEqual([{ grantee: 'recado_evolution' }]);
});

test('a message that the Cloud API says failed, after it said sent, has failed; one that was delivered has not', async () => {
  const instance = await addInstance(world);
  const updates = (...words: string[]): Unit[] =>
    words.map((status) => {
      const facts = new Facts();
      facts.changes.push({ id: 'M1', kind: 'status', status: status as 'SENT' });
      return { event: 'messages.update', facts };
    });
  const status = async () =>
    (await world.rows('select status from evolution.messages where "instanceName" = $1', [instance.name]))[0];
  await store().ingest(instance, [said('M1', { fromMe: true, status: 'PENDING' })]);
  for (const unit of updates('SENT', 'FAILED', 'SENT')) await store().ingest(instance, [unit]);
  expect(await status()).toEqual({ status: 'FAILED' });
  for (const unit of updates('DELIVERED', 'FAILED')) await store().ingest(instance, [unit]);
  expect(await status()).toEqual({ status: 'DELIVERED' });
});
