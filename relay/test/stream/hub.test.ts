// A hub on a real Postgres and a real Redis: what it appends, when it stands by, and what it does without either.
import { findStream } from '../../commands/doctor/stream.ts';
import { readSettings } from '../../config/settings.ts';
import { createLog } from '../../log.ts';
import { covers } from '../../outbox/position.ts';
import { readInstallation } from '../../outbox/start.ts';
import { type RunningHub, startHub } from '../../server/hub.ts';
import type { Entry } from '../../stream/entry.ts';
import { RedisReader } from '../../stream/redis-reader.ts';
import { judge, type Place } from '../../stream/rule.ts';
import { type Redis, redisIsMissing, startRedis } from '../redis.ts';
import { type Database, freshDatabase, until } from '../world.ts';

const suite = redisIsMissing ? describe.skip : describe;
const log = createLog('silent', false);

suite('a hub', () => {
  let database: Database;
  let redis: Redis;
  let installation: string;
  const open: (() => Promise<void>)[] = [];

  beforeAll(async () => {
    database = await freshDatabase();
    const session = await database.connect();
    installation = await readInstallation(session);
    await database.query(
      "select relay.publish('seen.by.all', description => 'a test', payload_schema => '{}'::jsonb)",
    );
  });
  beforeEach(async () => {
    redis = await startRedis();
  });
  afterEach(async () => {
    for (const close of open.splice(0).reverse()) await close();
    await redis.close();
  });
  afterAll(() => database.close());

  async function hub(environment: Record<string, string> = {}): Promise<RunningHub> {
    const settings = readSettings(
      { HOST: '127.0.0.1', PORT: '0', SAFETY_READ_MS: '100', ...environment },
      'hub',
    );
    const running = await startHub({ databaseUrl: database.url, streamUrl: redis.url, settings, log });
    open.push(() => running.close());
    await running.ready();
    return running;
  }

  /** Follows the stream by the rule, from nothing, and keeps what it is handed. */
  async function follow() {
    const reader = new RedisReader({ url: redis.url, installation }, log);
    open.push(() => reader.close());
    await until('the reader is connected', () =>
      reader
        .seek(() => true)
        .then(
          () => true,
          () => false,
        ),
    );
    const state = { entries: [] as Entry[], heard: [] as string[], gaps: 0, elsewhere: [] as unknown[] };
    let place: Place | null = null;
    let stopped = false;
    const take = (entry: Entry) => {
      state.entries.push(entry);
      place ??= { epoch: entry.epoch, server: entry.server, seen: entry.seen };
      const ruling = judge(place, entry);
      if (ruling.is === 'gap') state.gaps += 1;
      if (ruling.is !== 'next') return;
      state.heard.push(...ruling.events.map(({ payload }) => payload ?? ''));
      if (ruling.elsewhere.length > 0) state.elsewhere.push(ruling.elsewhere);
      place = { ...place, seen: ruling.bound };
    };
    const reading = (async () => {
      while (!stopped) {
        await reader.next().then(
          (entries) => entries.forEach(take),
          () => new Promise((resolve) => setTimeout(resolve, 20)),
        );
      }
    })();
    open.push(async () => {
      stopped = true;
      await reader.close();
      await reading;
    });
    return Object.assign(state, { reader });
  }

  const emit = (payload: unknown, account = 'a') =>
    database.query('select relay.emit($1, $2, $3::jsonb)', [account, 'seen.by.all', JSON.stringify(payload)]);

  test('appends what is committed, each event once, in a chain', async () => {
    const edge = await follow();
    await hub();
    await until('it appends', () => edge.entries.length > 0);
    for (let n = 0; n < 20; n += 1) await emit(n);
    await until('all are there', () => edge.heard.length === 20);
    expect(edge.heard).toEqual(Array.from({ length: 20 }, (_, n) => String(n)));
    expect(edge.gaps).toBe(0);
    for (const [index, entry] of edge.entries.slice(1).entries()) {
      expect(entry.seen).toEqual(edge.entries[index]!.bound);
      expect(entry.number).toBe(edge.entries[index]!.number + 1);
    }
  });

  test('appends beacons without events, which carry what was seen', async () => {
    await emit('before');
    const edge = await follow();
    await hub();
    await until('three beacons', () => edge.entries.length >= 3);
    expect(edge.entries.every(({ events }) => events.length === 0)).toBe(true);
    expect(edge.entries.at(-1)!.bound.witness).toEqual(expect.any(Number));
  });

  test('appends soon after an edge asks, however rare its own reads are', async () => {
    const edge = await follow();
    await hub({ SAFETY_READ_MS: '60000' });
    await until('it appends', () => edge.entries.length > 0);
    const before = edge.entries.at(-1)!;
    const session = await database.connect();
    await session.query("set relay.ring = 'off'");
    await session.query("select relay.emit('a', 'seen.by.all', '\"asked for\"')");
    await until('it is there', () => {
      edge.reader.ask();
      return edge.heard.includes('"asked for"');
    });
    expect(covers(edge.entries.at(-1)!.bound, before.bound)).toBe(true);
  });

  test('a second one stands by, and takes over without a gap', async () => {
    const edge = await follow();
    const first = await hub();
    await until('it appends', () => edge.entries.length > 0);
    await hub();
    await until('the first appends', async () => (await roleOf(first)) === 'appends');
    await emit('by the first');
    await until('it is there', () => edge.heard.includes('"by the first"'));
    const name = edge.entries.at(-1)!.hub;
    await first.close();
    await emit('by the second');
    await until('it is there', () => edge.heard.includes('"by the second"'));
    expect(edge.entries.at(-1)!.hub).not.toBe(name);
    expect(edge.gaps).toBe(0);
    expect(edge.heard).toEqual(['"by the first"', '"by the second"']);
  });

  test('names the accounts whose events are too many for an entry', async () => {
    const edge = await follow();
    await hub();
    await until('it appends', () => edge.entries.length > 0);
    await database.query(
      "select relay.emit('large', 'seen.by.all', to_jsonb(repeat('x', 3000))) from generate_series(1, 400)",
    );
    await emit('small');
    await until('the small one is there', () => edge.heard.includes('"small"'));
    expect(edge.elsewhere).toContainEqual(['large']);
    expect(edge.heard).toEqual(['"small"']);
    expect(edge.gaps).toBe(0);
  });

  test('a transaction larger than a page is in no entry, and causes no gap', async () => {
    const edge = await follow();
    await hub();
    await until('it appends', () => edge.entries.length > 0);
    await database.query("select relay.emit('large', 'seen.by.all', '1') from generate_series(1, 20500)");
    await until('all look in the table', () => edge.elsewhere.includes('all'));
    await emit('after it');
    await until('what comes after it is there', () => edge.heard.includes('"after it"'));
    expect(edge.gaps).toBe(0);
  });

  test('without Redis it goes on reading, drops what nobody took, and comes back with a gap', async () => {
    const edge = await follow();
    const running = await hub();
    await until('it appends', () => edge.entries.length > 0);
    redis.signal('SIGKILL');
    await until('it notices', async () => !(await readyOf(running)));
    const count = async (name: 'eventsRead' | 'entriesDropped') =>
      (await running.metrics[name].get()).values[0]!.value;
    const read = await count('eventsRead');
    await emit('lost to the stream');
    // What is dropped before it is read is without it, and leaves no gap.
    await until('it is read', async () => (await count('eventsRead')) > read);
    const dropped = await count('entriesDropped');
    await until('it gives up', async () => (await count('entriesDropped')) > dropped);
    await redis.restart();
    await until('it is back', async () => readyOf(running));
    await emit('after it');
    await until('entries come again', () => edge.gaps > 0);
    expect(edge.heard).not.toContain('"after it"');
  });

  test('a copy of the database with a hub of its own, on the same Redis, is passed over', async () => {
    const copy = await freshDatabase();
    const edge = await follow();
    await hub();
    await until('it appends', () => edge.entries.length > 0);
    const other = await startHub({
      ...{ databaseUrl: copy.url, streamUrl: redis.url, log },
      settings: readSettings({ HOST: '127.0.0.1', PORT: '0' }, 'hub'),
    });
    const own = edge.entries[0]!.epoch;
    await until('both append', () => edge.entries.some(({ epoch }) => epoch !== own));
    await copy.query(
      "select relay.publish('seen.by.all', description => 'a test', payload_schema => '{}'::jsonb)",
    );
    await copy.query(`select relay.emit('a', 'seen.by.all', '"of the copy"')`);
    await until('it is in the stream', () =>
      edge.entries.some(({ epoch, events }) => epoch !== own && events.length > 0),
    );
    await emit('own');
    await until('its own is there', () => edge.heard.length > 0);
    expect(edge.heard).toEqual(['"own"']);
    await other.close();
    await copy.close();
  });

  test('trims the stream to about STREAM_BYTES', async () => {
    const edge = await follow();
    await hub({ STREAM_BYTES: '1MiB' });
    await until('it appends', () => edge.entries.length > 0);
    // One after the other: what is trimmed before it is read is a gap, and is never heard.
    for (let n = 0; n < 30; n += 1) {
      await emit(`${n} ${'x'.repeat(100_000)}`);
      await until('it is there', () => edge.heard.length === n + 1);
    }
    await until(
      'it has trimmed',
      async () => Number(await redis.command('XLEN', `recado:{${installation}}`)) < 30,
    );
    expect(Number(await redis.command('MEMORY', 'USAGE', `recado:{${installation}}`))).toBeLessThan(
      2 * 1024 * 1024,
    );
  });

  test('recado doctor tells whether one appends', async () => {
    const session = await database.connect();
    expect(await findStream(null, session)).toEqual([]);
    await until(
      'nobody is heard',
      async () => (await findStream(redis.url, session))[0]?.state === 'warning',
    );
    await hub();
    await until('it is heard', async () => (await findStream(redis.url, session))[0]?.state === 'ok');
    redis.signal('SIGKILL');
    await until('Redis is away', async () => (await findStream(redis.url, session))[0]?.state === 'broken');
  });

  async function roleOf({ url }: RunningHub): Promise<string> {
    const { checks } = (await (await fetch(`${url}/readyz`)).json()) as { checks: { role: string } };
    return checks.role;
  }
  async function readyOf({ url }: RunningHub): Promise<boolean> {
    return (await fetch(`${url}/readyz`)).ok;
  }
});
