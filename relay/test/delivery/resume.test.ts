// Stock clients that come back: after a cut, a restart, on another node.
import { createServer } from 'node:http';
import { exportJWK, generateKeyPair, SignJWT } from 'jose';
import { parsePosition } from '../../outbox/position.ts';
import { portOf } from '../../port.ts';
import type { Relay } from '../../server/relay.ts';
import { account, client, database, emit, ends, link, node, range } from '../one-database.ts';
import { metric, OPERATOR, through, token, until } from '../world.ts';
import { emitMany, positionNow, writeOnAndOn } from './missed-events.ts';

describe('a client that was cut off', () => {
  test.each([
    ['websocket', { transports: ['websocket'] }],
    ['polling', { transports: ['polling'] }],
    ['polling, then websocket', { transports: ['polling', 'websocket'] }],
  ])('hears everything once and in order, and knows that it recovered (%s)', async (name, options) => {
    const relay = await node();
    const c = client(relay, { token: await token(account) }, options);
    await c.live();
    const stop = writeOnAndOn();
    await c.hears(20);
    for (let i = 2; i <= 4; i += 1) {
      if (name === 'websocket') c.cut();
      else c.socket.io.engine.close();
      await c.live(i);
      await c.hears(c.payloads.length + 20);
    }
    const last = await stop();
    expect(await c.hears(last)).toEqual(range(1, last));
    expect(c.connects.map(({ recovered }) => recovered)).toEqual([false, true, true, true]);
    expect(new Set(c.connects.map(({ pid }) => pid)).size).toBe(1);
    expect(c.of('relay:resync')).toEqual([]);
    expect(c.of('relay:ready')).toHaveLength(1);
    expect(c.refusals).toEqual([]);
  });

  test('resumes though it has seen no event: relay:ready brought its position', async () => {
    const relay = await node();
    const way = await link(relay.port);
    const c = client(way, { token: await token(account) });
    await until('relay:ready', () => c.of('relay:ready').length);
    expect(c.heard[0]!.payload).toMatchObject({ accountId: account });
    expect(parsePosition(c.offset!)).not.toBeNull();
    way.freeze();
    way.cut();
    await until('it knows', () => c.disconnects.length);
    await emitMany(1, 3);
    way.thaw();
    expect(await c.hears(3)).toEqual([1, 2, 3]);
    expect(c.connects.map(({ recovered }) => recovered)).toEqual([false, true]);
    expect(c.of('relay:ready')).toHaveLength(1);
  });

  test('resumes after a restart of the relay on the same port, from memory', async () => {
    const relay = await node();
    const { port } = relay;
    const c = client(relay, { token: await token(account) });
    await c.live();
    const stop = writeOnAndOn();
    await c.hears(10);
    await relay.close();
    await until('it knows', () => c.disconnects.length);
    const second = await node({ PORT: String(port) });
    await c.live(2);
    await c.hears(c.payloads.length + 10);
    const last = await stop();
    expect(await c.hears(last)).toEqual(range(1, last));
    expect(c.connects.map(({ recovered }) => recovered)).toEqual([false, true]);
    expect(await metric(second, 'replayQueries')).toBe(0);
  });

  test('hears nothing before its token is verified, and all of it after, though that takes 200 ms', async () => {
    const { publicKey, privateKey } = await generateKeyPair('RS256');
    const jwk = { ...(await exportJWK(publicKey)), kid: 'k', alg: 'RS256' };
    const issuer = createServer((_, response) => {
      setTimeout(() => response.end(JSON.stringify({ keys: [jwk] })), 200);
    });
    await new Promise<void>((resolve) => issuer.listen(0, '127.0.0.1', resolve));
    ends.push(() => issuer.close());
    const env = { JWT_JWKS_URL: `http://127.0.0.1:${portOf(issuer)}/` };
    const signed = await new SignJWT({ accountId: account })
      .setProtectedHeader({ alg: 'RS256', kid: 'k' })
      .setExpirationTime('1h')
      .sign(privateKey);

    let relay = await node(env);
    const c = client(relay, { token: signed });
    await c.live();
    const stop = writeOnAndOn();
    await c.hears(10);
    for (let i = 2; i <= 4; i += 1) {
      const { port } = relay;
      await relay.close();
      relay = await node({ ...env, PORT: String(port) });
      await c.live(i);
      await c.hears(c.payloads.length + 10);
    }
    const last = await stop();
    expect(await c.hears(last)).toEqual(range(1, last));
    expect(c.connects.map(({ recovered }) => recovered)).toEqual([false, true, true, true]);
  });

  test('still receives events when its old connection, half-open so far, dies at last', async () => {
    const relay = await node();
    const way = await link(relay.port);
    const c = client(way, { token: await token(account) });
    await c.live();
    await emit(1);
    await c.hears(1);
    // The client is told that the connection is gone, the relay learns it later.
    way.forget(true, 400);
    await c.live(2);
    await emit(2);
    await c.hears(2);
    await until('the relay has one socket', async () => (await fetchMetric(relay, 'recado_sockets')) === 1);
    await emit(3);
    expect(await c.hears(3)).toEqual([1, 2, 3]);
    expect(c.connects).toHaveLength(2);
  });

  test('goes on inside a batch of 10,000 events, also on another node', async () => {
    const nodes = [await node(), await node()] as const;
    const way = await link(nodes[0].port);
    // After a stall the link passes about a megabyte at once. Refilled slowly, it does not do so twice.
    way.throttle(1_000_000);
    const c = client(way, { token: await token(account) });
    await c.live();
    await database.query(
      `insert into relay.events (account_id, event, payload)
       select $1, 'test.event', jsonb_build_array(n, repeat('x', 200)) from generate_series(1, 10000) n`,
      [account],
    );
    await c.hears(1_000);
    way.point(nodes[1].port);
    way.cut();
    const interrupted = c.payloads.length;
    expect(interrupted).toBeLessThan(9_000);
    expect(parsePosition(c.offset!)!.batch).toBeDefined();
    way.throttle(Number.POSITIVE_INFINITY);
    await c.hears(10_000);
    await emit([10_001]);
    await c.hears(10_001);
    expect(c.payloads.map((payload) => (payload as number[])[0])).toEqual(range(1, 10_001));
    expect(c.connects.map(({ recovered }) => recovered)).toEqual([false, true]);
  });

  test('and one that is new get no partial batch when they come in the middle of a large one', async () => {
    const slowDatabase = await link(Number(new URL(database.url).port));
    const relay = await node({}, through(slowDatabase, database.url));
    const before = await positionNow();
    const witness = client(relay, { token: await token(account) });
    await witness.live();
    slowDatabase.throttle(8_000_000);
    // More than the feed reads at once: who was live reads it from the table.
    await database.query(
      `insert into relay.events (account_id, event, payload)
       select $1, 'test.event', jsonb_build_array(n, repeat('x', 100)) from generate_series(1, 25000) n`,
      [account],
    );
    await witness.hears(1);
    const fresh = client(relay, { token: await token(account) });
    const returning = client(relay, { token: await token(account), position: before });
    await until('both are connected', () => [fresh, returning].every((c) => c.socket.connected));
    expect(witness.payloads.length).toBeLessThan(25_000);
    slowDatabase.throttle(Number.POSITIVE_INFINITY);
    await Promise.all([fresh.live(), witness.hears(25_000), returning.hears(25_000)]);
    await emit([25_001]);
    await fresh.hears(1);
    expect(fresh.payloads).toEqual([[25_001]]);
    for (const c of [witness, returning]) {
      expect(((await c.hears(25_001)) as number[][]).map(([n]) => n)).toEqual(range(1, 25_001));
    }
  });

  test('that is cut again and again while it catches up from the table hears everything once', async () => {
    const relay = await node({ WINDOW_EVENTS: '100' });
    const way = await link(relay.port);
    const c = client(way, { token: await token(account) });
    await c.live();
    await emitMany(1, 10);
    await c.hears(10);
    way.freeze();
    way.cut();
    await until('it knows', () => c.disconnects.length);
    for (let n = 11; n <= 5_000; n += 500) await emitMany(n, Math.min(n + 499, 5_000));
    way.thaw();
    const stop = (async () => {
      for (let n = 5_001; n <= 5_200; n += 1) await emit(n);
    })();
    for (let i = 1; i <= 4; i += 1) {
      await c.hears(i * 900);
      way.cut();
    }
    await stop;
    expect(await c.hears(5_200)).toEqual(range(1, 5_200));
    expect(c.connects.every(({ recovered }, i) => recovered === i > 0)).toBe(true);
    expect(await metric(relay, 'replayQueries')).toBeGreaterThan(0);
  });
});

async function fetchMetric(relay: Relay, name: string): Promise<number> {
  const response = await fetch(`http://127.0.0.1:${relay.port}/metrics`, { headers: OPERATOR });
  const line = (await response.text()).split('\n').find((text) => text.startsWith(`${name} `));
  return Number(line?.split(' ')[1]);
}
