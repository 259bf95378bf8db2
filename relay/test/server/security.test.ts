// What docs/threat-model.md promises of the network's side.
import { once } from 'node:events';
import { connect } from 'node:net';
import { io, type Socket } from 'socket.io-client';
import { signToken } from '../../auth/sign.ts';
import { readSettings } from '../../config/settings.ts';
import { createLog } from '../../log.ts';
import { type Relay, startRelay } from '../../server/relay.ts';
import { createDatabase, type TestDatabase } from '../postgres.ts';

const SECRET = 'a secret of this test, thirty-two bytes';
let database: TestDatabase;
let relay: Relay;
const clients: Socket[] = [];

beforeAll(async () => {
  database = await createDatabase();
  relay = await start({});
});

afterEach(() => {
  for (const client of clients.splice(0)) client.disconnect();
});

afterAll(async () => {
  await relay.close();
  await database.close();
});

async function start(environment: Record<string, string>): Promise<Relay> {
  const settings = readSettings({
    DATABASE_URL: database.url,
    JWT_SECRET: SECRET,
    HOST: '127.0.0.1',
    PORT: '0',
    CORS_ORIGIN: 'https://app.example',
    ...environment,
  });
  const started = await startRelay({
    databaseUrl: database.url,
    jwt: settings.jwt,
    settings,
    log: createLog('silent', false),
  });
  await started.ready();
  return started;
}

async function client(of: Relay, headers: Record<string, string> = {}): Promise<Socket> {
  const token = await signToken({ secret: SECRET, accountId: '1', expiresIn: 60, claim: 'accountId' });
  const socket = io(of.url, {
    auth: { token },
    extraHeaders: headers,
    transports: ['websocket'],
    reconnection: false,
    forceNew: true,
  });
  clients.push(socket);
  return socket;
}

async function outcome(socket: Socket): Promise<'connected' | 'refused'> {
  return new Promise((resolve) => {
    socket.once('relay:ready', () => resolve('connected'));
    socket.once('connect_error', () => resolve('refused'));
    // A passing fault closes the transport.
    socket.io.once('close', () => resolve('refused'));
  });
}

test('a websocket of a foreign origin is refused, one of CORS_ORIGIN is not', async () => {
  expect(await outcome(await client(relay, { origin: 'https://evil.example' }))).toBe('refused');
  expect(await outcome(await client(relay, { origin: 'https://app.example' }))).toBe('connected');
});

test('one account holds only so many connections, and gets them back', async () => {
  const small = await start({ CONNECTIONS_PER_ACCOUNT: '1' });
  try {
    const first = await client(small);
    expect(await outcome(first)).toBe('connected');
    expect(await outcome(await client(small))).toBe('refused');
    first.disconnect();
    let again = await outcome(await client(small));
    // The server hears of the first one's end a moment later.
    while (again === 'refused') again = await outcome(await client(small));
    expect(again).toBe('connected');
  } finally {
    await small.close();
  }
});

test('a frame over the limit closes the transport, other events are ignored', async () => {
  const socket = await client(relay);
  expect(await outcome(socket)).toBe('connected');
  const heard: unknown[] = [];
  const delivered = new Promise<void>((resolve) => {
    socket.onAny((event) => {
      heard.push(event);
      if (event === 'doctors.created') resolve();
    });
  });
  socket.emit('relay:resync', { reason: 'epoch' });
  socket.emit('join', 'orders.account.2');
  await database.pool.query(
    `select relay.emit('2', 'doctors.created', '{}'), relay.emit('1', 'doctors.created', '{}')`,
  );
  await delivered;
  expect(heard).toEqual(['doctors.created']);
  socket.emit('large', 'x'.repeat(300 * 1024));
  await new Promise((resolve) => socket.once('disconnect', resolve));
});

describe('operators', () => {
  const get = (of: Relay, path: string, headers: Record<string, string> = {}) =>
    fetch(`http://127.0.0.1:${of.port}${path}`, { headers });

  test('without OPERATOR_TOKEN nobody, not even this machine', async () => {
    for (const path of ['/metrics', '/trace?id=1', '/console/operations']) {
      expect((await get(relay, path)).status).toBe(403);
      expect((await get(relay, path, { 'x-forwarded-for': '6.6.6.6' })).status).toBe(403);
    }
    expect((await get(relay, '/console/contract')).status).toBe(401);
  });

  test('with OPERATOR_TOKEN only with it, never with a token of a clinic', async () => {
    const operated = await start({ OPERATOR_TOKEN: 'an operator token' });
    try {
      const token = await signToken({ secret: SECRET, accountId: '1', expiresIn: 60, claim: 'accountId' });
      expect((await get(operated, '/metrics')).status).toBe(403);
      expect((await get(operated, '/metrics', { authorization: `Bearer ${token}` })).status).toBe(403);
      const allowed = await get(operated, '/metrics', { authorization: 'Bearer an operator token' });
      expect(allowed.status).toBe(200);
      expect(await allowed.text()).toContain('recado_events_read_total');
    } finally {
      await operated.close();
    }
  });
});

test('answers carry the headers that keep browsers out of trouble, and no details of an error', async () => {
  const missing = await fetch(`http://127.0.0.1:${relay.port}/nothing%00here`);
  expect(missing.status).toBe(404);
  expect(missing.headers.get('x-content-type-options')).toBe('nosniff');
  expect(missing.headers.get('x-frame-options')).toBe('DENY');
  expect(missing.headers.get('referrer-policy')).toBe('no-referrer');
  const operated = await start({ OPERATOR_TOKEN: 'an operator token' });
  try {
    const ask = (path: string) =>
      fetch(`http://127.0.0.1:${operated.port}${path}`, {
        headers: { authorization: 'Bearer an operator token' },
      });
    const invalid = await ask('/trace?id=1;drop');
    expect(invalid.status).toBe(400);
    const refusal = await invalid.text();
    expect(refusal).toContain('id_invalid');
    expect(refusal).not.toMatch(/ at |\.ts|\.js|select|drop/i);
    await database.pool.query('alter view relay.contract rename to contract_that_was');
    const failed = await ask('/console/contract');
    expect(failed.status).toBe(500);
    expect(await failed.json()).toEqual({
      error: {
        code: 'internal_error',
        message: 'Something went wrong here; the log of the relay says what.',
      },
    });
  } finally {
    await database.pool.query('alter view if exists relay.contract_that_was rename to contract');
    await operated.close();
  }
});

test('what is not HTTP is answered and closed', async () => {
  const socket = connect(relay.port, '127.0.0.1');
  socket.end('NONSENSE\r\n\r\n');
  let text = '';
  socket.on('data', (data) => {
    text += String(data);
  });
  await once(socket, 'close');
  expect(text).toMatch(/^HTTP\/1.1 400/);
});
