// The LISTEN connection: killed, half-open, without a database, closed at bad moments. The safety reads are a minute
// apart here, so that every read has a notification. The gate has its own tests.
import type pg from 'pg';
import { createPool, openSession } from '../../db/connect.ts';
import { startWakeup, type Wakeup } from '../../feed/wakeup.ts';
import { createLog } from '../../log.ts';
import { createMetrics, type Metrics } from '../../metrics.ts';
import { ends } from '../ends.ts';
import { Link } from '../faults/links.ts';
import {
  Client,
  type Database,
  deadPort,
  freshDatabase,
  startNode,
  through,
  token,
  until,
} from '../world.ts';

const silent = createLog('silent', false);
let database: Database;
beforeAll(async () => {
  database = await freshDatabase();
  await database.query("select relay.publish(event => 'test.event')");
});
afterAll(() => database.close());

class WakeupProbe {
  readonly link: Link;
  readonly wakeup: Wakeup;
  readonly metrics: Metrics = createMetrics();
  readonly #pool: pg.Pool;
  wakes = 0;

  constructor(link: Link) {
    this.link = link;
    // The gate's own connections do not go through the link: what is tested is the one that listens.
    this.#pool = createPool({ url: database.url, name: 'gate of a test', log: silent, max: 1 });
    this.wakeup = startWakeup({
      databaseUrl: through(link, database.url),
      connect: () => openSession({ url: database.url, name: 'gate of a test' }),
      pool: this.#pool,
      mayCloseGate: false,
      wake: () => {
        this.wakes += 1;
      },
      safetyReadMs: 60_000,
      paceMs: 60_000,
      log: silent,
      metrics: this.metrics,
    });
    ends.push(() => this.close());
  }

  /** Resolves when a commit wakes the feed. It is repeated: a commit before LISTEN sends no notification. */
  async heard(): Promise<void> {
    const before = await this.notified();
    await until('a commit is heard', async () => {
      await emit();
      return (await this.notified()) > before;
    });
  }

  async notified(): Promise<number> {
    return (await this.metrics.wakeups.get()).values[0]?.value ?? 0;
  }

  /** How often its connection was lost. */
  async lost(): Promise<number> {
    return (await this.metrics.listenFailures.get()).values[0]?.value ?? 0;
  }

  async close(): Promise<void> {
    await this.wakeup.close();
    if (!this.#pool.ended) await this.#pool.end();
  }
}

async function emit(account = 'acc-1', payload: unknown = 1): Promise<void> {
  await database.query('select relay.emit($1, $2, $3)', [account, 'test.event', JSON.stringify(payload)]);
}

async function linkToDatabase(): Promise<Link> {
  const link = await Link.to(Number(new URL(database.url).port));
  ends.push(() => link.close());
  return link;
}

async function startProbe(): Promise<WakeupProbe> {
  const probe = new WakeupProbe(await linkToDatabase());
  await until('it listens', () => probe.wakeup.listening);
  return probe;
}

const listeners = () =>
  database.query(
    "select pid from pg_stat_activity where application_name = 'recado wakeup' and datname = current_database()",
  );

test('listening again wakes the feed, since something may have been missed', async () => {
  const probe = await startProbe();
  for (let i = 0; i < 2; i += 1) {
    const { wakes } = probe;
    const lost = await probe.lost();
    await database.endSessions('recado wakeup');
    await until('it noticed', async () => (await probe.lost()) > lost);
    await until('it listens again', () => probe.wakeup.listening);
    await until('it woke the feed', () => probe.wakes > wakes);
    await probe.heard();
  }
});

test('a half-open connection is noticed, and another one listens', async () => {
  const probe = await startProbe();
  // Neither side is told.
  probe.link.forget(false, 60_000);
  await until('it noticed', async () => (await probe.lost()) > 0);
  await until('it listens again', () => probe.wakeup.listening);
  expect(await probe.lost()).toBe(1);
  await probe.heard();
});

test('a database that is away, at the start or later, is waited for', async () => {
  const link = await linkToDatabase();
  const real = link.target;
  link.point(await deadPort());
  const probe = new WakeupProbe(link);
  for (let i = 0; i < 2; i += 1) {
    expect(probe.wakeup.listening).toBe(false);
    link.point(real);
    await until('it listens', () => probe.wakeup.listening);
    await probe.heard();
    link.point(await deadPort());
    link.cut();
    await until('it noticed', () => !probe.wakeup.listening);
  }
});

test('a database that is slow to connect to is heard all the same', async () => {
  const link = await linkToDatabase();
  // The handshake takes some round trips, more together than a query may take.
  link.delay(200);
  const probe = new WakeupProbe(link);
  await until('it listens', () => probe.wakeup.listening, 25_000);
  link.delay(0);
  await probe.heard();
});

describe('closed', () => {
  /** What this process keeps open: sockets. */
  const sockets = () =>
    process.getActiveResourcesInfo().filter((name) => /TCP(Socket|Connect)/.test(name)).length;

  test('while it listens: its session ends', async () => {
    const probe = await startProbe();
    await probe.close();
    await until('nobody listens', async () => (await listeners()).length === 0);
  });

  test.each(['before the first connection', 'while it reconnects'])(
    '%s, with the database away: it does not come back when the database does',
    async (when) => {
      const link = await linkToDatabase();
      const real = link.target;
      let probe: WakeupProbe;
      if (when === 'while it reconnects') {
        probe = new WakeupProbe(link);
        await until('it listens', () => probe.wakeup.listening);
        link.point(await deadPort());
        link.cut();
        await until('it noticed', () => !probe.wakeup.listening);
      } else {
        link.point(await deadPort());
        probe = new WakeupProbe(link);
      }
      await probe.close();
      link.point(real);
      // A closed one that still reconnected would be listed below, since the next one can connect.
      const next = new WakeupProbe(link);
      await until('the next one listens', () => next.wakeup.listening);
      await next.heard();
      // The last attempt of the closed one may still be ending. A session that stays makes this fail.
      await until('only the next one listens', async () => (await listeners()).length === 1);
      expect(probe.wakeup.listening).toBe(false);
    },
  );

  test('while the database takes connections and is silent: it ends, and so does what it had begun', async () => {
    const before = sockets();
    const link = await linkToDatabase();
    link.freeze();
    const probe = new WakeupProbe(link);
    let closed = false;
    void probe.close().then(() => {
      closed = true;
    });
    await until('it is closed', () => closed);
    link.thaw();
    await until('nobody listens', async () => (await listeners()).length === 0);
    await link.close();
    await until('no socket is left', () => sockets() <= before);
  });

  test.each(['before it is connected', 'while it listens'])('twice, and at once, %s', async (when) => {
    const link = await linkToDatabase();
    const probe = new WakeupProbe(link);
    if (when === 'while it listens') {
      await until('it listens', () => probe.wakeup.listening);
      expect(await listeners()).toHaveLength(1);
    }
    await Promise.all([probe.wakeup.close(), probe.wakeup.close()]);
    // A connection that was left would be there before that of the next one.
    const next = new WakeupProbe(link);
    await until('the next one listens', () => next.wakeup.listening);
    await next.heard();
    await until('only the next one listens', async () => (await listeners()).length === 1);
    expect(await probe.notified()).toBe(0);
  });
});

describe('a relay', () => {
  async function startRelay(link: Link): Promise<Client> {
    const relay = await startNode(through(link, database.url), { SAFETY_READ_MS: '60000' });
    ends.push(() => relay.close());
    await relay.ready();
    const client = new Client(relay, { token: await token() });
    ends.push(() => client.close());
    return client.live();
  }

  test('delivers what was committed while nobody listened, as soon as somebody does', async () => {
    const client = await startRelay(await linkToDatabase());
    for (let n = 1; n <= 3; n += 1) {
      await database.endSessions('recado wakeup');
      await emit('acc-1', n);
      await client.hears(n);
    }
    expect(client.payloads).toEqual([1, 2, 3]);
  });

  test('comes back by itself when the database was unreachable, and delivers what was committed meanwhile', async () => {
    const link = await linkToDatabase();
    const real = link.target;
    const client = await startRelay(link);
    link.point(await deadPort());
    link.cut();
    for (let n = 1; n <= 5; n += 1) await emit('acc-1', n);
    link.point(real);
    await client.hears(5);
    await emit('acc-1', 6);
    expect(await client.hears(6)).toEqual([1, 2, 3, 4, 5, 6]);
    expect(client.connects).toHaveLength(1);
  });
});
