// One client cannot hurt another: what a connection may send, and what becomes of one that sends more. Effects are
// looked at, not times; `npm run attacks` measures those.
import { IncomingMessage } from 'node:http';
import { connect } from 'node:net';
import { queryObjects } from 'node:v8';
import { WebSocket } from 'ws';
import { readSettings } from '../../config/settings.ts';
import { createLog } from '../../log.ts';
import { type Relay, startRelay } from '../../server/relay.ts';
import { Client, type Database, freshDatabase, metric, SECRET, startNode, token, until } from '../world.ts';
import { frame, openPolling, PING, RawSocket } from './hostile.ts';

let database: Database;
let relay: Relay;

beforeAll(async () => {
  database = await freshDatabase();
  relay = await startNode(database.url, { CORS_ORIGIN: 'https://app.example' });
  await relay.ready();
});

afterAll(async () => {
  await relay.close();
  await database.close();
});

async function startWithBuffer(clientBufferBytes: number): Promise<Relay> {
  const environment = { DATABASE_URL: database.url, JWT_SECRET: SECRET, HOST: '127.0.0.1', PORT: '0' };
  const settings = readSettings(environment);
  return startRelay({
    databaseUrl: database.url,
    jwt: settings.jwt,
    settings: { ...settings, relay: { ...settings.relay, clientBufferBytes } },
    log: createLog('silent', false),
  });
}

const connectPacket = async (account = 'acc-1') => `40${JSON.stringify({ token: await token(account) })}`;
const sockets = async () => (await relay.metrics.sockets.get()).values[0]?.value ?? 0;
const countSockets = async () => {
  await fetch(`http://127.0.0.1:${relay.port}/readyz`);
  return sockets();
};

describe('honest pages', () => {
  test.each([30, 100])('that emit %i times on connect connect once and hear every event', async (times) => {
    const client = new Client(relay, { token: await token() });
    client.socket.on('connect', () => {
      for (let n = 0; n < times; n += 1) client.socket.emit('join', n);
    });
    try {
      await client.live();
      for (let n = 0; n < 5; n += 1) {
        await database.query(`select relay.emit('acc-1', 'doctors.created', to_jsonb($1::int))`, [n]);
      }
      expect(await client.hears(5)).toEqual([0, 1, 2, 3, 4]);
      expect(client.connects).toHaveLength(1);
      expect(client.disconnects).toEqual([]);
    } finally {
      client.close();
    }
  });

  test('over long-polling are held, not closed', async () => {
    const client = new Client(relay, { token: await token() }, { transports: ['polling'] });
    try {
      await client.live();
      for (let n = 0; n < 60; n += 1) client.socket.emit('join', n);
      await database.query(`select relay.emit('acc-1', 'doctors.created', '1')`);
      await client.hears(1);
      expect(client.disconnects).toEqual([]);
    } finally {
      client.close();
    }
  });
});

describe('one connection', () => {
  test('has one subscriber, however many CONNECTs it sends at once', async () => {
    const before = await countSockets();
    const refused = await metric(relay, 'refused', { code: 'second_connect' });
    const raw = await RawSocket.open(relay.port);
    await until('the session is open', () => raw.texts.length > 0);
    const packet = await connectPacket();
    raw.send(...Array(100).fill(packet));
    await until('it is closed', () => raw.closed);
    expect(await metric(relay, 'refused', { code: 'second_connect' })).toBeGreaterThan(refused);
    await until('nothing is left of it', async () => (await countSockets()) === before);
  });

  test('that floods CONNECTs over a websocket is ended after some five hundred', async () => {
    const raw = await RawSocket.open(relay.port);
    await until('the session is open', () => raw.texts.length > 0);
    const packets = Array.from({ length: 80_000 }, (_, n) => `40/namespace-${n},`);
    raw.send(...packets);
    await until('it is ended', () => raw.closed);
    // A refusal for each that was handled.
    expect(raw.texts.length).toBeLessThan(700);
  });

  test('that floods one request over long-polling has none of its packets decoded', async () => {
    const url = await openPolling(relay.port);
    const before = await metric(relay, 'refused');
    // 21,000 packets in 63,000 bytes, which is within the length of a frame.
    const body = Array(21_000).fill('40').join('\x1e');
    await fetch(url, { method: 'POST', body }).catch(() => undefined);
    expect(await metric(relay, 'refused', { code: 'body_refused' })).toBe(1);
    expect(await metric(relay, 'refused')).toBe(before + 1);
    expect((await fetch(url)).status).toBe(400);
  });

  test.each(['with its length', 'in chunks'])(
    'whose body is too long, %s, loses its session',
    async (how) => {
      const url = await openPolling(relay.port);
      const before = await metric(relay, 'refused', { code: 'body_refused' });
      const body = 'x'.repeat(10_000_000);
      const sent = how === 'in chunks' ? new Blob([body]).stream() : body;
      await fetch(url, { method: 'POST', body: sent, duplex: 'half' }).catch(() => undefined);
      expect((await fetch(url)).status).toBe(400);
      expect(await metric(relay, 'refused', { code: 'body_refused' })).toBe(before + 1);
    },
  );

  test('that sends pings and does not read the pongs is ended', async () => {
    const raw = await RawSocket.open(relay.port);
    await until('the session is open', () => raw.texts.length > 0);
    raw.network.pause();
    const pings = Buffer.concat(Array(1_000).fill(frame(PING, Buffer.alloc(125))));
    // Ended within the first write or two.
    for (let n = 0; n < 200 && !raw.closed; n += 1) {
      raw.network.write(pings);
      await new Promise(setImmediate);
    }
    raw.network.resume();
    await until('it is ended', () => raw.closed);
  });

  test('is forgotten when it ends, whatever it still owed', async () => {
    const count = () => queryObjects(WebSocket, { format: 'count' });
    const all = await Promise.all(Array.from({ length: 20 }, () => RawSocket.open(relay.port)));
    await until('the sessions are open', () => all.every(({ texts }) => texts.length > 0));
    const before = count();
    // The first forty are free, the rest a debt of more than 500.
    const pings = Buffer.concat(Array(600).fill(frame(PING, Buffer.alloc(0))));
    for (const { network } of all) network.write(pings);
    await until('they are ended', () => all.every(({ closed }) => closed));
    await until('nothing holds them', () => count() <= before - all.length);
  });

  test('keeps nothing of its handshake', async () => {
    const count = () => queryObjects(IncomingMessage, { format: 'count' });
    const before = count();
    const all = await Promise.all(Array.from({ length: 20 }, () => RawSocket.open(relay.port)));
    for (const raw of all) raw.send(await connectPacket());
    await until('all are live', () =>
      all.every(({ texts }) => texts.some((said) => said.includes('relay:ready'))),
    );
    // Half of them, since requests of earlier tests may go meanwhile.
    await until('nothing holds the requests', () => count() < before + all.length / 2);
    for (const { network } of all) network.destroy();
  });

  test('that does not read its refusals is ended by the bytes that wait', async () => {
    // Less than CLIENT_BUFFER_BYTES may be: with the budget of a connection, filling that takes minutes.
    const small = await startWithBuffer(64 * 1024);
    try {
      await small.ready();
      const url = await openPolling(small.port);
      // Never polls. Each refusal repeats the name of the namespace. The budget allows all 500 at once.
      const names = Array.from({ length: 500 }, (_, n) => `40/${'x'.repeat(110)}${n},`);
      await fetch(url, { method: 'POST', body: names.join('\x1e') }).catch(() => undefined);
      expect(await metric(small, 'slowConsumers')).toBe(1);
      expect((await fetch(url)).status).toBe(400);
      expect(await metric(small, 'refused', { code: 'session_unknown' })).toBe(1);
      expect(await metric(small, 'refused')).toBe(1);
    } finally {
      await small.close();
    }
  });

  test('that floods auth:refresh is read no faster than its budget allows', async () => {
    const raw = await RawSocket.open(relay.port);
    await until('the session is open', () => raw.texts.length > 0);
    raw.send(await connectPacket());
    await until('it is live', () => raw.texts.some((sent) => sent.includes('relay:ready')));
    const refresh = `["auth:refresh",${JSON.stringify(await token())}]`;
    raw.send(...Array.from({ length: 2_000 }, (_, n) => `42${n}${refresh}`));
    await until('it is ended', () => raw.closed);
    expect(raw.texts.filter((sent) => sent.startsWith('43')).length).toBeLessThan(550);
  });
});

test('JSONP is refused, and the origin of every request is looked at, also where the session is there', async () => {
  const own = { origin: 'https://app.example' };
  const url = await openPolling(relay.port, own);
  const packet = await connectPacket();
  const refused = (code: string) => metric(relay, 'refused', { code });
  const before = { jsonp: await refused('jsonp_refused'), origin: await refused('origin_refused') };
  const post = (headers: Record<string, string>) => fetch(url, { method: 'POST', body: packet, headers });
  expect((await fetch(`${url}&j=0`, { headers: own })).status).toBe(400);
  expect(await refused('jsonp_refused')).toBe(before.jsonp + 1);
  expect((await post({ origin: 'https://evil.example' })).status).toBe(400);
  expect(await refused('origin_refused')).toBe(before.origin + 1);
  expect((await post(own)).status).toBe(200);
  const raw = await RawSocket.open(relay.port, '/socket.io/?EIO=4&transport=polling&j=1');
  await until('it is closed', () => raw.closed);
  expect(await refused('jsonp_refused')).toBe(before.jsonp + 2);
});

test('a session of another node is counted, so that a load balancer without stickiness shows', async () => {
  const counted = await metric(relay, 'refused', { code: 'session_unknown' });
  const response = await fetch(
    `http://127.0.0.1:${relay.port}/socket.io/?EIO=4&transport=polling&sid=ofAnotherNode`,
  );
  expect(response.status).toBe(400);
  expect(await metric(relay, 'refused', { code: 'session_unknown' })).toBe(counted + 1);
});

test('a request that drips in line by line is answered with 408 within twenty seconds', async () => {
  const slow = connect(relay.port, '127.0.0.1');
  slow.write('GET /healthz HTTP/1.1\r\nHost: x\r\n');
  let answered = '';
  slow.on('data', (chunk) => {
    answered += chunk;
  });
  // The server closes it with lines unread, so it may be reset.
  slow.on('error', () => undefined);
  const dripping = setInterval(() => slow.write('X-A: b\r\n'), 500);
  try {
    const began = Date.now();
    await new Promise((resolve) => slow.once('close', resolve));
    expect(answered).toMatch(/^HTTP\/1.1 408/);
    expect(Date.now() - began).toBeLessThan(20_000);
  } finally {
    clearInterval(dripping);
    slow.destroy();
  }
}, 40_000);

test('connections that send nothing are bounded for an address', async () => {
  const small = await startNode(database.url, { CONNECTIONS_PER_ADDRESS: '5' });
  const idle = Array.from({ length: 12 }, () => connect(small.port, '127.0.0.1'));
  try {
    let closed = 0;
    for (const socket of idle) {
      socket.on('error', () => undefined);
      socket.on('close', () => {
        closed += 1;
      });
    }
    await until('those above it are closed', () => closed === 7);
  } finally {
    for (const socket of idle) socket.destroy();
    await small.close();
  }
});

test('refusals are counted each, and said once with the address and the remedy', async () => {
  const { Refusals } = await import('../../transport/limits/refusals.ts');
  const { createMetrics } = await import('../../metrics.ts');
  const { hearing } = await import('../hearing.ts');
  const said: string[] = [];
  const metrics = createMetrics();
  const refusals = new Refusals(
    hearing((name, fields) => said.push(`${name} ${fields}`)),
    metrics,
  );
  for (let n = 0; n < 1_000; n += 1) refusals.note('origin_refused', { address: '10.0.0.1' });
  refusals.note('token_expired', { address: '10.0.0.2' });
  expect(said).toHaveLength(2);
  expect(said[0]).toContain('10.0.0.1');
  expect(said[0]).toContain('CORS_ORIGIN');
  const counted = (await metrics.refused.get()).values.filter(({ value }) => value > 0);
  expect(counted.map(({ value }) => value)).toEqual([1_000, 1]);
});
