// Servers that we ask and that mean harm: what they answer is bounded when it is unpacked, and the next answer is read.
import { createServer, type Server, type ServerResponse } from 'node:http';
import { createGzip } from 'node:zlib';
import { createVerifier } from '../../../auth/token.ts';
import { readSettings } from '../../../config/settings.ts';
import { createApi } from '../../../evolution/api/api.ts';
import { type EvolutionServer, startEvolutionServer } from '../../../evolution/demo/server.ts';
import { redact } from '../../../evolution/payloads/redact.ts';
import { type EvolutionWorker, startEvolutionWorker } from '../../../evolution/worker.ts';
import { portOf } from '../../../port.ts';
import { hearing } from '../../hearing.ts';
import { until } from '../../world.ts';
import { startWorld, type World } from '../world.ts';

const MIB = 1024 * 1024;
const JID = '5511999990000@s.whatsapp.net';
const servers: Server[] = [];

afterAll(() => {
  for (const server of servers) {
    server.closeAllConnections();
    server.close();
  }
});

/** Answers every request with 1.5 GB, as fast as they are taken. */
async function flood(begin: string, compressed: boolean) {
  const state = { sent: 0, ended: false };
  const server = createServer((_request, response: ServerResponse) => {
    response.writeHead(200, {
      'content-type': 'application/json',
      ...(compressed && { 'content-encoding': 'gzip' }),
    });
    const body = compressed ? createGzip({ level: 1 }) : response;
    if (compressed) body.pipe(response);
    const piece = Buffer.alloc(MIB, ' ');
    body.write(begin);
    const more = () => {
      while (!response.destroyed && state.sent < 1_500 * MIB) {
        state.sent += piece.length;
        if (!body.write(piece)) return;
      }
      body.end();
    };
    body.on('drain', more);
    body.on('error', () => undefined);
    response.on('close', () => {
      state.ended = true;
      body.destroy();
    });
    more();
  }).listen(0, '127.0.0.1');
  servers.push(server);
  await new Promise((resolve) => server.once('listening', resolve));
  return { url: `http://127.0.0.1:${portOf(server)}`, state };
}

describe.each([
  ['as it is', false],
  ['packed', true],
])('an answer of 1.5 GB, %s', (_how, compressed) => {
  test('of an Evolution server is refused after 32 MiB, and the rest is not read', async () => {
    const { url, state } = await flood('[', compressed);
    const { signal } = new AbortController();
    const api = createApi({ host: url, instance: 'x', apiKey: 'k', signal });
    await expect(api.chats(0, 10)).rejects.toMatchObject({
      code: 'evolution_refused',
      message: '/chat/findChats/x: the answer has more than 32768 KiB',
    });
    await until('the rest is not taken', () => state.ended);
    expect(state.sent).toBeLessThan(1_500 * MIB);
  });

  test('of a key set is read for 1 MiB, and refuses nobody for good', async () => {
    const { url, state } = await flood('{"keys":[', compressed);
    const verifier = createVerifier(readSettings({ JWT_JWKS_URL: `${url}/keys.json` }).jwt);
    const { generateKeyPair, SignJWT } = await import('jose');
    const { privateKey } = await generateKeyPair('RS256');
    const token = await new SignJWT({ accountId: '1' })
      .setProtectedHeader({ alg: 'RS256', kid: 'k' })
      .setExpirationTime('1h')
      .sign(privateKey);
    await expect(verifier.verify(token)).rejects.toMatchObject({
      code: 'jwks_unavailable',
      permanent: false,
      message: expect.stringContaining('the answer has more than 1024 KiB'),
    });
    await until('the rest is not taken', () => state.ended);
    expect(state.sent).toBeLessThan(1_500 * MIB);
  });
});

describe('what a server emits', () => {
  let world: World;
  let evolution: EvolutionServer;
  let worker: EvolutionWorker;
  let instances = 0;
  const heard: string[] = [];
  const lost = (name: string) =>
    heard.some((line) => line.includes(name) && line.includes('websocket error'));

  beforeAll(async () => {
    world = await startWorld();
    evolution = await startEvolutionServer();
    worker = await startEvolutionWorker({
      pool: world.pool,
      connectionString: world.url,
      log: hearing((event, fields) => heard.push(`${event} ${JSON.stringify(fields)}`)),
      pace: { namespaceMs: 20 },
    });
  });
  afterAll(async () => {
    await worker.close();
    await evolution.close();
    await world.close();
  });

  test.each([
    ['a frame of 20 MiB', () => ({ text: 'x'.repeat(20 * MIB) })],
    ['800,000 keys', () => Object.fromEntries(Array.from({ length: 800_000 }, (_, n) => [`k${n}`, 1]))],
    ['a list of 60,000', () => Array(60_000).fill({})],
    ['a depth of 1,000', () => JSON.parse(`${'{"a":'.repeat(1_000)}1${'}'.repeat(1_000)}`)],
  ])(
    '%s does not end the worker, nor keeps it from what comes next',
    async (name, payload) => {
      const fake = evolution.add(`hostile-${instances++}`);
      await world.rows(
        'insert into evolution.instances (name, "tenantId", host, "apiKey") values ($1, $1, $2, $3)',
        [fake.name, evolution.url, fake.token],
      );
      const connected = async () =>
        (
          await world.rows(`select 1 from evolution.instances where name = $1 and status = 'connected'`, [
            fake.name,
          ])
        ).length === 1;
      await until('subscribed', () => fake.subscribed);
      fake.emit('presence.update', {});
      await until('connected', connected);
      fake.emit('messages.upsert', payload());
      fake.message({ jid: JID, text: 'oi', key: { id: name, remoteJid: JID, fromMe: false } });
      await until(
        'the next message is there',
        async () =>
          (await world.rows('select 1 from evolution.messages where "whatsappMessageId" = $1', [name]))
            .length,
        40_000,
      );
      if (name.startsWith('a frame')) await until('its connection was ended', () => lost(fake.name));
    },
    60_000,
  );

  test('an object with very many keys is not stored', () => {
    const many = Object.fromEntries(Array.from({ length: 2_001 }, (_, n) => [`k${n}`, 1]));
    expect(redact({ kept: 1, many })).toEqual({ kept: 1 });
  });

  test.each([
    ['apiKey', `E'first\\nsecond'`],
    ['host', `'http://admin:hidden@evolution'`],
    ['host', `E'http://evolution\\r\\nX: y'`],
  ])('%s = %s is refused by the table', async (column, value) => {
    const columns = { name: `'x'`, tenantId: `'x'`, host: `'http://x'`, apiKey: `'x'`, [column]: value };
    const names = Object.keys(columns).map((name) => `"${name}"`);
    await expect(
      world.rows(`insert into evolution.instances (${names}) values (${Object.values(columns)})`),
    ).rejects.toMatchObject({ code: '23514' });
  });
});
