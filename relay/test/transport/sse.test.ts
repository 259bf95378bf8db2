// GET /events: the same as a socket hears, for programs that speak HTTP only.
import { Client, metric, startNode, token, until } from '../world.ts';
import { Stream } from './stream.ts';
import { add, ask, database, open, refused, relay, streams } from './streams.ts';

test('relay:ready, then events of its own account only; their ids are the positions a socket hears', async () => {
  const stream = await open();
  expect(stream.response.headers).toMatchObject({
    'content-type': 'text/event-stream; charset=utf-8',
    'cache-control': 'no-store, no-transform',
  });
  expect(stream.heard[0]).toMatchObject({ event: 'relay:ready', payload: { accountId: 'acc-1' } });
  const socket = await new Client(relay, { token: await token() }).live();
  try {
    await add('of somebody else', 'acc-2');
    await add({ text: 'line\nbreak — ü' });
    await add(null);
    await stream.hears(2);
    await socket.hears(2);
    expect(stream.payloads).toEqual([{ text: 'line\nbreak — ü' }, null]);
    const bySocket = socket.heard.filter(({ event }) => event === 'note.added');
    expect(stream.heard.slice(1).map(({ event, id, payload }) => ({ event, payload, position: id }))).toEqual(
      bySocket,
    );
  } finally {
    socket.close();
  }
});

test('comes back with Last-Event-ID: what it missed, once, before anything newer; also to another node', async () => {
  const first = await open();
  await add(1);
  await first.hears(1);
  first.close();
  const watching = await open();
  for (const missed of [2, 3]) await add(missed);
  await watching.hears(2);
  const second = await open({ position: first.position });
  await add(4);
  await second.hears(3);
  expect(second.payloads).toEqual([2, 3, 4]);
  // Behind what it missed, relay:ready; nothing tells it to refetch.
  expect(second.heard.slice(0, 3).map(({ event }) => event)).toEqual([
    ...['note.added', 'note.added', 'relay:ready'],
  ]);
  second.close();
  await add(5);
  const other = await startNode(database.url);
  try {
    const third = await open({ position: second.position, port: other.port });
    await third.hears(1);
    expect(third.payloads).toEqual([5]);
    // What a socket saw last is as good, and the other way round.
    const socket = new Client(relay, { token: await token(), position: second.position });
    expect(await socket.hears(1)).toEqual([5]);
    socket.close();
  } finally {
    await other.close();
  }
});

test('comes back with lastEventId in the query, as polyfills of EventSource do; the header wins', async () => {
  const first = await open();
  await add(1);
  await first.hears(1);
  const atFirst = first.position;
  await add(2);
  await first.hears(2);
  const query = `?token=x&lastEventId=${encodeURIComponent(atFirst)}`;
  const second = await open({ query });
  await second.hears(1);
  expect(second.payloads).toEqual([2]);
  const third = await open({ query, position: first.position });
  await add(3);
  await third.hears(1);
  expect(third.payloads).toEqual([3]);
  const broken = await open({ query: '?lastEventId=nonsense' });
  expect(broken.heard[0]).toMatchObject({ event: 'relay:resync', payload: { reason: 'unreadable' } });
});

test('a position that cannot be honoured: relay:resync', async () => {
  for (const [position, reason] of [
    ['nonsense', 'unreadable'],
    ['x'.repeat(30_000), 'unreadable'],
    ['0123456789ab-1', 'epoch'],
  ]) {
    const stream = await open({ position: position! });
    expect(stream.heard[0]).toMatchObject({ event: 'relay:resync', payload: { reason } });
    expect(stream.position).toMatch(/^[0-9a-f]{12}-/);
    stream.close();
  }
});

describe('refused', () => {
  test.each([
    ['without a token', async () => ({}), 401, 'token_missing'],
    [
      'with an expired one',
      async () => ({ token: await token('acc-1', { expiresIn: -3600 }) }),
      401,
      'token_expired',
    ],
    ['with a forged one', async () => ({ token: 'nonsense' }), 401, 'token_malformed'],
    ['other methods', async () => ({ method: 'POST', token: await token() }), 405, 'method_not_allowed'],
    [
      'pages of a foreign origin',
      async () => ({ headers: { origin: 'https://evil.example' } }),
      403,
      'origin_refused',
    ],
  ])('%s', async (_name, asking, status, code) => {
    expect(await refused(await asking())).toMatchObject({ status, code });
  });

  test('more of one account than it may hold', async () => {
    const node = await startNode(database.url, { CONNECTIONS_PER_ACCOUNT: '2' });
    try {
      const { port } = node;
      const held = [await open({ port }), await open({ port })];
      expect(await refused({ port, token: await token() })).toMatchObject({
        status: 503,
        code: 'too_many_of_account',
      });
      held[0]!.close();
      await until('a place is free', async () => {
        const response = await ask({ port, token: await token() });
        if (response.statusCode === 200) streams.push(new Stream(response));
        else response.resume();
        return response.statusCode === 200;
      });
    } finally {
      for (const stream of streams.splice(0)) stream.close();
      await node.close();
    }
  });

  test('with 503 while the database is away, which is no reason to give up', async () => {
    const node = await startNode('postgres://nobody@127.0.0.1:1/nothing');
    try {
      const answer = await refused({ port: node.port, token: await token() });
      expect(answer).toMatchObject({ status: 503, code: 'feed_not_ready' });
      expect(answer.response.headers['retry-after']).toBe('1');
    } finally {
      await node.close();
    }
  });
});

test('pages of known origins may ask, with the headers that takes', async () => {
  const node = await startNode(database.url, { CORS_ORIGIN: 'https://clinic.example' });
  try {
    const headers = { origin: 'https://clinic.example' };
    const preflight = await ask({ port: node.port, method: 'OPTIONS', headers });
    preflight.resume();
    expect(preflight.statusCode).toBe(204);
    expect(preflight.headers).toMatchObject({
      'access-control-allow-origin': 'https://clinic.example',
      'access-control-allow-headers': 'authorization, last-event-id',
    });
    const stream = await open({ port: node.port, headers });
    expect(stream.response.headers['access-control-allow-origin']).toBe('https://clinic.example');
    stream.close();
  } finally {
    await node.close();
  }
});

test('ends when its token does, and when that is revoked', async () => {
  const node = await startNode(database.url, { JWT_CLOCK_TOLERANCE: '0' });
  try {
    const { port } = node;
    await node.ready();
    const expiring = await open({ port, token: await token('acc-1', { expiresIn: 5 }) });
    await expiring.end();
    const revoked = await open({ port, token: await token('acc-9') });
    const spared = await open({ port });
    await database.query(`select relay.revoke('acc-9', before => clock_timestamp() + interval '1 minute')`);
    await revoked.end();
    expect(await refused({ port, token: await token('acc-9') })).toMatchObject({
      status: 401,
      code: 'token_revoked',
    });
    expect(spared.ended).toBe(false);
  } finally {
    for (const stream of streams.splice(0)) stream.close();
    await node.close();
  }
});

test('a client that does not read is disconnected, and has everything once when it comes back', async () => {
  const stream = await open();
  stream.response.pause();
  const before = await metric(relay, 'slowConsumers');
  let sent = 0;
  const large = 'x'.repeat(1024 * 1024);
  const reading = await open();
  await until('the stream is sent away', async () => {
    if ((await metric(relay, 'slowConsumers')) > before) return true;
    sent += 1;
    await database.query(
      `select relay.emit('acc-1', 'note.large', jsonb_build_object('number', $1::int, 'text', $2::text))`,
      [sent, large],
    );
    // A relay that is behind would make its clients read the table at their own pace.
    await reading.hears(sent);
    return false;
  });
  stream.response.resume();
  await stream.end();
  const again = await open({ position: stream.position });
  await again.hears(sent - stream.payloads.length);
  const numbers = [...stream.payloads, ...again.payloads].map(
    (payload) => (payload as { number: number }).number,
  );
  expect(numbers).toEqual(Array.from({ length: sent }, (_, index) => index + 1));
});

test('a relay that closes ends its streams', async () => {
  const node = await startNode(database.url);
  const stream = await open({ port: node.port });
  await node.close();
  await stream.end();
});
