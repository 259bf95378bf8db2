// Replies: rows of evolution.outgoing are sent once as far as the server allows, and say what became of them.

import type { FakeInstance } from '../../../evolution/demo/instance.ts';
import { type EvolutionServer, startEvolutionServer } from '../../../evolution/demo/server.ts';
import type { Pace } from '../../../evolution/pace.ts';
import { type EvolutionWorker, startEvolutionWorker } from '../../../evolution/worker.ts';
import { hearing } from '../../hearing.ts';
import { until } from '../../world.ts';
import { eventsOf, startWorld, type World } from '../world.ts';

const pace: Partial<Pace> = { retryMs: 20, slowestMs: 200, namespaceMs: 20, unsureMs: 300, requestMs: 5_000 };
const JID = '5511999990000@s.whatsapp.net';

let world: World;
let worker: EvolutionWorker;
let evolution: EvolutionServer;
let fake: FakeInstance;
let count = 0;

beforeAll(async () => {
  world = await startWorld();
  evolution = await startEvolutionServer();
  const log = hearing(() => undefined);
  worker = await startEvolutionWorker({ pool: world.pool, connectionString: world.url, log, pace });
});
afterAll(async () => {
  await worker.close();
  await evolution.close();
  await world.close();
});
beforeEach(async () => {
  fake = evolution.add(`reply-${++count}`);
  await world.rows(
    `insert into evolution.instances (name, "tenantId", host, "apiKey", "maySend", "mayMarkRead", "sendsPerMinute")
     values ($1, $2, $3, $4, true, true, 600)`,
    [fake.name, tenant(), evolution.url, fake.token],
  );
  await until('the worker subscribed', () => fake.subscribed);
  fake.emit('connection.update', { instance: fake.name, state: 'open' });
  fake.message({ text: 'posso remarcar?', jid: JID, pushName: 'Ana' });
  await until(
    'the message is there',
    async () =>
      (await world.rows('select from evolution.messages where "instanceName" = $1', [fake.name])).length ===
      1,
  );
});

const tenant = () => `t-${fake.name}`;
const chats = () =>
  world.rows<{ id: string; unreadCount: number }>(
    'select id, "unreadCount" from evolution.chats where "instanceName" = $1',
    [fake.name],
  );

async function reply(text: string, to: { jid?: string } = {}): Promise<string> {
  const [row] = await world.rows<{ id: string }>(
    `insert into evolution.outgoing ("tenantId", "instanceName", "chatId", "whatsappChatId", text, "sentBy")
     values ($1, $2, case when $3::text is null then (select min(id) from evolution.chats where "instanceName" = $2) end, $3, $4, 'Recepção')
     returning id`,
    [tenant(), fake.name, to.jid ?? null, text],
  );
  return row!.id;
}

interface Row {
  status: string;
  reason: string | null;
  whatsappMessageId: string | null;
}
const row = async (id: string) =>
  (
    await world.rows<Row>(
      'select status, reason, "whatsappMessageId" from evolution.outgoing where id = $1',
      [id],
    )
  )[0]!;
const settled = (id: string) =>
  until('the row is settled', async () => {
    const seen = await row(id);
    return ['QUEUED', 'SENDING'].includes(seen.status) ? null : seen;
  });
const sentTexts = () =>
  fake.messages
    .filter(({ key }) => key.fromMe)
    .map(({ message }) => (message as { conversation: string }).conversation);

test('a reply is sent, is a message of the chat, and follows its acknowledgements', async () => {
  const id = await reply('Claro, às 15h?');
  const { whatsappMessageId } = await settled(id);
  expect(sentTexts()).toEqual(['Claro, às 15h?']);
  fake.emit('messages.update', { keyId: whatsappMessageId, remoteJid: JID, fromMe: true, status: 'READ' });
  await until('the row says READ', async () => (await row(id)).status === 'READ');
  const told = (await eventsOf(world, tenant())).filter(({ event }) =>
    ['message:outgoing', 'chat:message', 'message:status'].includes(event),
  );
  expect(
    told.filter(({ event }) => event === 'message:outgoing').map(({ payload }) => payload.status),
  ).toEqual(['SENDING', 'PENDING']);
  expect(
    told.filter(
      ({ event, payload }) =>
        event === 'chat:message' && (payload.message as { content: string }).content === 'Claro, às 15h?',
    ),
  ).toHaveLength(1);
});

test('several replies go out in their order, to a number without a chat too', async () => {
  const ids = [];
  for (const text of ['um', 'dois', 'três']) ids.push(await reply(text, { jid: '5511977776666' }));
  for (const id of ids) await settled(id);
  expect(sentTexts()).toEqual(['um', 'dois', 'três']);
  expect(await chats()).toHaveLength(2);
});

test('nothing is sent where the instance does not allow it, and the row says so', async () => {
  await world.rows('update evolution.instances set "maySend" = false where name = $1', [fake.name]);
  const { status, reason } = await settled(await reply('não sai'));
  expect({ status, reason }).toEqual({ status: 'FAILED', reason: expect.stringContaining('maySend') });
  expect(sentTexts()).toEqual([]);
});

test('a refusal of the server is the reason of the row', async () => {
  const { status, reason } = await settled(await reply('oi', { jid: 'nobody' }));
  expect(status).toBe('FAILED');
  expect(reason).toMatch(/Evolution answered 400.*exists/);
});

test('a connection that breaks after the message was stored: found in the history, and sent once', async () => {
  let faults = 0;
  fake.sendFault = () => (faults++ === 0 ? 'after' : null);
  const id = await reply('uma vez');
  const { status, whatsappMessageId } = await settled(id);
  expect(status).toBe('PENDING');
  expect(fake.messages.filter(({ key }) => key.fromMe).map(({ key }) => key.id)).toEqual([whatsappMessageId]);
});

test('a connection that breaks before the message is stored: not sent again, the row says to look', async () => {
  fake.sendFault = () => 'before';
  const { status, reason } = await settled(await reply('talvez'));
  expect({ status, reason }).toEqual({
    status: 'FAILED',
    reason: expect.stringContaining('Look at the phone'),
  });
  expect(sentTexts()).toEqual([]);
});

test('the same words twice: each row has a message of its own', async () => {
  fake.sendFault = () => 'after';
  const [one, two] = [await reply('ok'), await reply('ok')];
  const outcomes = [await settled(one), await settled(two)];
  expect(outcomes.map(({ status }) => status)).toEqual(['PENDING', 'PENDING']);
  expect(new Set(outcomes.map(({ whatsappMessageId }) => whatsappMessageId)).size).toBe(2);
  expect(sentTexts()).toEqual(['ok', 'ok']);
});

test('a server that is away: the row waits, and is sent when it is back', async () => {
  await evolution.down();
  const id = await reply('depois');
  await until('it was tried', async () => (await row(id)).status === 'QUEUED');
  await evolution.up();
  expect((await settled(id)).status).toBe('PENDING');
  expect(sentTexts()).toEqual(['depois']);
});

test('a chat that is read here is marked read on WhatsApp, where the instance allows it', async () => {
  await world.rows('update evolution.chats set "unreadCount" = 1 where "instanceName" = $1', [fake.name]);
  await world.rows('update evolution.chats set "unreadCount" = 0 where "instanceName" = $1', [fake.name]);
  await until('it is marked read', () => fake.markedRead.length > 0);
  expect(fake.markedRead).toEqual([fake.messages.find(({ key }) => !key.fromMe)?.key.id]);
  await until('nothing waits', async () => (await world.rows('select from evolution.receipts')).length === 0);
  await world.rows('update evolution.instances set "mayMarkRead" = false where name = $1', [fake.name]);
  await world.rows('update evolution.chats set "unreadCount" = 1 where "instanceName" = $1', [fake.name]);
  await world.rows('update evolution.chats set "unreadCount" = 0 where "instanceName" = $1', [fake.name]);
  expect(await world.rows('select from evolution.receipts')).toEqual([]);
});
