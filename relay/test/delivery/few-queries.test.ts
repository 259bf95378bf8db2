// Clients that come back are served from memory, and many at once are no storm of queries.
import type { Relay } from '../../server/relay.ts';
import { account, client, database, emit, ends, link, node, range } from '../one-database.ts';
import { metric, token, until } from '../world.ts';
import { emitMany, emptyAll } from './missed-events.ts';

describe('without query storms', () => {
  async function busyAndQuiet(relay: Relay) {
    const busy = client(relay, { token: await token(`${account}-busy`) });
    const quiet = client(relay, { token: await token(account) });
    await Promise.all([busy.live(), quiet.live()]);
    return { busy, quiet };
  }

  /** Of this process, for a test that sets it. */
  function clock() {
    const { now } = Date;
    const restore = () => {
      Date.now = now;
    };
    ends.push(restore);
    return { now, restore };
  }

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
    // When half of the recent batches are newer. With every batch, three rounds would do: each has one at least.
    expect(n).toBeGreaterThan(30);
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

  test('with a retention of one minute, a quiet client gets a fresh position within 48 seconds', async () => {
    await database.query(`select relay.set_retention('1 minute')`);
    ends.push(() => database.query(`select relay.set_retention('24 hours')`));
    const relay = await node();
    const { busy, quiet } = await busyAndQuiet(relay);
    const { now, restore } = clock();
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
    const { busy, quiet } = await busyAndQuiet(relay);
    const { now, restore } = clock();
    const lastPosition = () => String(busy.heard.at(-1)!.position);
    // What others on this server have in progress might have written what is emptied now.
    for (let n = 1; n <= 5 || lastPosition().includes('.'); n += 1) {
      await emit(n, `${account}-busy`);
      await busy.hears(n);
    }
    const began = now();
    // A quarter of an hour every 90 ms.
    Date.now = () => now() + (now() - began) * 10_000;
    await until(
      'it is told the position behind the last event',
      () => quiet.of('relay:position').at(-1) === lastPosition(),
    );
    restore();
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

  test('200 clients that come back to a relay without memory share the queries for what they missed', async () => {
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
    // A client is counted when it has caught up, which may be after it heard the last event.
    await until(
      'all are counted',
      async () => (await metric(second, 'replays', { source: 'table' })) === 200,
    );
  });
});
