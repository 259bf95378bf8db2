// Stock clients that come with a position: a good one, one of another node, and all that are not to be honoured.
import { formatPosition, type Position, parsePosition } from '../../outbox/position.ts';
import type { Relay } from '../../server/relay.ts';
import { account, client, database, emit, link, node, range } from '../one-database.ts';
import { type Client, metric, startNode, through, token, until } from '../world.ts';
import { emitMany, emptyAll, positionNow, writeOnAndOn } from './missed-events.ts';

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
    await until('it waits at the node that is behind', () => {
      const { readyState } = c.socket.io.engine;
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
      // The stock client sends its own once it has one; auth would override it, so it says this only until then.
      const c: Client = client(relay, (send: (auth: object) => void) => {
        send(c.heard.length === 0 ? auth : { token: auth.token });
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
    const all = last + 300;
    await emitMany(last + 1, all);
    await node({ PORT: String(port), WINDOW_EVENTS: '100' });
    expect(await c.hears(all)).toEqual(range(1, all));
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
      const { readyState } = c.socket.io.engine;
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
