// Socket.IO clients: who is let in, and which events they receive.
import { createServer, type Server as HttpServer } from 'node:http';
import { connect } from 'node:net';
import { text } from 'node:stream/consumers';
import { exportJWK, generateKeyPair, SignJWT } from 'jose';
import type { SocketOptions } from 'socket.io-client';
import type { Relay } from '../../server/relay.ts';
import { account, client, database, emit, ends, inAnHour, link, sign, start } from '../one-database.ts';
import { deadPort, metric, through, token, until } from '../world.ts';

describe('who is let in', () => {
  test('a client whose token is refused gets a code and a reason, and does not try again', async () => {
    const relay = await start();
    const cases: [code: string, auth: object | undefined][] = [
      ['token_missing', undefined],
      ['token_missing', {}],
      ['token_malformed', { token: 'abc' }],
      ['token_malformed', { token: 5 }],
      ['token_too_long', { token: 'x'.repeat(9_000) }],
      ['token_expired', { token: await sign({ accountId: 'a', exp: 1 }) }],
      ['token_signature', { token: await sign({ accountId: 'a', exp: inAnHour() }, 'another'.repeat(9)) }],
      ['token_claim', { token: await sign({ exp: inAnHour() }) }],
      ['token_claim', { token: await sign({ accountId: 'a' }) }],
    ];
    for (const [code, auth] of cases) {
      const c = client(relay, auth as SocketOptions['auth']);
      await until('a refusal', () => c.refusals.length);
      expect(c.refusals).toEqual([{ code, message: expect.stringMatching(/^[A-Z].* .*\.$/s) }]);
      expect(c.socket.active).toBe(false);
      expect(c.heard).toEqual([]);
    }
    expect(await metric(relay, 'refused', { code: 'token_claim' })).toBe(2);
  });

  test.each([
    ['auth.token', async () => ({ auth: { token: await token(account) } })],
    ['auth.token with Bearer before it', async () => ({ auth: { token: `Bearer ${await token(account)}` } })],
    ['the header', async () => ({ extraHeaders: { authorization: `Bearer ${await token(account)}` } })],
    [
      'the header, polling',
      async () => ({
        extraHeaders: { authorization: `Bearer ${await token(account)}` },
        transports: ['polling'],
      }),
    ],
    [
      'auth.token before the header',
      async () => ({
        auth: { token: await token(account) },
        extraHeaders: { authorization: `Bearer ${await token('nobody')}` },
      }),
    ],
  ])('by %s', async (_, options) => {
    const relay = await start();
    const c = client(relay, undefined, await options());
    await until('relay:ready', () => c.of('relay:ready').length);
    await emit(1);
    expect(await c.hears(1)).toEqual([1]);
  });

  test('while the key set is away nobody is refused: clients are closed, and come back by themselves', async () => {
    const { publicKey, privateKey } = await generateKeyPair('ES256');
    const jwk = { ...(await exportJWK(publicKey)), kid: 'k', alg: 'ES256' };
    const port = await deadPort();
    const relay = await start({ JWT_JWKS_URL: `http://127.0.0.1:${port}/` });
    const signed = await new SignJWT({ accountId: account })
      .setProtectedHeader({ alg: 'ES256', kid: 'k' })
      .setExpirationTime('1h')
      .sign(privateKey);
    const c = client(relay, { token: signed });
    await until(
      'three attempts',
      async () => (await metric(relay, 'refused', { code: 'jwks_unavailable' })) >= 3,
    );
    expect(c.refusals).toEqual([]);
    expect(c.socket.active).toBe(true);
    const issuer: HttpServer = createServer((_, response) => response.end(JSON.stringify({ keys: [jwk] })));
    await new Promise<void>((resolve) => issuer.listen(port, '127.0.0.1', resolve));
    ends.push(() => issuer.close());
    await c.live();
    await emit(1);
    expect(await c.hears(1)).toEqual([1]);
  });

  test('while the database is away nobody is refused either, and a position is honoured afterwards', async () => {
    const way = await link(Number(new URL(database.url).port));
    const real = way.target;
    await emit('seen');
    const [row] = await database.query<{ text: string }>('select relay.position() as text');
    await emit('missed');
    way.point(await deadPort());
    const relay = await start({}, through(way, database.url));
    for (const transports of [['websocket'], ['polling']]) {
      const c = client(relay, { token: await token(account), position: row!.text }, { transports });
      const before = await metric(relay, 'refused', { code: 'feed_not_ready' });
      await until(
        'it was closed',
        async () => (await metric(relay, 'refused', { code: 'feed_not_ready' })) > before,
      );
      expect(c.refusals.map(({ code }) => code)).not.toContain('feed_not_ready');
      expect(c.socket.active).toBe(true);
      way.point(real);
      expect(await c.hears(1)).toEqual(['missed']);
      way.point(await deadPort());
      way.cut();
      await until('the relay noticed', async () => !(await isReady(relay)));
      // Whoever is connected stays, and hears what comes later.
      expect(c.socket.connected).toBe(true);
    }
  });

  test('each hears its own account and nothing else, however the accounts are named', async () => {
    const relay = await start();
    const names = [
      'a',
      'A',
      'a ',
      'a.b',
      '*',
      'ação',
      "a'; drop table relay.events; --",
      '1',
      'x'.repeat(256),
    ].map((name) => name.slice(0, 256));
    const clients = await Promise.all(names.map(async (name) => client(relay, { token: await token(name) })));
    const numeric = client(relay, { token: await sign({ accountId: 1, exp: inAnHour() }) });
    await Promise.all([...clients, numeric].map((c) => until('ready', () => c.of('relay:ready').length)));
    for (const name of names) await emit(`for ${name}`, name);
    // An account like a room, and an event for nobody here.
    await emit('room', 'orders.account.a');
    for (const name of names) await emit('end', name);
    for (const [i, c] of clients.entries()) expect(await c.hears(2)).toEqual([`for ${names[i]}`, 'end']);
    expect(await numeric.hears(2)).toEqual(['for 1', 'end']);
  });

  test('what clients send is ignored: events, rooms, other namespaces, other people’s events', async () => {
    const relay = await start();
    const other = client(relay, { token: await token('other') });
    const c = client(relay, { token: await token(account) });
    await Promise.all([c.live(), other.live()]);
    c.socket.emit('join', 'orders.account.other');
    c.socket.emit('test.event', 'mine', () => undefined);
    c.socket.emit('relay:resync', {}, [], 5);
    c.socket.emit('auth:refresh');
    c.socket.emit('auth:refresh', {}, 'no function');
    const elsewhere = c.socket.io.socket('/admin', { auth: c.socket.auth });
    const refused = new Promise<Error>((resolve) => elsewhere.once('connect_error', resolve));
    elsewhere.connect();
    expect((await refused).message).toBe('Invalid namespace');
    await emit('theirs', 'other');
    await emit('own');
    expect(await other.hears(1)).toEqual(['theirs']);
    expect(await c.hears(1)).toEqual(['own']);
    expect(c.connects).toHaveLength(1);
    // Small frames only: a large one ends the connection, not the relay.
    c.socket.emit('large', 'x'.repeat(1_000_000));
    await c.live(2);
    await emit('again');
    expect(await c.hears(2)).toEqual(['own', 'again']);
  });

  test('an event that the contract does not know is not sent, but counted', async () => {
    const relay = await start();
    const c = client(relay, { token: await token(account) });
    await c.live();
    await database.query("select relay.emit($1, 'test.unknown', '1')", [account]);
    await emit(2);
    expect(await c.hears(1)).toEqual([2]);
    expect(await metric(relay, 'unknownEvents')).toBe(1);
  });

  test('no request ends the relay', async () => {
    const relay = await start();
    for (const target of ['//', 'http://[', '*', '/socket.io/?EIO=4&transport=polling&sid=%', '/%']) {
      const socket = connect(relay.port, '127.0.0.1');
      socket.write(`GET ${target} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n`);
      expect(await text(socket)).toMatch(/^HTTP\/1\.1 4/);
    }
  });
});

async function isReady(relay: Relay): Promise<boolean> {
  return (await fetch(`http://127.0.0.1:${relay.port}/readyz`)).status === 200;
}
