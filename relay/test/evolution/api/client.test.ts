// From an Evolution server to a stock client: written against what the seed emits, and nothing else.
import type { FakeInstance } from '../../../evolution/demo/instance.ts';
import { type EvolutionServer, startEvolutionServer } from '../../../evolution/demo/server.ts';
import { type EvolutionWorker, startEvolutionWorker } from '../../../evolution/worker.ts';
import { createLog } from '../../../log.ts';
import type { Relay } from '../../../server/relay.ts';
import { Client, OPERATOR, startNode, token, until } from '../../world.ts';
import { type Captured, captured, startWorld, type World } from '../world.ts';

let world: World;
let evolution: EvolutionServer;
let worker: EvolutionWorker;
let relay: Relay;
/** Keys of instances, and beginnings of binaries in the captured envelopes. */
const secrets = ['INSTANCETOKEN', 'iVBORw0KGgo', '/9j/4AAQ', 'AQIDBA', 'AQID'];

beforeAll(async () => {
  world = await startWorld();
  evolution = await startEvolutionServer();
  worker = await startEvolutionWorker({
    pool: world.pool,
    connectionString: world.url,
    log: createLog('silent', false),
    pace: { namespaceMs: 20 },
  });
  relay = await startNode(world.url);
  await relay.ready();
});
afterAll(async () => {
  await relay.close();
  await worker.close();
  await evolution.close();
  await world.close();
});

async function connect(name: string, tenantId: string): Promise<FakeInstance> {
  const fake = evolution.add(name);
  secrets.push(fake.token);
  await world.rows(
    'insert into evolution.instances (name, "tenantId", host, "apiKey") values ($1, $2, $3, $4)',
    [name, tenantId, evolution.url, fake.token],
  );
  await until('subscribed', () => fake.subscribed);
  fake.emit('presence.update', {});
  await until(
    'connected',
    async () =>
      (await world.rows(`select 1 from evolution.instances where name = $1 and status = 'connected'`, [name]))
        .length === 1,
  );
  return fake;
}

interface ScreenChat {
  id: number;
  whatsappChatId: string;
  contactName: string;
  contactNumber: string;
  unreadCount: number;
  lines: { id: string; from: string; text: string; pushName: string | null }[];
}

/** The clinic's screen as it was before: it knows the seed's three events and reads the seed's fields. */
class Screen {
  readonly chats = new Map<number, ScreenChat>();

  constructor(client: Client) {
    client.socket.on('chat:new', (chat: ScreenChat) => {
      this.chats.set(chat.id, { ...chat, lines: [] });
    });
    client.socket.on(
      'chat:message',
      ({
        chatId,
        message,
      }: {
        chatId: number;
        message: {
          key: { id: string; fromMe: boolean; remoteJid: string };
          pushName: string | null;
          message: { conversation?: string; extendedTextMessage?: { text: string } };
        };
      }) => {
        this.chats.get(chatId)?.lines.push({
          id: message.key.id,
          from: message.key.fromMe ? 'us' : message.key.remoteJid,
          text: message.message.conversation || message.message.extendedTextMessage?.text || '',
          pushName: message.pushName,
        });
      },
    );
    client.socket.on(
      'chat:update',
      ({ remoteJid, updates }: { remoteJid: string; updates: { name?: string; unreadCount?: number } }) => {
        for (const chat of this.chats.values()) {
          if (chat.whatsappChatId !== remoteJid) continue;
          chat.contactName = updates.name ?? chat.contactName;
          chat.unreadCount = updates.unreadCount ?? chat.unreadCount;
        }
      },
    );
  }
}

test("a client written against the seed's shapes works unchanged", async () => {
  const fake = await connect('tela', 'clinic-1');
  const client = new Client(relay, { token: await token('clinic-1') });
  const stranger = new Client(relay, { token: await token('clinic-2') });
  await client.live();
  await stranger.live();
  const screen = new Screen(client);
  fake.message({
    jid: '5511999990000@s.whatsapp.net',
    pushName: 'Ana',
    text: 'oi',
    key: { id: 'S1', remoteJid: '5511999990000@s.whatsapp.net', fromMe: false },
  });
  fake.message({
    jid: '5511999990000@s.whatsapp.net',
    pushName: 'Ana',
    key: { id: 'S2', remoteJid: '5511999990000@s.whatsapp.net', fromMe: false },
    message: { extendedTextMessage: { text: 'tudo bem?' } },
  });
  fake.emit('contacts.update', { remoteJid: '5511999990000@s.whatsapp.net', pushName: 'Ana Maria' });
  const chat = await until('the screen shows it', () =>
    [...screen.chats.values()].find((c) => c.contactName === 'Ana Maria' && c.unreadCount === 2),
  );
  expect(chat).toMatchObject({
    whatsappChatId: '5511999990000@s.whatsapp.net',
    contactNumber: '5511999990000',
    status: 'ACTIVE',
    tenantId: 'clinic-1',
    lines: [
      { id: 'S1', from: '5511999990000@s.whatsapp.net', text: 'oi', pushName: 'Ana' },
      { id: 'S2', text: 'tudo bem?' },
    ],
  });
  fake.message({
    text: 'respondido',
    pushName: 'Você',
    key: { id: 'S3', remoteJid: '5511999990000@s.whatsapp.net', fromMe: true },
    messageTimestamp: Math.floor(Date.now() / 1000) + 5,
  });
  await until('an answer reads the chat', () => chat.unreadCount === 0);
  client.close();
  expect(stranger.heard.filter((h) => !h.event.startsWith('relay:'))).toEqual([]);
  stranger.close();
});

test.each(['2.3.0', '2.3.4', '2.3.7'])(
  'captured envelopes of %s, over the wire and twice: each chat:message once at the client',
  async (version) => {
    const tenant = `clinic-${version}`;
    const fake = await connect(`demo-${version}`, tenant);
    const client = new Client(relay, { token: await token(tenant) });
    await client.live();
    const data = captured(version).map(({ event, envelope }: Captured) => ({
      event,
      data: (envelope as { data: unknown }).data,
    }));
    for (const each of [...data, ...data.reverse()]) fake.emit(each.event, each.data);
    const messages = () =>
      client.heard
        .filter((h) => h.event === 'chat:message')
        .map((h) => (h.payload as { message: { whatsappMessageId: string } }).message.whatsappMessageId);
    await until('every message', () => messages().length >= 11);
    fake.message({
      text: 'fim',
      key: { id: 'END', remoteJid: '5511977776666@s.whatsapp.net', fromMe: false },
    });
    await until('the last', () => messages().includes('END'));
    expect(messages().sort()).toEqual([
      'END',
      'G1',
      'H1',
      'L1',
      'M1',
      'M2',
      'M3',
      'M4',
      'M5',
      'M6',
      'M7',
      'M9',
    ]);
    const text = JSON.stringify(client.heard);
    for (const secret of secrets) expect(text).not.toContain(secret);
    client.close();
  },
);

test('no page and no metric shows a key or a binary', async () => {
  const headers = { authorization: `Bearer ${await token('clinic-2.3.7')}` };
  const pages = [
    '/metrics',
    '/readyz',
    '/console/session',
    '/console/operations',
    '/console/contract',
    '/console/contract.asyncapi.json',
    '/console/contract.d.ts',
  ];
  for (const page of pages) {
    const asOperator = page === '/metrics' || page === '/console/operations';
    const response = await fetch(`http://127.0.0.1:${relay.port}${page}`, {
      headers: asOperator ? OPERATOR : headers,
    });
    const text = await response.text();
    expect([page, response.status]).toEqual([page, 200]);
    // The pages that speak of instances do so of these.
    if (asOperator) expect(text).toContain('demo-2.3.7');
    for (const secret of secrets) expect([page, text]).not.toEqual([page, expect.stringContaining(secret)]);
  }
});
