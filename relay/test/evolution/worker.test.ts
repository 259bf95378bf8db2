// The worker against a server that speaks the real protocol, traps included: connecting, versions, secrets.
import type { FakeInstance } from '../../evolution/demo/instance.ts';
import type { EvolutionServer } from '../../evolution/demo/server.ts';
import {
  addFake,
  becomes,
  connect,
  contents,
  hasRead,
  insert,
  lines,
  secrets,
  server,
  status,
  stores,
  until,
  world,
} from './one-worker.ts';
import { eventsOf } from './world.ts';

test('a row inserted is connected; the event that makes the namespace is lost, and read over REST', async () => {
  const evolution = await server();
  const fake = addFake(evolution);
  await insert(fake, evolution.url);
  await until(() => fake.subscribed, Boolean);
  await becomes(fake, 'waiting');
  fake.message({ text: 'quem criou o namespace', pushName: 'Ana' });
  await becomes(fake, 'connected');
  await until(
    () => contents(fake),
    (c) => c.length === 1,
  );
  fake.message({ text: 'ao vivo', pushName: 'Ana' });
  await until(
    () => contents(fake),
    (c) => c.length === 2,
  );
  const events = await eventsOf(world, `t-${fake.name}`);
  expect(
    events
      .filter((e) => e.event === 'chat:message')
      .map((e) => (e.payload.message as { content: string }).content),
  ).toEqual(['quem criou o namespace', 'ao vivo']);
  expect(events.filter((e) => e.event === 'chat:new')).toMatchObject([
    { payload: { contactName: 'Ana', whatsappChatId: '5511999990000@s.whatsapp.net' } },
  ]);
});

test('a restart of Evolution: reconnected although the namespace is gone, and what was missed is there once and in order', async () => {
  const evolution = await server();
  const fake = await connect(evolution);
  const seconds = Math.floor(Date.now() / 1_000) - 10;
  fake.message({ text: 'antes', messageTimestamp: seconds });
  await stores(fake, 'antes');
  await evolution.down();
  // The last of them also stands in the list of chats, which is read first.
  const missed = ['durante', 'ainda durante', 'por fim'];
  missed.forEach((text, n) => void fake.message({ text, messageTimestamp: seconds + 1 + n }, true));
  await evolution.up();
  await until(
    () => contents(fake),
    (c) => missed.every((text) => c.includes(text)),
  );
  const told = (await eventsOf(world, `t-${fake.name}`)).filter((e) => e.event === 'chat:message');
  expect(told.map((e) => (e.payload.message as { content: string }).content)).toEqual(['antes', ...missed]);
  fake.message({ text: 'cria o namespace' });
  await stores(fake, 'cria o namespace');
  await becomes(fake, 'connected');
  fake.message({ text: 'depois' });
  await stores(fake, 'depois');
  expect((await contents(fake)).sort()).toEqual(['antes', 'cria o namespace', 'depois', ...missed].sort());
});

test('events changed in the manager of the server, and an instance made anew: subscribed again, nothing missing', async () => {
  const evolution = await server();
  const fake = await connect(evolution);
  fake.events = ['QRCODE_UPDATED'];
  fake.message({ text: 'nobody emits this one' });
  await until(
    () => contents(fake),
    (c) => c.length === 1,
  );
  await until(
    () => fake.events,
    (events) => events.length === 0,
  );
  evolution.remove(fake.name);
  const anew = evolution.add(fake.name, fake.token);
  anew.message({ text: 'nor this one' });
  await until(() => anew.subscribed, Boolean);
  await until(
    () => contents(fake),
    (c) => c.length === 2,
  );
  anew.message({ text: 'live' });
  await until(
    () => contents(fake),
    (c) => c.length === 3,
  );
});

test.each([
  ['deleted', 'not_found', (evolution: EvolutionServer, fake: FakeInstance) => evolution.remove(fake.name)],
  [
    'given another key',
    'unauthorized',
    (evolution: EvolutionServer, fake: FakeInstance) => {
      evolution.remove(fake.name);
      evolution.add(fake.name);
    },
  ],
])('an instance %s on the server while it is connected: the row says %s', async (_, expected, change) => {
  const evolution = await server();
  const fake = await connect(evolution);
  change(evolution, fake);
  await until(
    () => status(fake),
    (s) => s.status === expected,
  );
});

test('a wrong key is reported on the row; a right one takes effect at once', async () => {
  const evolution = await server();
  const fake = addFake(evolution);
  await insert(fake, evolution.url, { apiKey: 'WRONG-KEY-SECRET' });
  const seen = await becomes(fake, 'unauthorized');
  expect(seen.statusReason).toMatch(/401 .*Unauthorized/);
  await world.rows('update evolution.instances set "apiKey" = $2 where name = $1', [fake.name, fake.token]);
  await becomes(fake, 'waiting');
});

test.each(['auto', 'global'])(
  'a server with global events, mode %s: our instance is heard, others are not stored',
  async (mode) => {
    const evolution = await server({ globalEvents: true, version: mode === 'global' ? '1' : '2' });
    const fake = addFake(evolution);
    const stranger = addFake(evolution);
    await insert(fake, evolution.url, { mode });
    await until(
      () => evolution.sockets,
      (n) => n === 1,
    );
    await until(
      async () => {
        stranger.message({ text: 'de outro', jid: '5511977770000@s.whatsapp.net' });
        fake.message({
          text: 'nosso',
          key: { id: 'G1', remoteJid: '5511988880000@s.whatsapp.net', fromMe: false },
        });
        return contents(fake);
      },
      (c) => c.length > 0,
    );
    await becomes(fake, 'connected');
    expect(await contents(fake)).toEqual(['nosso']);
  },
);

test('a server without websockets is read over REST again and again', async () => {
  const evolution = await server({ websocket: false });
  const fake = addFake(evolution);
  await insert(fake, evolution.url);
  await becomes(fake, 'polling');
  fake.message({ text: 'só por REST' });
  await stores(fake, 'só por REST');
});

test('1.x: flat bodies, GET findChats, arrays', async () => {
  const evolution = await server({ version: '1' });
  const fake = addFake(evolution);
  for (let i = 0; i < 5; i++) fake.message({ text: `m${i}`, jid: `55119999900${i}0@s.whatsapp.net` }, true);
  await insert(fake, evolution.url);
  await until(
    () => contents(fake),
    (c) => c.length === 5,
  );
  fake.emit('messages.update', {
    id: fake.messages[0]!.key.id,
    remoteJid: fake.messages[0]!.key.remoteJid,
    fromMe: false,
    status: 'READ',
  });
  fake.emit('chats.upsert', [{ id: '5511999991111@s.whatsapp.net' }]);
  await becomes(fake, 'connected');
  await until(
    async () => {
      fake.emit('chats.upsert', [{ id: '5511999991111@s.whatsapp.net' }]);
      return world.rows('select 1 from evolution.chats where "instanceName" = $1', [fake.name]);
    },
    (rows) => rows.length === 6,
  );
});

test('what cannot be read is set aside with its reason, and nothing around it is lost', async () => {
  const evolution = await server();
  const fake = await connect(evolution);
  fake.emit('messages.upsert', [
    {
      key: { id: 'A1', remoteJid: '5511999990000@s.whatsapp.net', fromMe: false },
      message: { conversation: 'bom' },
      messageTimestamp: 1795281655,
    },
    {
      key: { remoteJid: '5511999990000@s.whatsapp.net' },
      message: { conversation: 'sem id', base64: 'U0VHUkVETw=='.repeat(50) },
    },
    'nada',
  ]);
  fake.emit('messages.upsert', null);
  fake.emit('chats.upsert', 42);
  fake.emit('messages.upsert', {
    key: { id: 'A2', remoteJid: '5511999990000@s.whatsapp.net', fromMe: false },
    message: { conversation: 'NUL\u0000 e \ud800' },
    messageTimestamp: '9'.repeat(19),
  });
  fake.emit('messages.upsert', {
    messages: [
      {
        key: { id: 'A3', remoteJid: '5511999990000@s.whatsapp.net', fromMe: true },
        message: { fooMessage: { a: 1 } },
        messageTimestamp: { low: 1795281656, high: 0, unsigned: true },
      },
    ],
    type: 'notify',
  });
  await until(
    () => contents(fake),
    (c) => c.length === 3,
  );
  expect(await contents(fake)).toEqual(['bom', '[mensagem não suportada: fooMessage]', 'NUL e \uFFFD']);
  const rejected = await until(
    () =>
      world.rows<{ reason: string }>(
        'select reason from evolution.rejected where "instanceName" = $1 order by id',
        [fake.name],
      ),
    (rows) => rows.length >= 4,
  );
  expect(rejected.map((r) => r.reason)).toEqual([
    'expected key.id to be a text, received undefined',
    'expected a message to be an object, received string',
    'expected a message to be an object, received null',
    'expected a chat to be an object, received number',
  ]);
});

test('connection and QR code reach the session events, without the picture', async () => {
  const evolution = await server();
  const fake = await connect(evolution);
  await until(
    () => world.rows('select 1 from evolution.instances where name = $1 and state = $2', [fake.name, 'open']),
    (rows) => rows.length === 1,
  );
  // A reading under way may learn of the new state first, without its reason.
  await hasRead(fake);
  fake.emit('connection.update', { instance: fake.name, state: 'close', statusReason: 401 });
  fake.emit('qrcode.updated', {
    qrcode: {
      instance: fake.name,
      pairingCode: 'WZYEH1YY',
      code: '2@abc,def',
      base64: 'data:image/png;base64,iVBORw0KGgo',
    },
  });
  const events = await until(
    async () => (await eventsOf(world, `t-${fake.name}`)).filter((e) => e.event.startsWith('session:')),
    (found) => found.some((e) => e.event === 'session:qrcode'),
  );
  expect(events.map((e) => [e.event, e.payload.status ?? e.payload.code])).toEqual([
    ['session:status', 'open'],
    ['session:status', 'close'],
    ['session:qrcode', '2@abc,def'],
  ]);
});

test('no key is in any log line, event or row but the instance itself', async () => {
  const everything = [
    ...lines,
    ...(await world.rows<{ all: string }>('select to_jsonb(e)::text as all from relay.events e')).map(
      (r) => r.all,
    ),
    ...(await world.rows<{ all: string }>('select to_jsonb(m)::text as all from evolution.messages m')).map(
      (r) => r.all,
    ),
    ...(await world.rows<{ all: string }>('select to_jsonb(r)::text as all from evolution.rejected r')).map(
      (r) => r.all,
    ),
    ...(await world.rows<{ all: string }>('select to_jsonb(o)::text as all from evolution.overview o')).map(
      (r) => r.all,
    ),
  ].join('\n');
  expect(everything.length).toBeGreaterThan(10_000);
  for (const secret of [...secrets, 'GLOBAL-KEY-SECRET', 'WRONG-KEY-SECRET', 'U0VHUkVETw', 'iVBORw0KGgo'])
    expect(everything).not.toContain(secret);
});
