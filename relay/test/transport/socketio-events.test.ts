// What arrives at Socket.IO clients: large events, large transactions, resyncs, and bare clients.
import { parsePosition } from '../../outbox/position.ts';
import { account, client, database, emit, ends, range, start } from '../one-database.ts';
import { freshDatabase, metric, token, until } from '../world.ts';

describe('what arrives', () => {
  test('a payload of 200 KB, and one of nearly 4 MiB, as they are', async () => {
    // The smallest budget that may be configured.
    const relay = await start({ CLIENT_BUFFER_BYTES: `${4 * 1024 * 1024 + 64 * 1024}` });
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
    const relay = await start();
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

  test('relay:resync in the place of an inserted event that relay.emit() would have refused', async () => {
    const relay = await start();
    const c = client(relay, { token: await token(account) });
    await c.live();
    const resync = { reason: 'event_too_large', event: 'test.event' };
    // Stored as what it is, and as a hundredth of that.
    for (const [n, text] of ["string_agg(md5(n::text), '')", "repeat('x', 30 * max(n))"].entries()) {
      await database.query(
        `insert into relay.events (account_id, event, payload)
         select $1, 'test.event', to_jsonb(${text}) from generate_series(1, 200000) as n`,
        [account],
      );
      // Those of one batch are told once.
      await until('it is told', () => c.of('relay:resync').length === n + 1);
    }
    // Nobody can have such an account.
    await database.query(
      `insert into relay.events (account_id, event) values (repeat('x', 2000), 'test.event'), (repeat('x', 200000), 'test.event')`,
    );
    await emit('next');
    expect(await c.hears(1)).toEqual(['next']);
    expect(c.of('relay:resync')).toEqual([resync, resync]);
    const late = client(relay, { token: await token(account), position: c.heard[0]!.position });
    expect(await late.hears(1)).toEqual(['next']);
    expect(late.of('relay:resync')).toEqual([resync]);
  });

  test('10,000 events of one transaction, whole and in order', async () => {
    const relay = await start();
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
    const relay = await start();
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
    const relay = await start({ CLIENT_BUFFER_BYTES: '5MiB' });
    const slow = client(relay, { token: await token(account) });
    const quick = client(relay, { token: await token(account) });
    await Promise.all([slow.live(), quick.live()]);
    slow.network.pause();
    let n = 0;
    await until('it is sent away', async () => {
      n += 1;
      await emit([n, 'x'.repeat(400_000)]);
      // A relay that is behind would make its clients read the table at their own pace.
      await quick.hears(n);
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
    const relay = await start();
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
    const relay = await start({}, own.url);
    const clients = await Promise.all(
      range(1, 5).map(async (n) => client(relay, { token: await token(`${account}-${n % 3}`) })),
    );
    await Promise.all(clients.map((c) => until('ready', () => c.of('relay:ready').length)));
    await own.query('update relay.installation set id = gen_random_uuid()');
    await own.endSessions('recado feed');
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
    const relay = await start();
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
    const relay = await start({ WINDOW_EVENTS: '100' });
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
