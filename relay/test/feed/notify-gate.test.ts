// The gate: its race step by step over connections of their own, and its nodes, killed and frozen ones included.
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import type pg from 'pg';
import { createPool, openSession } from '../../db/connect.ts';
import { Gate, PACE } from '../../feed/notify-gate.ts';
import { createLog, type Log } from '../../log.ts';
import { createMetrics } from '../../metrics.ts';
import { packageRoot } from '../../package.ts';
import type { Relay } from '../../server/relay.ts';
import { ends } from '../ends.ts';
import { Link } from '../faults/links.ts';
import { hearing } from '../hearing.ts';
import {
  Client,
  type Database,
  deadPort,
  freshDatabase,
  SECRET,
  startNode,
  through,
  token,
  until,
} from '../world.ts';

const log = createLog('silent', false);
const EVENT = 'gate.test';
const INSERT = `insert into relay.events (account_id, event, payload) values ('acc-1', '${EVENT}', 'null')`;

let database: Database;

beforeEach(async () => {
  database = await freshDatabase();
  await database.query('select relay.publish(event => $1)', [EVENT]);
});
afterEach(async () => {
  await database.close();
});

function openGate(url = database.url, gateLog: Log = log): Gate {
  const pool = createPool({ url, name: 'gate test', max: 2, log });
  const gate = new Gate({
    connect: () => openSession({ url, name: 'recado gate' }),
    pool,
    log: gateLog,
    metrics: createMetrics(),
  });
  ends.push(async () => {
    await gate.end();
    await pool.end();
  });
  return gate;
}

/** Counts notifications. A marker after them shows that none is still on its way. */
class NotificationCounter {
  readonly #session: pg.Client;
  readonly #heard: string[] = [];
  #markers = 0;

  private constructor(session: pg.Client) {
    this.#session = session;
    session.on('notification', ({ payload }) => this.#heard.push(payload ?? ''));
  }

  static async listen(): Promise<NotificationCounter> {
    const session = await database.connect();
    await session.query('listen relay');
    return new NotificationCounter(session);
  }

  /** Notifications since the last call, of everything that committed before this one. */
  async next(counted = ''): Promise<number> {
    this.#markers += 1;
    const marker = `marker ${this.#markers}`;
    await this.#session.query("select pg_notify('relay', $1)", [marker]);
    await until('the marker is heard', () => this.#heard.includes(marker));
    return this.#heard.splice(0).filter((payload) => payload === counted).length;
  }
}

interface Holding {
  mode: string;
  granted: boolean;
  name: string;
}

/** Who has, or waits for, the gate's lock (0) or that of its holder (1). */
async function holdings(which: 0 | 1): Promise<Holding[]> {
  return database.query<Record<string, unknown> & Holding>(
    `select l.mode, l.granted, a.application_name as name
       from pg_locks as l join pg_stat_activity as a using (pid)
      where l.locktype = 'advisory' and l.database = (select oid from pg_database where datname = current_database())
        and (l.classid::bigint << 32) + l.objid::bigint = relay.gate_key() + $1::int`,
    [which],
  );
}

/** Closed, and nobody in the way. */
async function closeFirmly(gate: Gate): Promise<void> {
  expect(await gate.close()).toBe(true);
  await until('the lock is granted', async () =>
    (await holdings(0)).some(({ mode, granted }) => mode === 'ExclusiveLock' && granted),
  );
}

describe('step by step', () => {
  test('a commit notifies while the gate is open, and does not while it is closed', async () => {
    const gate = openGate();
    const counter = await NotificationCounter.listen();
    await database.query(INSERT);
    expect(await counter.next()).toBe(1);
    await closeFirmly(gate);
    await database.query(INSERT);
    expect(await counter.next()).toBe(0);
    await gate.open();
    await database.query(INSERT);
    expect(await counter.next()).toBe(1);
  });

  test('the log tells once that the database is away, and once that it is back', async () => {
    const port = Number(new URL(database.url).port);
    const road = await Link.to(port);
    ends.push(() => road.close());
    const said: string[] = [];
    const gate = openGate(
      through(road, database.url),
      hearing((name, fields) => said.push(`${name} ${JSON.parse(fields).step}`)),
    );
    await gate.queueUsage();
    expect(said).toEqual([]);
    road.point(await deadPort());
    road.cut();
    for (let second = 1; second <= 3; second += 1) {
      expect(await gate.queueUsage()).toBe(0);
      expect(await gate.close()).toBe(false);
    }
    expect(said.splice(0)).toEqual(['gate_failed look', 'gate_failed switch']);
    road.point(port);
    for (let second = 1; second <= 3; second += 1) {
      await gate.queueUsage();
      await gate.close();
    }
    const recovered = ['gate_recovered look', 'gate_changed undefined', 'gate_recovered switch'];
    expect(said).toEqual(recovered);
  });

  test('for some seconds after it was opened, commits are expected that do not notify', async () => {
    const gate = openGate();
    const counter = await NotificationCounter.listen();
    const writer = await database.connect();
    expect(gate.silences).toBe(false);
    await closeFirmly(gate);
    expect(gate.silences).toBe(true);
    await writer.query('begin');
    await writer.query(INSERT); // Sees it closed.
    await gate.open();
    expect(gate.state).toBe('open');
    expect(gate.silences).toBe(true);
    await writer.query('commit');
    expect(await counter.next()).toBe(0);
    await database.query(INSERT);
    expect(await counter.next()).toBe(1);
    await until('nobody is expected to be silent', () => !gate.silences, 10_000);
  });

  test('a writer that has its transaction, and looks at the gate after it was opened, notifies', async () => {
    const gate = openGate();
    const counter = await NotificationCounter.listen();
    const writer = await database.connect();
    await closeFirmly(gate);
    await writer.query('begin; select pg_current_xact_id()');
    await gate.open();
    await writer.query(INSERT);
    await writer.query('commit');
    expect(await counter.next()).toBe(1);
  });

  test('writers are silent from the request on, while one that rang keeps its transaction open', async () => {
    const gate = openGate();
    const counter = await NotificationCounter.listen();
    const early = await database.connect();
    await early.query('begin');
    await early.query(INSERT);
    expect(await gate.close()).toBe(true);
    expect(gate.state).toBe('closed');
    await until('the request waits', async () =>
      (await holdings(0)).some(({ mode, granted }) => mode === 'ExclusiveLock' && !granted),
    );

    await database.query(INSERT);
    expect(await counter.next()).toBe(0);
    await early.query(INSERT);
    await early.query('commit');
    expect(await counter.next()).toBe(1);
  });

  test('reopening does not wait for a writer that the request waits for', async () => {
    const gate = openGate();
    const counter = await NotificationCounter.listen();
    const early = await database.connect();
    await early.query('begin');
    await early.query(INSERT);
    await gate.close();
    await gate.open();
    await database.query(INSERT);
    expect(await counter.next()).toBe(1);
    expect(await holdings(1)).toEqual([]);
    await early.query('commit');
  });

  test('one node holds it', async () => {
    const [first, second] = [openGate(), openGate()];
    expect(await first.close()).toBe(true);
    expect(await second.close()).toBe(false);
    expect(second.state).toBe('open');
    expect(await holdings(1)).toHaveLength(1);
  });

  test('another node ends a holder, which then goes on as if it had opened by itself', async () => {
    const [first, second] = [openGate(), openGate()];
    const counter = await NotificationCounter.listen();
    await closeFirmly(first);
    await second.endOtherHolder();
    await until('the first has noticed', () => first.state === 'open');
    expect(first.silences).toBe(true);
    expect(await holdings(1)).toEqual([]);
    await database.query(INSERT);
    expect(await counter.next()).toBe(1);
    await closeFirmly(second);
  });

  test('the other nodes are told to keep a pace once for many batches', async () => {
    const gate = openGate();
    const counter = await NotificationCounter.listen();
    await closeFirmly(gate);
    await Promise.all([gate.tellOthers(), gate.tellOthers()]);
    await gate.tellOthers();
    expect(await counter.next(PACE)).toBe(1);
  });
});

describe('a transaction', () => {
  test('notifies once, however many events it has', async () => {
    const counter = await NotificationCounter.listen();
    const writer = await database.connect();
    await writer.query('begin');
    for (let n = 0; n < 5; n += 1) await writer.query(INSERT);
    expect((await holdings(0)).filter(({ mode }) => mode === 'ShareLock')).toHaveLength(1);
    await writer.query('commit');
    expect(await counter.next()).toBe(1);
    expect(await holdings(0)).toEqual([]);
  });

  test('notifies after a savepoint with its first event was rolled back', async () => {
    const counter = await NotificationCounter.listen();
    const writer = await database.connect();
    await writer.query('begin; savepoint a');
    await writer.query(INSERT);
    await writer.query('rollback to savepoint a');
    await writer.query(INSERT);
    await writer.query('commit');
    expect(await counter.next()).toBe(1);
  });

  test('does not notify for no rows', async () => {
    const counter = await NotificationCounter.listen();
    await database.query(
      `insert into relay.events (account_id, event) select 'acc-1', '${EVENT}' from generate_series(1, 0)`,
    );
    expect(await counter.next()).toBe(0);
  });

  test('does not notify, and takes no lock, where it is muted', async () => {
    const counter = await NotificationCounter.listen();
    const writer = await database.connect();
    await writer.query('set relay.ring = off');
    await writer.query('begin');
    await writer.query(INSERT);
    expect(await holdings(0)).toEqual([]);
    await writer.query('commit');
    expect(await counter.next()).toBe(0);
    await writer.query('reset relay.ring');
    await writer.query(INSERT);
    expect(await counter.next()).toBe(1);
  });

  test('that tells something commits to disk before it is told', async () => {
    const writer = await database.connect();
    await writer.query('set synchronous_commit = off; begin');
    await writer.query(INSERT);
    const { rows } = await writer.query('show synchronous_commit');
    expect(rows).toEqual([{ synchronous_commit: 'local' }]);
    await writer.query('commit');
    expect((await writer.query('show synchronous_commit')).rows).toEqual([{ synchronous_commit: 'off' }]);
  });
});

describe('nodes', () => {
  async function node(environment: Record<string, string> = {}): Promise<Relay> {
    const relay = await startNode(database.url, environment);
    ends.push(() => relay.close());
    await relay.ready();
    return relay;
  }

  async function client(port: number): Promise<Client> {
    const connected = new Client(port, { token: await token() });
    ends.push(() => connected.close());
    return connected.live();
  }

  async function holds(relay: Relay): Promise<boolean> {
    return (await relay.metrics.gateClosed.get()).values[0]?.value === 1;
  }

  let told = 0;
  beforeEach(() => {
    told = 0;
  });

  async function tell(): Promise<void> {
    told += 1;
    await database.query(INSERT);
  }

  /** Two writers at full speed, until the condition holds. */
  async function writeUntil(what: string, condition: () => Promise<boolean>): Promise<void> {
    let done = false;
    const write = async () => {
      const writer = await database.connect();
      while (!done) {
        await writer.query(`do $$ begin for n in 1 .. 50 loop ${INSERT}; commit; end loop; end $$`);
        told += 50;
      }
    };
    const writing = [write(), write()];
    try {
      await until(what, condition);
    } finally {
      done = true;
      await Promise.all(writing);
    }
  }

  test('it closes under load and opens again, and nothing is lost or told twice on the way', async () => {
    const relay = await node();
    const listening = await client(relay.port);
    await writeUntil('the gate is closed', () => holds(relay));
    await until('the gate is open', async () => !(await holds(relay)));
    await tell();
    await listening.hears(told);
    await tell();
    expect(await listening.hears(told)).toHaveLength(told);
  });

  test('clients of every node hear at once of a writer that saw it closed and commits when it is open', async () => {
    const unhurried = { SAFETY_READ_MS: '60000' };
    const relays = [await node(unhurried), await node(unhurried)] as const;
    const clients = [await client(relays[0].port), await client(relays[1].port)] as const;
    const isClosed = async () => (await Promise.all(relays.map(holds))).includes(true);
    const writer = await database.connect();
    await writeUntil('the gate is closed', isClosed);
    await writer.query('begin');
    await writer.query(INSERT);
    for (const listening of clients) await listening.hears(told);
    await until('the gate is open', async () => !(await isClosed()));
    await writer.query('commit');
    for (const listening of clients) await listening.hears(told + 1);
  });

  test('of two nodes one holds it, and clients of both hear everything once', async () => {
    const relays = [await node(), await node()] as const;
    const clients = [await client(relays[0].port), await client(relays[1].port)] as const;
    const holding = async () => (await Promise.all(relays.map(holds))).filter(Boolean).length;
    await writeUntil('the gate is closed', async () => (await holding()) > 0);
    expect(await holding()).toBe(1);
    // The last one is announced by the gate's holder, or found by a safety read.
    await tell();
    for (const listening of clients) expect(await listening.hears(told)).toHaveLength(told);
  });

  /** A node that can be killed, told to hold the gate by load. */
  async function holderProcess(): Promise<ChildProcess> {
    const child = spawn(process.execPath, [join(packageRoot, 'dist/relay/main.js'), 'relay'], {
      env: { ...process.env, DATABASE_URL: database.url, JWT_SECRET: SECRET, HOST: '127.0.0.1', PORT: '0' },
      stdio: 'ignore',
    });
    const gone = once(child, 'exit');
    ends.push(async () => {
      child.kill('SIGKILL');
      await gone;
    });
    await until(
      'the process reads',
      async () =>
        (
          await database.query(
            "select from pg_stat_activity where datname = current_database() and application_name = 'recado feed'",
          )
        ).length > 0,
      30_000,
    );
    // The holder's lock comes before the request that closes the gate.
    await writeUntil('the process has closed the gate', async () =>
      (await holdings(0)).some(({ mode }) => mode === 'ExclusiveLock'),
    );
    return child;
  }

  test('a holder that is killed leaves the gate open', async () => {
    const child = await holderProcess();
    const relay = await node();
    const listening = await client(relay.port);
    told = 0;
    await tell();
    await listening.hears(told);
    child.kill('SIGKILL');
    await until('its locks are gone', async () => (await holdings(1)).length === 0);
    const counter = await NotificationCounter.listen();
    await tell();
    expect(await counter.next()).toBe(1);
    expect(await listening.hears(told)).toHaveLength(told);
  });

  test('a holder that is frozen is found out by its silence, and ended by the other node', async () => {
    const child = await holderProcess();
    // Before a node is started, which may take longer than an idle holder keeps the gate.
    child.kill('SIGSTOP');
    const relay = await node();
    const listening = await client(relay.port);
    told = 0;
    const frozen = (await holdings(1)).map(({ name }) => name);
    expect(frozen).toEqual(['recado gate']);
    const counter = await NotificationCounter.listen();
    await tell();
    expect(await counter.next()).toBe(0); // The gate is closed, and nobody notifies the others.
    await listening.hears(told);
    await until('the holder is ended', async () => {
      await tell();
      return (await holdings(1)).length === 0;
    });
    await counter.next();
    await tell();
    expect(await counter.next()).toBe(1);
    expect(await listening.hears(told)).toHaveLength(told);
    child.kill('SIGCONT');
    // It goes on, with the gate it lost: it hears what is written, and may close the gate again.
    await writeUntil('somebody holds the gate', async () => (await holdings(1)).length > 0);
    expect(await listening.hears(told)).toHaveLength(told);
  });
});
