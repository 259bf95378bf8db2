// The worker against a server that speaks the real protocol, traps included.

import type { FakeInstance } from '../../evolution/demo/instance.ts';
import { type EvolutionServer, startEvolutionServer } from '../../evolution/demo/server.ts';
import type { Pace } from '../../evolution/pace.ts';
import { requestSync } from '../../evolution/sync.ts';
import { type EvolutionWorker, startEvolutionWorker } from '../../evolution/worker.ts';
import type { Log } from '../../log.ts';
import { until as waitFor } from '../world.ts';
import { eventsOf, startWorld, type World } from './world.ts';

const pace: Partial<Pace> = {
  retryMs: 20,
  slowestMs: 200,
  refusedMs: 100,
  namespaceMs: 20,
  pollMs: 100,
  lookMs: 100,
  requestMs: 5_000,
  overlapMs: 60_000,
  pageSize: 20,
};

const lines: string[] = [];
const log: Log = {
  say: (name, ...fields) => void lines.push(`${name} ${JSON.stringify(fields)}`),
  with: () => log,
};

let world: World;
let worker: EvolutionWorker;
const servers: EvolutionServer[] = [];
const secrets: string[] = [];
let count = 0;

beforeAll(async () => {
  world = await startWorld();
  worker = await startEvolutionWorker({ pool: world.pool, connectionString: world.url, log, pace });
});
afterAll(async () => {
  await worker.close();
  for (const server of servers) await server.close();
  await world.close();
});

async function server(options: Parameters<typeof startEvolutionServer>[0] = {}): Promise<EvolutionServer> {
  const started = await startEvolutionServer({ globalKey: 'GLOBAL-KEY-SECRET', ...options });
  servers.push(started);
  return started;
}

function addFake(to: EvolutionServer): FakeInstance {
  const fake = to.add(`vendas-${++count}`);
  secrets.push(fake.token);
  return fake;
}

async function insert(
  fake: FakeInstance,
  host: string,
  fields: { apiKey?: string; mode?: string } = {},
): Promise<void> {
  await world.rows(
    'insert into evolution.instances (name, "tenantId", host, "apiKey", mode) values ($1, $2, $3, $4, $5)',
    [fake.name, `t-${fake.name}`, host, fields.apiKey ?? fake.token, fields.mode ?? 'auto'],
  );
}

/** Looks again until it is so; fails with what it saw last. */
async function until<T>(look: () => Promise<T> | T, isSo: (seen: T) => boolean, ms = 20_000): Promise<T> {
  let seen: { last: T } | undefined;
  try {
    return (
      await waitFor(
        'it comes to pass',
        async () => {
          seen = { last: await look() };
          return isSo(seen.last) ? seen : null;
        },
        ms,
      )
    ).last;
  } catch (error) {
    throw new Error(`Last seen: ${JSON.stringify(seen?.last)}\n${lines.slice(-10).join('\n')}`, {
      cause: error,
    });
  }
}

const status = async (fake: FakeInstance) =>
  (
    await world.rows<{ status: string; statusReason: string | null }>(
      'select status, "statusReason" from evolution.instances where name = $1',
      [fake.name],
    )
  )[0]!;
const contents = async (fake: FakeInstance) =>
  (
    await world.rows<{ content: string }>(
      'select content from evolution.messages where "instanceName" = $1 order by id',
      [fake.name],
    )
  ).map((m) => m.content);

async function stores(fake: FakeInstance, content: string): Promise<void> {
  await until(
    () => contents(fake),
    (stored) => stored.includes(content),
  );
}

/** The reading at the connection is over, and the one after its namespace has appeared. */
async function hasRead(fake: FakeInstance): Promise<void> {
  await until(
    () => lines.filter((l) => l.startsWith('evolution_caught_up') && l.includes(`"${fake.name}"`)).length,
    (n) => n >= 2,
  );
}

async function becomes(fake: FakeInstance, wanted: string): ReturnType<typeof status> {
  return until(
    () => status(fake),
    (row) => row.status === wanted,
  );
}

async function connect(to: EvolutionServer): Promise<FakeInstance> {
  const fake = addFake(to);
  await insert(fake, to.url);
  await until(() => fake.subscribed, Boolean);
  fake.emit('connection.update', { instance: fake.name, state: 'open', statusReason: 200 });
  await becomes(fake, 'connected');
  // What comes before that is history, and not told message by message.
  await until(
    () =>
      world.rows('select 1 from evolution.sources where name = $1 and synced_at is not null', [fake.name]),
    (rows) => rows.length === 1,
  );
  return fake;
}

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

test('what was missed comes before what is heard meanwhile, chat by chat, also over many pages', async () => {
  const evolution = await server();
  const fake = await connect(evolution);
  const seconds = Math.floor(Date.now() / 1_000) - 1_000;
  const jid = (n: number) => `551199977000${n % 5}@s.whatsapp.net`;
  fake.message({ text: '0', jid: jid(0), messageTimestamp: seconds });
  await until(
    () => contents(fake),
    (c) => c.length === 1,
  );
  await evolution.down();
  for (let n = 1; n <= 300; n++)
    fake.message({ text: String(n), jid: jid(n), messageTimestamp: seconds + n }, true);
  await evolution.up();
  let n = 300;
  // Heard while the pages are read, which takes longer than a few of these.
  while ((await contents(fake)).length < 301 || n < 350) {
    n += 1;
    fake.message({ text: String(n), jid: jid(n), messageTimestamp: seconds + n });
    await new Promise(setImmediate);
  }
  await until(
    () => contents(fake),
    (c) => c.length === n + 1,
  );
  const told = (await eventsOf(world, `t-${fake.name}`))
    .filter((e) => e.event === 'chat:message')
    .map((e) => ({ chat: e.payload.chatId, n: Number((e.payload.message as { content: string }).content) }));
  const late = told.filter(({ chat, n }, place) =>
    told.slice(0, place).some((before) => before.chat === chat && before.n > n),
  );
  expect(late).toEqual([]);
  expect(told).toHaveLength(n + 1);
  expect(lines.some((line) => /^evolution_reading.*"of":[3-9]\d\d/.test(line))).toBe(true);
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

test('history that reached the server while nobody listened is read, however old it is', async () => {
  const evolution = await server();
  const fake = await connect(evolution);
  fake.message({ text: 'today' });
  await until(
    () => contents(fake),
    (c) => c.length === 1,
  );
  await evolution.down();
  const tenDaysAgo = Math.floor(Date.now() / 1_000) - 10 * 86_400;
  for (let n = 0; n < 5; n++) fake.message({ text: `old ${n}`, messageTimestamp: tenDaysAgo + n }, true);
  await evolution.up();
  // Makes the namespace.
  fake.message({ text: 'after' });
  await until(
    () => contents(fake),
    (c) => c.length === 7,
  );
});

test('an instance made anew with as many old messages as the one before', async () => {
  const evolution = await server();
  const tenDaysAgo = Math.floor(Date.now() / 1_000) - 10 * 86_400;
  const fake = addFake(evolution);
  fake.message({ text: 'of the first', messageTimestamp: tenDaysAgo }, true);
  await insert(fake, evolution.url);
  await stores(fake, 'of the first');
  await until(
    () =>
      world.rows('select 1 from evolution.sources where name = $1 and server_id = $2', [fake.name, fake.id]),
    (rows) => rows.length === 1,
  );
  await evolution.down();
  evolution.remove(fake.name);
  const anew = evolution.add(fake.name, fake.token);
  anew.message({ text: 'of the second', messageTimestamp: tenDaysAgo }, true);
  await evolution.up();
  await stores(fake, 'of the second');
});

test.each([
  ['2.2', true],
  // From 2.3.0 to 2.3.4 it may be an edit; since then the message itself is gone.
  ['2', false],
] as const)(
  'DELETED beside a message that version %s keeps: taken back while nobody listened: %s',
  async (version, isRevoked) => {
    const evolution = await server({ version });
    const fake = await connect(evolution);
    // The last moment at which WhatsApp lets somebody do it; or one that every catch-up reads.
    const ago = isRevoked ? 2 * 86_400 : 0;
    fake.message({ text: 'sorry', messageTimestamp: Math.floor(Date.now() / 1_000) - ago });
    fake.message({ text: 'last' });
    await until(
      () => contents(fake),
      (c) => c.length === 2,
    );
    await evolution.down();
    fake.messages[0]!.MessageUpdate = [{ status: 'DELETED' }];
    await evolution.up();
    fake.message({ text: 'after' });
    await stores(fake, 'after');
    if (!isRevoked) {
      expect(await contents(fake)).toContain('sorry');
      return;
    }
    await until(
      () => contents(fake),
      (c) => !c.includes('sorry'),
    );
    const events = await eventsOf(world, `t-${fake.name}`);
    expect(events.filter(({ event }) => event === 'message:deleted')).toMatchObject([
      { payload: { whatsappMessageId: fake.messages[0]!.key.id } },
    ]);
  },
);

test('one record that the database cannot take does not cost the others of its page', async () => {
  const evolution = await server();
  const fake = addFake(evolution);
  for (let n = 0; n < 30; n++) fake.message({ text: `m${n}`, messageTimestamp: 1795281000 + n }, true);
  // Refused by the database, not by the reading.
  await world.rows(`create function evolution.refuse_poison() returns trigger language plpgsql as
    $$begin if new.content = 'm7' then raise check_violation; end if; return new; end$$`);
  await world.rows(
    'create trigger poison before insert on evolution.messages for each row execute function evolution.refuse_poison()',
  );
  try {
    await insert(fake, evolution.url);
    await until(
      () => contents(fake),
      (c) => c.length === 29,
    );
    await until(
      () => world.rows('select reason from evolution.rejected where "instanceName" = $1', [fake.name]),
      (rejected) => rejected.length === 1,
    );
  } finally {
    await world.rows('drop function evolution.refuse_poison() cascade');
  }
});

test('two tenants may call their instances alike, on servers of their own', async () => {
  const [one, other] = [await server(), await server()];
  const fakes = [one.add('principal'), other.add('principal')];
  for (const [n, to] of [one, other].entries())
    await world.rows(
      'insert into evolution.instances (name, "tenantId", host, "apiKey") values ($1, $2, $3, $4)',
      ['principal', `tenant-${n}`, to.url, fakes[n]!.token],
    );
  for (const fake of fakes) fake.message({ text: 'oi' });
  await until(
    () => world.rows('select 1 from evolution.messages where "instanceName" = $1', ['principal']),
    (rows) => rows.length === 2,
  );
  await expect(world.rows(`select evolution.request_sync('principal')`)).rejects.toThrow(/several tenants/);
  await expect(
    world.rows('insert into evolution.instances (name, "tenantId", host, "apiKey") values ($1, $2, $3, $4)', [
      'principal',
      'a-third',
      `${one.url}/`,
      'k',
    ]),
  ).rejects.toThrow(/belongs_to_one_tenant/);
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

test('a first reading is told as one event; a chat comes with its time', async () => {
  const evolution = await server();
  const fake = addFake(evolution);
  for (let n = 0; n < 40; n++)
    fake.message(
      { text: `m${n}`, jid: `55119998${10000 + (n % 8)}@s.whatsapp.net`, messageTimestamp: 1795281000 + n },
      true,
    );
  await insert(fake, evolution.url);
  const told = async (event: string) =>
    (await eventsOf(world, `t-${fake.name}`)).filter((e) => e.event === event);
  await until(
    () => told('chat:synced'),
    (events) => events.length === 1,
  );
  expect((await told('chat:synced'))[0]?.payload).toEqual({
    instanceName: fake.name,
    chats: 8,
    messages: 40,
  });
  expect(await told('chat:message')).toEqual([]);
  const chats = await told('chat:new');
  expect(chats).toHaveLength(8);
  for (const { payload } of chats) expect(payload.lastMessageAt).toEqual(expect.any(String));
});

test('a requested sync reads what is old and was never heard', async () => {
  const evolution = await server();
  const fake = await connect(evolution);
  fake.message({ text: 'today' });
  await until(
    () => contents(fake),
    (c) => c.length === 1,
  );
  const tenDaysAgo = Math.floor(Date.now() / 1_000) - 10 * 86_400;
  for (let n = 0; n < 5; n++) fake.message({ text: `old ${n}`, messageTimestamp: tenDaysAgo + n }, true);
  await requestSync(world.pool, { accountId: `t-${fake.name}`, instanceName: fake.name, timeoutMs: 10_000 });
  expect(await contents(fake)).toHaveLength(6);
});

test('a message dated in the future moves nothing ahead of now', async () => {
  const evolution = await server();
  const fake = await connect(evolution);
  fake.message({
    text: 'a phone whose clock is ahead',
    messageTimestamp: Math.floor(Date.now() / 1_000) + 3 * 3_600,
  });
  await until(
    () => contents(fake),
    (c) => c.length === 1,
  );
  await evolution.restart();
  fake.message({ text: 'makes the namespace' });
  await until(
    () => contents(fake),
    (c) => c.length === 2,
  );
  await until(
    () =>
      world.rows('select 1 from evolution.sources where name = $1 and caught_up_to is not null', [fake.name]),
    (rows) => rows.length === 1,
  );
  const [ahead] = await world.rows(
    `select c."lastMessageAt" > now() as chat, s.caught_up_to > now() as source, m."sentAt" > now() as message
       from evolution.chats as c
       join evolution.messages as m on m."chatId" = c.id
       join evolution.sources as s on s."tenantId" = c."tenantId"
      where c."instanceName" = $1 order by m."sentAt" desc limit 1`,
    [fake.name],
  );
  expect(ahead).toEqual({ chat: false, source: false, message: false });
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

test('an unknown instance is not_found; a server that does not answer is unreachable', async () => {
  const evolution = await server();
  const fake = addFake(evolution);
  evolution.remove(fake.name);
  await insert(fake, evolution.url, { apiKey: 'GLOBAL-KEY-SECRET' });
  await becomes(fake, 'not_found');
  await world.rows('update evolution.instances set host = $2 where name = $1', [
    fake.name,
    'http://127.0.0.1:9',
  ]);
  await becomes(fake, 'unreachable');
});

test('several instances on one host, each with its own key; deleting a row hangs up', async () => {
  const evolution = await server();
  const [one, other] = [await connect(evolution), await connect(evolution)];
  one.message({ text: 'para um' });
  other.message({ text: 'para outro' });
  await stores(one, 'para um');
  await stores(other, 'para outro');
  expect(evolution.sockets).toBe(2);
  await world.rows('delete from evolution.instances where name = $1', [one.name]);
  await until(
    () => evolution.sockets,
    (n) => n === 1,
  );
  await world.rows(`update evolution.instances set desired = 'disconnected' where name = $1`, [other.name]);
  await until(
    () => evolution.sockets,
    (n) => n === 0,
  );
  await becomes(other, 'disconnected');
});

test('a deleted instance that is added again finds its chats; another tenant gets none of them', async () => {
  const evolution = await server();
  const fake = await connect(evolution);
  fake.message({ text: 'um' });
  await until(
    () => contents(fake),
    (c) => c.length === 1,
  );
  await world.rows('delete from evolution.instances where name = $1', [fake.name]);
  await insert(fake, evolution.url);
  await becomes(fake, 'connected');
  fake.message({ text: 'dois' });
  await until(
    () => contents(fake),
    (c) => c.length === 2,
  );
  expect(
    await world.rows('select id from evolution.chats where "instanceName" = $1', [fake.name]),
  ).toHaveLength(1);
  await world.rows('update evolution.instances set "tenantId" = $2 where name = $1', [fake.name, 'another']);
  await until(
    () =>
      world.rows<{ tenantId: string; n: number }>(
        'select "tenantId", count(*)::int as n from evolution.messages where "instanceName" = $1 group by 1 order by 1',
        [fake.name],
      ),
    (rows) => rows.length === 2 && rows[0]!.tenantId === 'another' && rows[0]!.n === 2,
  );
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

test('catch-up reads page after page', async () => {
  const evolution = await server();
  const fake = addFake(evolution);
  for (let i = 0; i < 95; i++) {
    fake.message(
      { text: `m${i}`, jid: `5511999${100000 + (i % 45)}@s.whatsapp.net`, messageTimestamp: 1795281000 + i },
      true,
    );
  }
  await insert(fake, evolution.url);
  await until(
    () => contents(fake),
    (c) => c.length === 95,
  );
  expect(
    await world.rows('select 1 from evolution.chats where "instanceName" = $1', [fake.name]),
  ).toHaveLength(45);
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

describe('sync on request', () => {
  test('created and updated chats are counted; then nothing is new', async () => {
    const evolution = await server();
    const fake = await connect(evolution);
    await hasRead(fake);
    for (let i = 0; i < 3; i++)
      fake.message({ text: 'x', jid: `551199999000${i}@s.whatsapp.net`, pushName: 'Ana' }, true);
    const ask = { accountId: `t-${fake.name}`, instanceName: fake.name, timeoutMs: 5_000 };
    expect(await requestSync(world.pool, ask)).toEqual({ created: 3, updated: 0 });
    fake.message({ text: 'y', jid: '5511999990001@s.whatsapp.net', pushName: 'Ana' }, true);
    expect(await requestSync(world.pool, ask)).toEqual({ created: 0, updated: 1 });
    expect(await requestSync(world.pool, ask)).toEqual({ created: 0, updated: 0 });
  });

  test('404 for another account, 409 while running, 502 with the reason, 504', async () => {
    const evolution = await server();
    const fake = await connect(evolution);
    const ask = { accountId: `t-${fake.name}`, instanceName: fake.name, timeoutMs: 5_000 };
    await expect(requestSync(world.pool, { ...ask, accountId: 'someone-else' })).rejects.toMatchObject({
      code: 'sync_instance_unknown',
      httpStatus: 404,
    });
    await expect(requestSync(world.pool, { ...ask, instanceName: 'nope' })).rejects.toMatchObject({
      httpStatus: 404,
    });
    evolution.fail('findChats', {
      status: 400,
      body: '{"status":400,"error":"Bad Request","response":{"message":[["instance requires property \\"x\\""]]}}',
    });
    await expect(requestSync(world.pool, ask)).rejects.toMatchObject({
      code: 'sync_refused',
      httpStatus: 502,
      message: expect.stringContaining('requires property "x"'),
    });
    evolution.fail('findChats', null);
    await world.rows(
      `insert into evolution.sync_requests (instance_id, state) select id, 'running' from evolution.instances where name = $1`,
      [fake.name],
    );
    await expect(requestSync(world.pool, ask)).rejects.toMatchObject({
      code: 'sync_running',
      httpStatus: 409,
    });
    await world.rows(
      `update evolution.sync_requests set state = 'failed', finished_at = now() where state = 'running'`,
    );
    const nobody = addFake(evolution);
    await insert(nobody, evolution.url);
    await world.rows(`update evolution.instances set desired = 'disconnected' where name = $1`, [
      nobody.name,
    ]);
    await expect(
      requestSync(world.pool, { ...ask, accountId: `t-${nobody.name}`, instanceName: nobody.name }),
    ).rejects.toMatchObject({ code: 'sync_instance_disabled', httpStatus: 409 });
    const elsewhere = addFake(evolution);
    // Held by a worker that does not answer.
    await world.rows(
      `with i as (insert into evolution.instances (name, "tenantId", host, "apiKey") values ($1, $2, $3, $4) returning id)
       insert into evolution.leases (instance_id, worker_id, until) select id, gen_random_uuid(), now() + interval '1 hour' from i`,
      [elsewhere.name, `t-${elsewhere.name}`, evolution.url, elsewhere.token],
    );
    const unanswered = { accountId: `t-${elsewhere.name}`, instanceName: elsewhere.name, timeoutMs: 250 };
    await expect(requestSync(world.pool, unanswered)).rejects.toMatchObject({
      code: 'sync_timeout',
      httpStatus: 504,
    });
    await world.rows('delete from evolution.instances where name = $1', [elsewhere.name]);
  });
});

test('two workers share the instances; one closes and the other takes over at once', async () => {
  const evolution = await server();
  const fakes = [await connect(evolution), await connect(evolution), await connect(evolution)];
  const second = await startEvolutionWorker({ pool: world.pool, connectionString: world.url, log, pace });
  const shares = () =>
    world.rows<{ n: number }>(
      'select count(*)::int as n from evolution.leases where until > now() group by worker_id order by 1',
    );
  await until(shares, (rows) => rows.length === 2 && rows[1]!.n - rows[0]!.n <= 1);
  const began = Date.now();
  await second.close();
  await until(shares, (rows) => rows.length === 1);
  expect(Date.now() - began).toBeLessThan(4_000);
  for (const fake of fakes) {
    await becomes(fake, 'connected');
    fake.message({ text: 'ainda aqui' });
    await stores(fake, 'ainda aqui');
  }
}, 20_000);

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
