// Stock clients that come back: after a cut, a restart, on another node, with good positions and with bad ones.
import { createServer } from 'node:http';
import { exportJWK, generateKeyPair, SignJWT } from 'jose';
import { formatPosition, type Position, parsePosition } from '../../outbox/position.ts';
import { portOf } from '../../port.ts';
import type { Relay } from '../../server/relay.ts';
import { account, client, database, emit, ends, link, node, range } from '../one-database.ts';
import { metric, OPERATOR, startNode, through, token, until } from '../world.ts';

/** Numbers, in one transaction. */
async function emitMany(from: number, to: number, whom = account): Promise<void> {
  await database.query(
    `insert into relay.events (account_id, event, payload)
     select $1, 'test.event', to_jsonb(n) from generate_series($2::int, $3::int) n`,
    [whom, from, to],
  );
}

/** Writes numbered events until told to stop, and resolves with the last number then. */
function writeOnAndOn(): () => Promise<number> {
  let stopped = false;
  let n = 0;
  const writing = (async () => {
    while (!stopped) {
      n += 1;
      await emit(n);
    }
  })();
  return async () => {
    stopped = true;
    await writing;
    return n;
  };
}

/** As retention leaves it: everything is gone, and the mark says up to where. */
async function emptyAll(): Promise<void> {
  await database.query(
    `update relay.installation as i set emptied_in = pg_current_snapshot(), emptied_through = last.xid, emptied_witness = last.witness
       from (select xid, relay.witness(created_at) as witness from relay.events order by xid desc, id desc limit 1) as last`,
  );
  await database.query("begin; set local relay.removing = 'on'; delete from relay.events; commit");
}

async function positionNow(): Promise<string> {
  const [row] = await database.query<{ text: string }>('select relay.position() as text');
  return row!.text;
}

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
    way.throttle(4_000_000);
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

  test('that comes in the middle of a large batch is not left with a part of it', async () => {
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
    await until('they knock', () => [fresh, returning].every((c) => c.socket.connected));
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

describe('a position', () => {
  test('of the transaction that loaded the list leads to what came after it', async () => {
    const relay = await node();
    await emit('in the list');
    const position = await positionNow();
    await emitMany(1, 3);
    const c = client(relay, { token: await token(account), position });
    await c.hears(3);
    await emit(4);
    expect(await c.hears(4)).toEqual([1, 2, 3, 4]);
    expect(c.of('relay:ready')).toHaveLength(1);
    expect(c.of('relay:resync')).toEqual([]);
    // The page sends the same one again when it reconnects; what it saw since counts.
    c.cut();
    await c.live(2);
    await emit(5);
    expect(await c.hears(5)).toEqual([1, 2, 3, 4, 5]);
    expect(c.connects.map(({ recovered }) => recovered)).toEqual([false, true]);
  });

  test('that another node was ahead with is waited for, not refused', async () => {
    const slowDatabase = await link(Number(new URL(database.url).port));
    const ahead = await node();
    const behind = await node({}, through(slowDatabase, database.url));
    const way = await link(ahead.port);
    const c = client(way, { token: await token(account) });
    await c.live();
    await emitMany(1, 3);
    await c.hears(3);
    slowDatabase.freeze();
    await emitMany(4, 6);
    await c.hears(6);
    way.point(behind.port);
    way.cut();
    await until('it knocks at the node that is behind', () => {
      const { readyState } = c.socket.io.engine as unknown as { readyState: string };
      return c.disconnects.length > 0 && readyState === 'open' && !c.socket.connected;
    });
    await emitMany(7, 8);
    slowDatabase.thaw();
    expect(await c.hears(8)).toEqual(range(1, 8));
    expect(c.connects.map(({ recovered }) => recovered)).toEqual([false, true]);
    expect(c.of('relay:resync')).toEqual([]);
  });

  test('moves between two nodes under continuous writes', async () => {
    const nodes = [await node(), await node()] as const;
    const way = await link(nodes[0].port);
    const c = client(way, { token: await token(account) });
    await c.live();
    const stop = writeOnAndOn();
    for (let i = 1; i <= 6; i += 1) {
      await c.hears(c.payloads.length + 10);
      way.point(nodes[i % 2]!.port);
      way.cut();
      await c.live(i + 1);
    }
    const last = await stop();
    expect(await c.hears(last)).toEqual(range(1, last));
    expect(c.of('relay:resync')).toEqual([]);
  });

  const later = (position: Position): string =>
    formatPosition({ ...position, seen: { xmax: position.seen.xmax + 100_000n, xip: [] } });
  const laterInBatch = ({ epoch, seen }: Position): string =>
    formatPosition({ epoch, seen, batch: { bound: { xmax: seen.xmax + 100_000n, xip: [] }, through: 1n } });

  describe.each(['offset', 'position'])('given as auth.%s', (key) => {
    let relay: Relay;
    beforeAll(async () => {
      relay = await startNode(database.url);
      await relay.ready();
    });
    afterAll(() => relay.close());

    test.each<[reason: string, what: string, make: (now: string) => unknown]>([
      ['epoch', 'of another database', (now) => `ffffffffffff${now.slice(12)}`],
      ['future', 'from the future', (now) => later(parsePosition(now)!)],
      ['future', 'inside a batch from the future', (now) => laterInBatch(parsePosition(now)!)],
      ['unreadable', 'of 20,000 characters', (now) => now + '.1'.repeat(10_000)],
      ['unreadable', 'with SQL in it', () => "' or 1=1; drop table relay.events; --"],
      ['unreadable', 'that is empty', () => ''],
      ['unreadable', 'too long for anybody', () => '-'],
    ])('is answered once with relay:resync %j when it is %s', async (reason, _, make) => {
      const given = make(await positionNow());
      const auth = { token: await token(account), ...(key === 'offset' && { pid: 'mine' }), [key]: given };
      // The stock client sends its own once it has one; auth would override it, so it says this only once.
      let asked = 0;
      const c = client(relay, async (send: (auth: object) => void) => {
        asked += 1;
        send(asked === 1 ? auth : { token: auth.token });
      });
      await until('relay:resync', () => c.heard.length);
      expect(c.heard).toEqual([
        {
          event: 'relay:resync',
          payload: { reason, hearing: expect.any(String) },
          position: expect.stringMatching(/^[0-9a-f]{12}-/),
        },
      ]);
      expect(c.connects[0]).toMatchObject({ recovered: false });
      expect(c.connects[0]!.pid).not.toBe('mine');
      await emit('live');
      await c.hears(1);
      c.cut();
      await c.live(2);
      await emit('later');
      expect(await c.hears(2)).toEqual(['live', 'later']);
      expect(c.connects[1]).toMatchObject({ recovered: true });
      expect(c.of('relay:resync')).toHaveLength(1);
      expect(await database.query('select from relay.events where account_id = $1', [account])).toHaveLength(
        2,
      );
    });
  });

  test('that is no text is unreadable', async () => {
    const relay = await node();
    for (const position of [5, true, {}, ['a']]) {
      const c = client(relay, { token: await token(account), position });
      await until('relay:resync', () => c.heard.length);
      expect(c.heard).toMatchObject([{ event: 'relay:resync', payload: { reason: 'unreadable' } }]);
    }
  });

  test('as an offset that is no text does not count as recovered', async () => {
    const relay = await node();
    const c = client(relay, { token: await token(account), pid: 'mine', offset: 5 });
    await until('relay:ready', () => c.heard.length);
    expect(c.connects[0]!.pid).not.toBe('mine');
  });

  test('older than what is kept: relay:resync once, with a new pid, then live events', async () => {
    const relay = await node();
    const { port } = relay;
    const c = client(relay, { token: await token(account) });
    await c.live();
    await emit(1);
    await c.hears(1);
    await relay.close();
    await emitMany(2, 4);
    await emptyAll();
    const second = await node({ PORT: String(port) });
    await until('relay:resync', () => c.of('relay:resync').length);
    expect(c.of('relay:resync')).toEqual([{ reason: 'retention', hearing: expect.any(String) }]);
    expect(c.connects.map(({ recovered }) => recovered)).toEqual([false, false]);
    expect(c.connects[1]!.pid).not.toBe(c.connects[0]!.pid);
    await emit(5);
    expect(await c.hears(2)).toEqual([1, 5]);
    c.cut();
    await c.live(3);
    await emit(6);
    expect(await c.hears(3)).toEqual([1, 5, 6]);
    expect(c.connects[2]).toMatchObject({ recovered: true });
    expect(c.of('relay:resync')).toHaveLength(1);
    expect(await metric(second, 'resyncs', { reason: 'retention' })).toBe(1);
  });

  test('that is as old as can be, but complete, is honoured', async () => {
    const relay = await node({ WINDOW_EVENTS: '100' });
    const { port } = relay;
    const c = client(relay, { token: await token(account) });
    await c.live();
    // Complete: no other test's transaction was in progress, which might have written what is emptied now.
    let last = 0;
    do {
      last += 1;
      await emit(last);
      await c.hears(last);
    } while (c.offset!.includes('.'));
    await relay.close();
    // What it saw is gone, what it did not see is there.
    await emptyAll();
    await emitMany(last + 1, 300);
    await node({ PORT: String(port), WINDOW_EVENTS: '100' });
    expect(await c.hears(300)).toEqual(range(1, 300));
    expect(c.connects.map(({ recovered }) => recovered)).toEqual([false, true]);
  });

  test('and pid of somebody else give no more than one’s own token does', async () => {
    const relay = await node();
    const a = client(relay, { token: await token(`${account}-a`) });
    const b = client(relay, { token: await token(`${account}-b`) });
    await Promise.all([a.live(), b.live()]);
    await until('a position', () => a.offset);
    const { pid } = a.connects[0]!;
    const offset = a.offset!;
    await emit('for a', `${account}-a`);
    await emit('for b', `${account}-b`);
    await Promise.all([a.hears(1), b.hears(1)]);
    const thief = client(relay, { token: await token(`${account}-b`), pid, offset });
    expect(await thief.hears(1)).toEqual(['for b']);
    await emit('a again', `${account}-a`);
    await emit('b again', `${account}-b`);
    expect(await thief.hears(2)).toEqual(['for b', 'b again']);
    expect(await a.hears(2)).toEqual(['for a', 'a again']);
    expect(await b.hears(2)).toEqual(['for b', 'b again']);

    const forged = `forged.${pid.split('.')[1]}`;
    const forger = client(relay, { token: await token(`${account}-b`), pid: forged, offset });
    expect(await forger.hears(2)).toEqual(['for b', 'b again']);
  });

  test('with a revoked token gives nothing at all', async () => {
    const relay = await node();
    const issued = await token(account);
    const position = await positionNow();
    const witness = client(relay, { token: await token('witness') });
    await witness.live();
    await emitMany(1, 3);
    await database.query("select relay.revoke($1, before => now() + interval '1 minute')", [account]);
    await emitMany(4, 6);
    await emit('it is known', 'witness');
    await witness.hears(1);
    for (const auth of [
      { token: issued, position },
      { token: issued, pid: 'mine', offset: position },
    ]) {
      const c = client(relay, auth);
      await until('a refusal', () => c.refusals.length);
      expect(c.refusals).toMatchObject([{ code: 'token_revoked' }]);
      expect(c.heard).toEqual([]);
      expect(c.socket.active).toBe(false);
    }
  });

  test('gives nothing either when the token is revoked while the client waits for the database', async () => {
    const slowDatabase = await link(Number(new URL(database.url).port));
    const relay = await node({}, through(slowDatabase, database.url));
    const issued = await token(account);
    slowDatabase.freeze();
    await emitMany(1, 3);
    const c = client(relay, { token: issued, position: await positionNow() });
    await until('it waits', () => {
      const { readyState } = c.socket.io.engine as unknown as { readyState: string };
      return readyState === 'open';
    });
    // The token is verified by now, or will be before the database answers.
    await database.query("select relay.revoke($1, before => now() + interval '1 minute')", [account]);
    await emitMany(4, 6);
    slowDatabase.thaw();
    await until('a refusal', () => c.refusals.some(({ code }) => code === 'token_revoked'));
    expect(c.heard).toEqual([]);
    expect(c.socket.active).toBe(false);
  });
});

describe('without query storms', () => {
  test('a quiet client is told fresh positions, so that recent events always hold what it missed', async () => {
    const relay = await node({ WINDOW_EVENTS: '100' });
    const way = await link(relay.port);
    const busy = client(relay, { token: await token(`${account}-busy`) });
    const quiet = client(way, { token: await token(account) });
    await Promise.all([busy.live(), quiet.live()]);
    let n = 0;
    while (quiet.of('relay:position').length < 3) {
      for (const last = n + 10; n < last; n += 1) await emit(n, `${account}-busy`);
      await busy.hears(n);
    }
    // Not with every batch: when half of the recent events are newer.
    expect(n).toBeGreaterThanOrEqual(100);
    expect(n).toBeLessThan(1_000);
    way.freeze();
    way.cut();
    await until('it knows', () => quiet.disconnects.length);
    await emit('for it');
    way.thaw();
    expect(await quiet.hears(1)).toEqual(['for it']);
    expect(quiet.connects[1]).toMatchObject({ recovered: true });
    expect(await metric(relay, 'replayQueries')).toBe(0);
  });

  test('where events are kept for a minute, a quiet client is told its position every quarter of that', async () => {
    await database.query(`select relay.set_retention('1 minute')`);
    ends.push(() => database.query(`select relay.set_retention('24 hours')`));
    const relay = await node();
    const busy = client(relay, { token: await token(`${account}-busy`) });
    const quiet = client(relay, { token: await token(account) });
    await Promise.all([busy.live(), quiet.live()]);
    const { now } = Date;
    const restore = () => {
      Date.now = now;
    };
    ends.push(restore);
    for (let n = 1; n <= 3; n += 1) {
      Date.now = () => now() + n * 16_000;
      await emit(n, `${account}-busy`);
      await busy.hears(n);
      restore();
    }
    await until('it is told', () => quiet.of('relay:position').length);
  });

  test('a client that was quiet for longer than events are kept resumes after a restart', async () => {
    const relay = await node();
    const { port } = relay;
    const busy = client(relay, { token: await token(`${account}-busy`) });
    const quiet = client(relay, { token: await token(account) });
    await Promise.all([busy.live(), quiet.live()]);
    const { now } = Date;
    const restore = () => {
      Date.now = now;
    };
    ends.push(restore);
    // Its position must be behind the last event; and what others on this server have in progress, of which it names
    // some, might have written what is emptied now.
    const isFresh = () => {
      const told = quiet.of('relay:position').at(-1);
      return told !== undefined && told === busy.heard.at(-1)!.position && !String(told).includes('.');
    };
    const deadline = now() + 25_000;
    for (let n = 1; !isFresh(); n += 1) {
      // More than a quarter of an hour each time.
      Date.now = () => now() + n * 16 * 60_000;
      // Tests beside this one hold transactions open for seconds.
      expect(now()).toBeLessThan(deadline);
      await emit(n, `${account}-busy`);
      await busy.hears(n);
      // Or its client takes the jump of the clock for a server that is gone.
      restore();
      // Whatever was sent to it before the answer has arrived.
      await quiet.socket.emitWithAck('auth:refresh', '');
    }
    expect(quiet.of('relay:position').length).toBeLessThan(busy.heard.length);
    await relay.close();
    await emptyAll();
    await node({ PORT: String(port) });
    await quiet.live(2);
    expect(quiet.connects[1]).toMatchObject({ recovered: true });
    expect(quiet.of('relay:resync')).toEqual([]);
  });

  test('a batch over the memory limit leaves nobody with a position out of reach', async () => {
    const relay = await node({ WINDOW_EVENTS: '100' });
    const quiet = client(relay, { token: await token(account) });
    const busy = client(relay, { token: await token(`${account}-busy`) });
    await Promise.all([quiet.live(), busy.live()]);
    await emitMany(1, 300, `${account}-busy`);
    await busy.hears(300);
    await until('a fresh position', () => quiet.of('relay:position').length);
    for (const c of [quiet, busy]) {
      c.cut();
      await c.live(2);
    }
    await emit('x');
    await quiet.hears(1);
    expect(await metric(relay, 'replayQueries')).toBe(0);
  });

  test('200 clients that come back to a relay without memory cost as many queries as there are ranges', async () => {
    const relay = await node({ WINDOW_EVENTS: '100' });
    const { port } = relay;
    const accounts = range(1, 5).map((n) => `${account}-${n}`);
    const tokens = await Promise.all(accounts.map((name) => token(name)));
    const clients = range(0, 199).map((i) => client(relay, { token: tokens[i % 5]! }));
    await Promise.all(clients.map((c) => until('relay:ready', () => c.of('relay:ready').length)));
    // The same position for all of an account, whoever else wrote to the server while they came.
    for (const name of accounts) await emit(0, name);
    await Promise.all(clients.map((c) => c.hears(1)));
    await relay.close();
    // Two pages for each account.
    await database.query(
      `insert into relay.events (account_id, event, payload)
       select name, 'test.event', jsonb_build_array(n, (select string_agg(md5(n || name || i), '') from generate_series(1, 125) i))
         from unnest($1::text[]) name, generate_series(1, 90) n`,
      [accounts],
    );
    const second = await node({ PORT: String(port), WINDOW_EVENTS: '100' });
    await Promise.all(clients.map((c) => c.hears(91)));
    for (const c of clients) {
      expect(c.payloads.slice(1).map((payload) => (payload as number[])[0])).toEqual(range(1, 90));
    }
    expect(clients.every((c) => c.connects[1]!.recovered)).toBe(true);
    // Two for each client if pages were not shared. On a slow machine some come so late that a page is not kept any more.
    const queries = await metric(second, 'replayQueries');
    expect(queries).toBeGreaterThanOrEqual(10);
    expect(queries).toBeLessThan(200);
    expect(await metric(second, 'replays', { source: 'table' })).toBe(200);
  });
});

async function fetchMetric(relay: Relay, name: string): Promise<number> {
  const response = await fetch(`http://127.0.0.1:${relay.port}/metrics`, { headers: OPERATOR });
  const line = (await response.text()).split('\n').find((text) => text.startsWith(`${name} `));
  return Number(line?.split(' ')[1]);
}
