// Socket.IO clients: admission, which events they receive, tokens over time, slow readers, fan-out.
import { createServer, type Server as HttpServer } from 'node:http';
import { connect } from 'node:net';
import { text } from 'node:stream/consumers';
import { exportJWK, generateKeyPair, SignJWT } from 'jose';
import { Server, type Socket as ServerSocket } from 'socket.io';
import type { ManagerOptions, SocketOptions } from 'socket.io-client';
import type { Delivery } from '../../delivery/deliveries.ts';
import { Encoded } from '../../delivery/encode.ts';
import { parsePosition } from '../../outbox/position.ts';
import { portOf } from '../../port.ts';
import type { Relay } from '../../server/relay.ts';
import { RelayAdapter } from '../../transport/adapter.ts';
import { writerOf } from '../../transport/socket-writer.ts';
import { useNodes } from '../nodes.ts';
import {
  type Client,
  type Database,
  deadPort,
  freshDatabase,
  metric,
  SECRET,
  through,
  token,
  until,
} from '../world.ts';

let database: Database;
/** Of the test that runs. */
let account: string;
let tests = 0;
beforeAll(async () => {
  database = await freshDatabase();
  await database.query("select relay.publish(event => 'test.event')");
});
beforeEach(() => {
  tests += 1;
  account = `acc-${tests}`;
});
afterAll(() => database.close());
const { start: node, client, link, ends } = useNodes(() => database);

async function emit(payload: unknown, to = account): Promise<void> {
  await database.query('select relay.emit($1, $2, $3)', [to, 'test.event', JSON.stringify(payload)]);
}

const range = (from: number, to: number) => Array.from({ length: to - from + 1 }, (_, i) => from + i);

function sign(claims: Record<string, unknown>, secret = SECRET): Promise<string> {
  return new SignJWT(claims).setProtectedHeader({ alg: 'HS256' }).sign(new TextEncoder().encode(secret));
}

const inAnHour = () => Math.floor(Date.now() / 1000) + 3600;

describe('who is let in', () => {
  test('a refused token is told why, by a code, and its client does not come back with it', async () => {
    const relay = await node();
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
    const relay = await node();
    const c = client(relay, undefined, await options());
    await until('relay:ready', () => c.of('relay:ready').length);
    await emit(1);
    expect(await c.hears(1)).toEqual([1]);
  });

  test('while the key set is away nobody is refused: clients are closed, and come back by themselves', async () => {
    const { publicKey, privateKey } = await generateKeyPair('ES256');
    const jwk = { ...(await exportJWK(publicKey)), kid: 'k', alg: 'ES256' };
    const port = await deadPort();
    const relay = await node({ JWT_JWKS_URL: `http://127.0.0.1:${port}/` });
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

  test('while the database is away too, and a position is honoured afterwards', async () => {
    const way = await link(Number(new URL(database.url).port));
    const real = way.target;
    await emit('seen');
    const [row] = await database.query<{ text: string }>('select relay.position() as text');
    await emit('missed');
    way.point(await deadPort());
    const relay = await node({}, through(way, database.url));
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
    const relay = await node();
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
    const relay = await node();
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
    const relay = await node();
    const c = client(relay, { token: await token(account) });
    await c.live();
    await database.query("select relay.emit($1, 'test.unknown', '1')", [account]);
    await emit(2);
    expect(await c.hears(1)).toEqual([2]);
    expect(await metric(relay, 'unknownEvents')).toBe(1);
  });

  test('no request ends the relay', async () => {
    const relay = await node();
    for (const target of ['//', 'http://[', '*', '/socket.io/?EIO=4&transport=polling&sid=%', '/%']) {
      const socket = connect(relay.port, '127.0.0.1');
      socket.write(`GET ${target} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n`);
      expect(await text(socket)).toMatch(/^HTTP\/1\.1 4/);
    }
  });
});

describe('tokens over time', () => {
  test('a client whose token ends is sent away, and comes back with a fresh one, having missed nothing', async () => {
    const relay = await node({ JWT_CLOCK_TOLERANCE: '0' });
    let asked = 0;
    const c = client(relay, async (send: (auth: object) => void) => {
      asked += 1;
      send({ token: await token(account, { expiresIn: asked === 1 ? 2 : 3600 }) });
    });
    await c.live();
    let n = 0;
    while (c.connects.length < 2) {
      n += 1;
      await emit(n);
    }
    await emit(n + 1);
    expect(await c.hears(n + 1)).toEqual(range(1, n + 1));
    expect(c.connects.map(({ recovered }) => recovered)).toEqual([false, true]);
    expect(c.disconnects).toEqual(['transport close']);
    expect(c.refusals).toEqual([]);
  });

  test('with an object for auth it is refused then, and says so', async () => {
    const relay = await node({ JWT_CLOCK_TOLERANCE: '0' });
    const c = client(relay, { token: await token(account, { expiresIn: 1 }) });
    await c.live();
    await until('a refusal', () => c.refusals.length);
    expect(c.refusals).toMatchObject([{ code: 'token_expired' }]);
    expect(c.socket.active).toBe(false);
  });

  test('auth:refresh keeps the connection, unless the new token is no good', async () => {
    const relay = await node({ JWT_CLOCK_TOLERANCE: '0' });
    const short = await token(account, { expiresIn: 2 });
    const [kept, lost] = [client(relay, { token: short }), client(relay, { token: short })];
    await Promise.all([kept.live(), lost.live()]);
    const ask = (c: Client, ...args: unknown[]) =>
      c.socket.timeout(5_000).emitWithAck('auth:refresh', ...args);
    expect(await ask(lost, await token('other'))).toEqual({ ok: false, code: 'token_of_another_account' });
    expect(await ask(lost, await sign({ accountId: account, exp: 1 }))).toEqual({
      ok: false,
      code: 'token_expired',
    });
    expect(await ask(lost, 'abc')).toEqual({ ok: false, code: 'token_malformed' });
    expect(await ask(lost, null)).toEqual({ ok: false, code: 'token_missing' });
    const fresh = await token(account);
    const answer = (await ask(kept, fresh)) as { ok: boolean; expiresAt: string };
    expect(answer.ok).toBe(true);
    expect(Date.parse(answer.expiresAt)).toBeGreaterThan(Date.now() + 3_000_000);
    await until('the other one is sent away', () => lost.disconnects.length);
    await emit(1);
    expect(await kept.hears(1)).toEqual([1]);
    expect(kept.connects).toHaveLength(1);
    expect(kept.disconnects).toEqual([]);
  });

  test('a token that lasts longer than timers can is not closed at once', async () => {
    const relay = await node();
    const c = client(relay, { token: await token(account, { expiresIn: 60 * 86_400 }) });
    await c.live();
    await emit(1);
    await c.hears(1);
    await emit(2);
    expect(await c.hears(2)).toEqual([1, 2]);
    expect(c.disconnects).toEqual([]);
  });

  test('revoked: by subject, by token id, by account; everywhere, at once, and for those who come later', async () => {
    const nodes = [await node(), await node()];
    const ana = await token(account, { subject: 'ana' });
    const bia = await token(account, { subject: 'bia' });
    const { jti } = JSON.parse(Buffer.from(bia.split('.')[1]!, 'base64url').toString()) as { jti: string };
    const old = await sign({ accountId: account, exp: inAnHour() });
    const make = (issued: string) => nodes.map((relay) => client(relay, { token: issued }));
    const [ofAna, ofBia, ofOld] = [make(ana), make(bia), make(old)];
    await Promise.all([...ofAna, ...ofBia, ...ofOld].map((c) => c.live()));
    const gone = (clients: Client[]) =>
      Promise.all(clients.map((c) => until('a refusal', () => c.refusals[0]?.code === 'token_revoked')));
    const later = "now() + interval '5 seconds'";

    await database.query(`select relay.revoke($1, subject => 'ana', before => ${later})`, [account]);
    await gone(ofAna);
    await database.query(`select relay.revoke($1, token_id => $2, before => ${later})`, [account, jti]);
    await gone(ofBia);
    await emit(1);
    for (const c of ofOld) expect(await c.hears(1)).toEqual([1]);
    // Issued who knows when: before everything.
    await database.query("select relay.revoke($1, before => '2000-01-01')", [account]);
    await gone(ofOld);
    for (const c of [...ofAna, ...ofBia, ...ofOld]) expect(c.socket.active).toBe(false);
    for (const issued of [ana, bia, old]) {
      const [c] = make(issued);
      await gone([c!]);
      expect(c!.heard).toEqual([]);
    }
    const [carla] = make(await token(account, { subject: 'carla' }));
    await carla!.live();
    // A relay that starts later knows it from the table.
    const third = await node();
    const c = client(third, { token: ana });
    await gone([c]);
    expect(await metric(third, 'refused', { code: 'token_revoked' })).toBe(1);
  });
});

describe('what arrives', () => {
  test('a payload of 200 KB, and one of nearly 4 MiB, as they are', async () => {
    // The smallest budget that may be configured.
    const relay = await node({ CLIENT_BUFFER_BYTES: `${4 * 1024 * 1024 + 64 * 1024}` });
    const c = client(relay, { token: await token(account) });
    await c.live();
    const texts = [`ação "${'é'.repeat(100_000)}"`, 'x'.repeat(4 * 1024 * 1024 - 100)];
    for (const payload of texts) await emit(payload);
    const heard = await c.hears(2);
    for (const [i, payload] of texts.entries()) expect(heard[i] === payload).toBe(true);
    expect(c.connects).toHaveLength(1);
    // The same from memory, behind small ones.
    const late = client(relay, { token: await token(account), position: c.heard[0]!.position });
    await late.hears(2);
    expect(late.payloads[1] === texts[1]).toBe(true);
    expect(late.connects).toHaveLength(1);
  });

  test('relay:resync in the place of an event that is larger than may be sent', async () => {
    const relay = await node();
    const c = client(relay, { token: await token(account) });
    await c.live();
    // It fits into the table: as text it takes six bytes where jsonb takes one.
    await database.query("select relay.emit($1, 'test.event', to_jsonb(repeat(chr(1), 1000000)))", [account]);
    await emit('next');
    expect(await c.hears(1)).toEqual(['next']);
    expect(c.of('relay:resync')).toEqual([{ reason: 'event_too_large', event: 'test.event' }]);
    expect(c.connects).toHaveLength(1);
    const late = client(relay, { token: await token(account), position: c.heard[0]!.position });
    expect(await late.hears(1)).toEqual(['next']);
    expect(late.of('relay:resync')).toEqual([{ reason: 'event_too_large', event: 'test.event' }]);
  });

  test('also where an application inserted what relay.emit() would have refused', async () => {
    const relay = await node();
    const c = client(relay, { token: await token(account) });
    await c.live();
    // Stored as what it is, and as a hundredth of that.
    for (const text of ["string_agg(md5(n::text), '')", "repeat('x', 30 * max(n))"]) {
      await database.query(
        `insert into relay.events (account_id, event, payload)
         select $1, 'test.event', to_jsonb(${text}) from generate_series(1, 200000) as n`,
        [account],
      );
    }
    // Nobody can have such an account.
    await database.query(
      `insert into relay.events (account_id, event) values (repeat('x', 2000), 'test.event'), (repeat('x', 200000), 'test.event')`,
    );
    await emit('next');
    expect(await c.hears(1)).toEqual(['next']);
    const resync = { reason: 'event_too_large', event: 'test.event' };
    expect(c.of('relay:resync')).toEqual([resync, resync]);
    const late = client(relay, { token: await token(account), position: c.heard[0]!.position });
    expect(await late.hears(1)).toEqual(['next']);
    // Together they are told once.
    expect(late.of('relay:resync')).toEqual([resync]);
  });

  test('10,000 events of one transaction, whole and in order', async () => {
    const relay = await node();
    const [socket, polling] = [
      client(relay, { token: await token(account) }),
      client(relay, { token: await token(account) }, { transports: ['polling'] }),
    ];
    await Promise.all([socket.live(), polling.live()]);
    await database.query(
      `insert into relay.events (account_id, event, payload)
       select $1, 'test.event', to_jsonb(n) from generate_series(1, 10000) n`,
      [account],
    );
    for (const c of [socket, polling]) {
      expect(await c.hears(10_000)).toEqual(range(1, 10_000));
      expect(c.connects).toHaveLength(1);
    }
  });

  test('more than the budget in one transaction, and nobody who reads is sent away for it', async () => {
    const relay = await node();
    const clients = [
      client(relay, { token: await token(account) }),
      client(relay, { token: await token(account) }),
    ];
    await Promise.all(clients.map((c) => c.live()));
    await database.query(
      `insert into relay.events (account_id, event, payload)
       select $1, 'test.event', jsonb_build_array(n, repeat('x', 4000)) from generate_series(1, 2500) n`,
      [account],
    );
    await emit(['after']);
    for (const c of clients) {
      const heard = (await c.hears(2_501)) as unknown[][];
      expect(heard.map(([n]) => n)).toEqual([...range(1, 2_500), 'after']);
      expect(c.connects).toHaveLength(1);
      expect(c.of('relay:ready')).toHaveLength(1);
    }
    expect(await metric(relay, 'slowConsumers')).toBe(0);
  });

  test('everything once to a client that stopped reading and was sent away', async () => {
    const relay = await node({ CLIENT_BUFFER_BYTES: '5MiB' });
    const slow = client(relay, { token: await token(account) });
    const quick = client(relay, { token: await token(account) });
    await Promise.all([slow.live(), quick.live()]);
    slow.network.pause();
    let n = 0;
    await until('it is sent away', async () => {
      n += 1;
      await emit([n, 'x'.repeat(400_000)]);
      return (await metric(relay, 'slowConsumers')) > 0;
    });
    slow.network.resume();
    for (const c of [slow, quick]) {
      expect(((await c.hears(n)) as number[][]).map(([i]) => i)).toEqual(range(1, n));
    }
    expect(slow.connects.map(({ recovered }) => recovered)).toEqual([false, true]);
    expect(quick.connects).toHaveLength(1);
  });

  test('no resync for other accounts when a capture fails for one, and one for all when it fails for all', async () => {
    const relay = await node();
    const [a, b] = [
      client(relay, { token: await token(account) }),
      client(relay, { token: await token('b') }),
    ];
    await Promise.all([a.live(), b.live()]);
    const failed = JSON.stringify({
      reason: 'capture_failed',
      event: 'test.event',
      table: 'secret',
      error: 'secret',
    });
    await database.query(
      "insert into relay.events (account_id, event, payload) values ($1, 'relay:resync', $2)",
      [account, failed],
    );
    await emit(1);
    await emit(1, 'b');
    await Promise.all([a.hears(1), b.hears(1)]);
    expect(a.of('relay:resync')).toEqual([{ reason: 'capture_failed', event: 'test.event' }]);
    expect(b.of('relay:resync')).toEqual([]);
    await database.query(
      "insert into relay.events (account_id, event, payload) values (null, 'relay:resync', $1)",
      [failed],
    );
    await emit(2);
    await emit(2, 'b');
    await Promise.all([a.hears(2), b.hears(2)]);
    expect(a.of('relay:resync')).toHaveLength(2);
    expect(b.of('relay:resync')).toHaveLength(1);
    expect(JSON.stringify([a.heard, b.heard])).not.toContain('secret');
  });

  test('one relay:resync for everybody when the database has become another one', async () => {
    // Alone on its database: the epoch is everybody's.
    const own = await freshDatabase();
    ends.push(() => own.close());
    await own.query("select relay.publish(event => 'test.event')");
    const relay = await node({}, own.url);
    const clients = await Promise.all(
      range(1, 5).map(async (n) => client(relay, { token: await token(`${account}-${n % 3}`) })),
    );
    await Promise.all(clients.map((c) => until('ready', () => c.of('relay:ready').length)));
    await own.query('update relay.installation set id = gen_random_uuid()');
    await own.query(
      "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'recado feed'",
    );
    await Promise.all(clients.map((c) => until('relay:resync', () => c.of('relay:resync').length)));
    for (const c of clients) {
      expect(c.of('relay:resync')).toEqual([{ reason: 'epoch' }]);
      expect(c.connects).toHaveLength(1);
      c.cut();
    }
    await Promise.all(clients.map((c) => c.live(2)));
    for (const n of range(0, 2)) {
      await own.query("select relay.emit($1, 'test.event', '1')", [`${account}-${n}`]);
    }
    for (const c of clients) {
      expect(await c.hears(1)).toEqual([1]);
      expect(c.of('relay:resync')).toHaveLength(1);
      expect(c.connects[1]).toMatchObject({ recovered: true });
    }
  });
});

describe('bare clients', () => {
  test('get events without a position, and positions in an event of their own', async () => {
    const relay = await node();
    const c = client(relay, { token: await token(account), bare: true });
    await until('a greeting', () => c.heard.length >= 2);
    const args: unknown[][] = [];
    c.socket.on('test.event', (...all: unknown[]) => args.push(all));
    await emit({ n: 1 });
    await emit({ n: 2 });
    await until(
      'the events and a position',
      () => args.length >= 2 && c.heard.at(-1)!.event === 'relay:position',
    );
    expect(args).toEqual([[{ n: 1 }], [{ n: 2 }]]);
    expect(c.heard[0]).toMatchObject({ event: 'relay:ready', payload: { accountId: account } });
    expect(c.of('relay:position').every((text) => parsePosition(text as string) !== null)).toBe(true);

    // Any client of any language goes on with auth.position.
    const position = c.of('relay:position').at(-1);
    c.close();
    await emit({ n: 3 });
    const again = client(relay, { token: await token(account), bare: true, position });
    expect(await again.hears(1)).toEqual([{ n: 3 }]);
    expect(again.of('relay:resync')).toEqual([]);
  });

  test('are told fresh positions too, each a good one, also when they resume like stock clients', async () => {
    const relay = await node({ WINDOW_EVENTS: '100' });
    const busy = client(relay, { token: await token(`${account}-busy`) });
    const quiet = client(relay, { token: await token(account), bare: true });
    await Promise.all([busy.live(), quiet.live()]);
    let n = 0;
    while (quiet.of('relay:position').length < 3) {
      for (const last = n + 10; n < last; n += 1) await emit(n, `${account}-busy`);
      await busy.hears(n);
    }
    const positions = quiet.of('relay:position');
    expect(positions.filter((text) => parsePosition(text as string) === null)).toEqual([]);
    quiet.cut();
    await quiet.live(2);
    await emit({ n: 1 });
    expect(await quiet.hears(1)).toEqual([{ n: 1 }]);
    expect(quiet.of('relay:resync')).toEqual([]);
    expect(quiet.connects[1]).toMatchObject({ recovered: true });
    expect(quiet.of('relay:position').filter((text) => parsePosition(text as string) === null)).toEqual([]);
  });
});

describe('close()', () => {
  test('sends everybody away so that they come back, also past a client that does not answer', async () => {
    const relay = await node();
    const { port } = relay;
    const way = await link(port);
    const frozen = client(way, { token: await token(account) });
    const clients = [
      client(relay, { token: await token(account) }),
      client(relay, { token: await token(account) }, { transports: ['polling'] }),
    ];
    await Promise.all([frozen, ...clients].map((c) => c.live()));
    way.freeze();
    let closed = false;
    void Promise.all([relay.close(), relay.close()]).then(() => {
      closed = true;
    });
    await until('the relay is closed', () => closed, 5_000);
    way.thaw();
    await node({ PORT: String(port) });
    for (const c of [frozen, ...clients]) {
      await c.live(2);
      expect(c.connects[1]).toMatchObject({ recovered: true });
    }
    await emit(1);
    for (const c of [frozen, ...clients]) expect(await c.hears(1)).toEqual([1]);
  });

  test.each(['away', 'frozen'])('ends in time while the database is %s', async (how) => {
    const way = await link(Number(new URL(database.url).port));
    if (how === 'away') way.point(await deadPort());
    else way.freeze();
    const relay = await node({}, through(way, database.url));
    const c = client(relay, { token: await token(account) });
    await until(
      'an attempt',
      () => (c.socket.io.engine as unknown as { readyState: string }).readyState === 'open',
    );
    let closed = false;
    void relay.close().then(() => {
      closed = true;
    });
    await until('the relay is closed', () => closed, 5_000);
    if (how === 'frozen') way.cut();
  });

  test('ends in time when the database freezes under way', async () => {
    const way = await link(Number(new URL(database.url).port));
    const relay = await node({ WINDOW_EVENTS: '100' }, through(way, database.url));
    await relay.ready();
    const [row] = await database.query<{ text: string }>('select relay.position() as text');
    await database.query(
      `insert into relay.events (account_id, event) select $1, 'test.event' from generate_series(1, 300)`,
      [account],
    );
    const witness = client(relay, { token: await token(account) });
    await witness.live();
    await emit('read');
    await witness.hears(1);
    way.freeze();
    // A replay that waits for the database, and clients that wait for the replay.
    const c = client(relay, { token: await token(account), position: row!.text });
    await until(
      'an attempt',
      () => (c.socket.io.engine as unknown as { readyState: string }).readyState === 'open',
    );
    let closed = false;
    void relay.close().then(() => {
      closed = true;
    });
    await until('the relay is closed', () => closed, 5_000);
    way.cut();
  });
});

describe('fan-out', () => {
  let http: HttpServer;
  let io: Server;
  const sockets: ServerSocket[] = [];

  beforeEach(async () => {
    http = createServer();
    io = new Server(http, {
      adapter: RelayAdapter,
      perMessageDeflate: false,
      pingInterval: 20,
      pingTimeout: 20_000,
      maxHttpBufferSize: 1e8,
    });
    sockets.length = 0;
    io.on('connection', (socket) => sockets.push(socket));
    await new Promise<void>((resolve) => http.listen(0, '127.0.0.1', resolve));
    ends.push(() => io.close());
  });

  /** A client and the server's end of it. */
  async function pair(options: Partial<ManagerOptions> = {}): Promise<[Client, ServerSocket]> {
    const c = client(portOf(http), {}, options);
    await until('it is connected', () => c.socket.connected);
    const { id } = c.socket;
    const socket = await until('the server has it', () => sockets.find((one) => one.id === id));
    return [c, socket];
  }

  const delivery = (payload: unknown, event = 'e', position = 'p'): Delivery => ({
    event,
    payload: JSON.stringify(payload),
    position,
  });

  test('frames of every length arrive as they are, also where the length takes another form', async () => {
    const [c, socket] = await pair();
    const empty = '42["e","","p"]'.length;
    const lengths = [0, 1, 125, 126, 127, 65_535, 65_536, 65_537, 1_000_000].map((n) =>
      Math.max(n - empty, 0),
    );
    const texts = lengths.map((length) => 'x'.repeat(length));
    // Bytes count, not characters.
    texts.push(...[125, 126, 65_535, 65_536].map((n) => 'é'.repeat((n - empty) >> 1)));
    const writer = writerOf(socket.conn);
    writer.write(new Encoded(texts.map((text) => delivery(text))));
    for (const text of texts) writer.write(new Encoded([delivery(text)]));
    const heard = await c.hears(2 * texts.length);
    for (const [i, text] of [...texts, ...texts].entries()) expect(heard[i] === text).toBe(true);
  });

  test('the joined frames, the ordinary path and Socket.IO’s own emits keep one order', async () => {
    const clients = await Promise.all([
      pair(),
      pair(),
      pair({ transports: ['polling'] }),
      pair({ transports: ['polling', 'websocket'] }),
    ]);
    // Internals that are not as expected: the ordinary path.
    const [, forced] = clients[1]!;
    Object.defineProperty(forced.conn.transport, 'perMessageDeflate', { value: {}, writable: true });
    const packets = clients.map(([, { conn }]) => {
      const counted = { writes: 0 };
      const ordinary = conn.write.bind(conn);
      conn.write = (...args) => {
        counted.writes += 1;
        return ordinary(...args);
      };
      return counted;
    });

    const writers = clients.map(([, socket]) => writerOf(socket.conn));
    let n = 0;
    for (let round = 0; round < 300; round += 1) {
      const size = round % 4;
      if (size === 0) {
        n += 1;
        for (const [, socket] of clients) socket.emit('own', n, 'p');
      } else {
        const encoded = new Encoded(
          Array.from({ length: size }, () => {
            n += 1;
            return delivery(round % 50 === 1 ? { n, filler: 'x'.repeat(100_000) } : n);
          }),
        );
        for (const writer of writers) writer.write(encoded);
      }
      // A write of engine.io is out when its callback has come.
      if (round % 4 === 0) await new Promise(setImmediate);
      if (round % 50 === 0) await new Promise((resolve) => setTimeout(resolve, 5));
    }
    for (const [c] of clients) {
      const heard = (await c.hears(n)).map((one) =>
        typeof one === 'number' ? one : (one as { n: number }).n,
      );
      expect(heard).toEqual(range(1, n));
    }
    // The first went by the quick path most of the time, the second never.
    expect(packets[1]!.writes).toBeGreaterThanOrEqual(n);
    expect(packets[0]!.writes).toBeLessThan(n / 2);
  });

  test('what waits for a client that leaves and joins again over one connection is counted as one', async () => {
    const [c, first] = await pair({ transports: ['polling'] });
    const { engine } = c.socket.io;
    const before = sockets.length;
    // DISCONNECT and CONNECT of Socket.IO's protocol. Both in one request are an error to it: it closes the connection.
    engine.write('1');
    await until('it has left', () => first.disconnected);
    engine.write('0');
    const second = await until('it has joined again', () => sockets[before]);
    expect(second.conn === first.conn).toBe(true);
    expect(second.id).not.toBe(first.id);
    expect(writerOf(second.conn) === writerOf(first.conn)).toBe(true);
    for (const socket of [first, second, first]) writerOf(socket.conn).write(new Encoded([delivery('x')]));
    expect(second.conn.listenerCount('flush')).toBe(1);
  });

  test('the position is what the client keeps, and a payload that is text is not taken for it', async () => {
    const [c, socket] = await pair();
    writerOf(socket.conn).write(
      new Encoded([delivery('text', 'e', 'position 1'), delivery({ a: 1 }, 'e', 'position 2')]),
    );
    await c.hears(2);
    expect(c.heard.map(({ position }) => position)).toEqual(['position 1', 'position 2']);
  });
});

async function isReady(relay: Relay): Promise<boolean> {
  return (await fetch(`http://127.0.0.1:${relay.port}/readyz`)).status === 200;
}
