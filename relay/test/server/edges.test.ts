// A hub and edges as processes, with a real Redis between them: what happens to clients when each of them goes away.
import { type Redis, redisIsMissing, startRedis } from '../redis.ts';
import { Client, type Database, freshDatabase, OPERATOR_TOKEN, SECRET, token, until } from '../world.ts';
import { Process } from './process.ts';

const describeWithRedis = redisIsMissing ? describe.skip : describe;

describeWithRedis('with a hub, two edges and Redis', () => {
  let database: Database;
  let redis: Redis;
  let env: Record<string, string>;
  let hub: Process;
  let edges: Process[];
  let clients: Client[];
  let told = 0;
  // Also where a set-up fails.
  const closers: (() => Promise<unknown>)[] = [];

  beforeAll(async () => {
    database = await freshDatabase();
    closers.push(() => database.close());
    await database.query(`select relay.publish('item')`);
    redis = await startRedis();
    closers.push(() => redis.close());
    env = { DATABASE_URL: database.url, STREAM_URL: redis.url, JWT_SECRET: SECRET, OPERATOR_TOKEN };
    hub = await start('hub');
    edges = await Promise.all([start('relay'), start('relay')]);
  }, 120_000);

  async function start(command: 'hub' | 'relay', more: Record<string, string> = {}): Promise<Process> {
    const started = await Process.start(command, { ...env, ...more });
    closers.push(() => started.end());
    return started;
  }

  beforeEach(async () => {
    clients = [];
    told = 0;
    await until('the edges read the stream', areStreaming, 60_000);
    const auth = { token: await token() };
    for (const edge of edges) for (let n = 0; n < 3; n += 1) clients.push(new Client(edge, auth));
    for (const client of clients) await client.live();
  }, 90_000);

  afterEach(() => {
    for (const client of clients) client.close();
  });

  afterAll(async () => {
    for (const close of closers.splice(0).reverse()) await close();
  }, 60_000);

  async function areStreaming(): Promise<boolean> {
    const states = await Promise.all(edges.map(streaming));
    return states.every((state) => state === 1);
  }

  const streaming = (edge: Process) => edge.metric('recado_edge_streaming');

  async function tell(): Promise<void> {
    await database.query(`select relay.emit('acc-1', 'item', to_jsonb($1::int))`, [told]);
    told += 1;
  }

  async function allHearEverything(): Promise<void> {
    const everything = Array.from({ length: told }, (_, n) => n);
    for (const client of clients) expect(await client.hears(told)).toEqual(everything);
    for (const client of clients) expect(client.of('relay:resync')).toEqual([]);
  }

  test('events come through the stream, and an edge holds no session of the database', async () => {
    await tell();
    await tell();
    await allHearEverything();
    await until(
      'the sessions of the start are closed',
      async () => {
        const [row] = await database.query<{ sessions: number }>(
          `select count(*)::int as sessions from pg_stat_activity
          where datname = current_database() and application_name in ('recado edge', 'recado replay', 'recado console')`,
        );
        return row!.sessions === 0;
      },
      30_000,
    );
    await tell();
    await allHearEverything();
    const allIsWell = '{"ready":true,"checks":{"database":"ok","stream":"ok"}}\n';
    await until('an edge says so', async () => (await edges[0]!.ask('/readyz')).text === allIsWell);
  }, 60_000);

  test('the hub is frozen: the edges read the database, and return', async () => {
    await tell();
    await allHearEverything();
    hub.signal('SIGSTOP');
    try {
      await tell();
      await allHearEverything();
      expect(await edges[0]!.isReady()).toBe(true);
    } finally {
      hub.signal('SIGCONT');
    }
    await until('the edges read the stream', areStreaming);
    await tell();
    await allHearEverything();
  }, 60_000);

  test('the hub is killed: another one goes on', async () => {
    await tell();
    await hub.end('SIGKILL');
    await tell();
    await allHearEverything();
    hub = await start('hub');
    await until('the edges read the stream', areStreaming);
    await tell();
    await allHearEverything();
  }, 90_000);

  test('Redis is emptied, killed, and comes back empty', async () => {
    await tell();
    await allHearEverything();
    await redis.command('FLUSHALL');
    await tell();
    await allHearEverything();
    redis.signal('SIGKILL');
    await tell();
    await allHearEverything();
    expect(await edges[0]!.isReady()).toBe(true);
    await redis.restart();
    await until('the edges read the stream', areStreaming);
    await tell();
    await allHearEverything();
  }, 90_000);

  test('Redis is frozen: the edges read the database, and return', async () => {
    await tell();
    await allHearEverything();
    redis.signal('SIGSTOP');
    try {
      await tell();
      await allHearEverything();
    } finally {
      redis.signal('SIGCONT');
    }
    await until('the edges read the stream', areStreaming);
    await tell();
    await allHearEverything();
  }, 90_000);

  test('the stream is trimmed to nothing, then replaced by an old copy: clients miss nothing', async () => {
    const [key = ''] = (await redis.command('KEYS', 'recado:*')) as string[];
    await tell();
    await redis.command('XTRIM', key, 'MAXLEN', '0');
    await tell();
    // At once: the hub appends all the time, with larger ids.
    const replace =
      "redis.call('DEL', KEYS[1]) return redis.call('XADD', KEYS[1], '1-1', 'entry', 'an old copy')";
    await redis.command('EVAL', replace, '1', key);
    await tell();
    await allHearEverything();
    await until('the edges read the stream', areStreaming);
    await tell();
    await allHearEverything();
  }, 90_000);

  test('of two hubs the elder is frozen, and goes on when the other one appends', async () => {
    const younger = await start('hub');
    // Empty where it does not answer in time.
    const role = async (which: Process) =>
      /"role":"([^"]+)"/.exec((await which.ask('/readyz')).text)?.[1] ?? '';
    await until('the younger has heard the elder', async () => (await role(younger)) === 'stands by');
    await tell();
    await allHearEverything();
    hub.signal('SIGSTOP');
    try {
      await tell();
      await until('the younger appends', async () => (await role(younger)) === 'appends');
      await tell();
      await allHearEverything();
    } finally {
      hub.signal('SIGCONT');
    }
    for (let n = 0; n < 20; n += 1) await tell();
    await until('the younger stands by', async () => (await role(younger)) === 'stands by');
    await tell();
    await allHearEverything();
    await younger.end();
  }, 90_000);

  test('the processes behind one port share one edge', async () => {
    await tell();
    const processes = await start('relay', { RELAY_PROCESSES: '2' });
    const auth = { token: await token() };
    // Where the others are: the workers may have to ask for it.
    const ahead = new Client(processes, { ...auth, position: clients[0]!.offset });
    await ahead.live();
    ahead.close();
    await allHearEverything();
    const before = told;
    const behind = Array.from({ length: 4 }, () => new Client(processes, auth));
    try {
      for (const client of behind) await client.live();
      const ofStart = 'recado_edge_reads_total{reason="start"}';
      await until(
        'the reads of the first process and of both workers are counted',
        async () => ((await processes.metric(ofStart)) ?? 0) >= 3,
      );
      await tell();
      hub.signal('SIGSTOP');
      await tell();
      await until('the first process is silent', async () => (await streaming(processes)) === 0);
      expect(await processes.isReady()).toBe(true);
      await tell();
      hub.signal('SIGCONT');
      await until('the first process reads the stream', async () => (await streaming(processes)) === 1);
      await tell();
      const due = Array.from({ length: 4 }, (_, n) => before + n);
      for (const client of behind) expect(await client.hears(4)).toEqual(due);
      for (const client of behind) expect(client.of('relay:resync')).toEqual([]);
    } finally {
      hub.signal('SIGCONT');
      for (const client of behind) client.close();
      await processes.end();
    }
  }, 90_000);

  test('an edge is killed: its clients go on at another one', async () => {
    await tell();
    await allHearEverything();
    const [killed, other] = edges as [Process, Process];
    const auth = { token: await token() };
    const offsets = clients.slice(0, 3).map(({ offset }) => offset!);
    await killed.end('SIGKILL');
    await tell();
    for (const client of clients.splice(0, 3)) client.close();
    const returned = offsets.map((position) => new Client(other, { ...auth, position }));
    for (const client of returned) expect(await client.hears(1)).toEqual([told - 1]);
    for (const client of returned) expect(client.of('relay:resync')).toEqual([]);
    for (const client of returned) client.close();
    await allHearEverything();
    edges[0] = await start('relay');
  }, 90_000);

  test('a token that is revoked is refused at every edge', async () => {
    await database.query(`select relay.revoke('acc-1', before => clock_timestamp() + interval '1 minute')`);
    await until('all are sent away and refused', () =>
      clients.every(
        ({ socket, refusals }) => !socket.active && refusals.some(({ code }) => code === 'token_revoked'),
      ),
    );
  });
});
