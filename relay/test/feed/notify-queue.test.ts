// Somebody's listener that does not read fills the queue of notifications. A full queue makes every commit fail that
// notifies: a relay silences the writers before that. On a server of its own, whose queue is small.
import { chmod, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createPool, openSession } from '../../db/connect.ts';
import { type EmbeddedPostgres, startEmbedded } from '../../db/embedded.ts';
import { Gate } from '../../feed/notify-gate.ts';
import { startWakeup } from '../../feed/wakeup.ts';
import { migrate } from '../../install/migrate.ts';
import { createLog } from '../../log.ts';
import { createMetrics } from '../../metrics.ts';
import { countProblems } from '../../outbox/load.ts';
import { ends } from '../ends.ts';
import { Link } from '../faults/links.ts';
import { hearing } from '../hearing.ts';
import { Client, type Database, deadPort, openDatabase, startNode, through, token, until } from '../world.ts';

const silent = createLog('silent', false);
let server: EmbeddedPostgres;
let base: string;
let database: Database;
beforeAll(async () => {
  base = await mkdtemp(join(tmpdir(), 'recado-queue-test-'));
  await chmod(base, 0o755);
  // Half a megabyte instead of eight gigabytes.
  const settings = { fsync: 'off', max_notify_queue_pages: '64', max_connections: '50' };
  server = await startEmbedded({ dataDir: join(base, 'data'), settings });
  database = openDatabase(server.url);
  await migrate({ databaseUrl: server.url, log: silent });
  await database.query(`select relay.publish('item')`);
});
afterEach(async () => {
  await until('the queue is read', async () => (await used()) < 0.1);
});
afterAll(async () => {
  await database.close();
  await server.stop('immediate');
  await rm(base, { recursive: true, force: true });
});

/** 0 to 1. */
async function used(): Promise<number> {
  const rows = await database.query<{ used: number }>('select pg_notification_queue_usage() as used');
  return rows[0]!.used;
}

/** Listens in a transaction that stays open. */
async function listenIdly() {
  const idle = await database.connect();
  await idle.query('listen elsewhere');
  await idle.query('begin; select 1');
  return idle;
}

async function fill(part: number): Promise<void> {
  while ((await used()) < part)
    await database.query(`select pg_notify('elsewhere', repeat('x', 7000)) from generate_series(1, 3)`);
}

test('writers go on, and events arrive, while the queue is nearly full', async () => {
  const relay = await startNode(server.url);
  ends.push(() => relay.close());
  await relay.ready();
  const client = new Client(relay, { token: await token('acme') });
  ends.push(() => client.close());
  await client.live();

  const idle = await listenIdly();
  await fill(0.4);
  const isClosed = async () => (await relay.metrics.gateClosed.get()).values[0]?.value === 1;
  await until('the gate is closed', isClosed);
  // Nothing fits any more.
  await expect(fill(1.1)).rejects.toThrow(/queue/);
  // It has a metric of its own, and is no problem of the contract.
  const problems = await database.query('select problem from relay.check()');
  expect(problems).toEqual([{ problem: 'notification_queue' }]);
  expect(await countProblems(await database.connect())).toMatchObject({ ofContract: 0 });
  for (let n = 1; n <= 50; n += 1)
    await database.query(`select relay.emit('acme', 'item', to_jsonb($1::int))`, [n]);
  expect(await client.hears(50)).toEqual(Array.from({ length: 50 }, (_, n) => n + 1));
  expect(await isClosed()).toBe(true);

  await idle.end();
  await until('the queue is read', async () => (await used()) < 0.1);
  await until('the gate is open again', async () => !(await isClosed()));
});

test('a look that fails tells what the last one found: the gate does not open for it', async () => {
  const link = await Link.to(server.port);
  ends.push(() => link.close());
  const connect = () => openSession({ url: server.url, name: 'a gate of a test' });
  const url = through(link, server.url);
  const pool = createPool({ url, name: 'gates of a test', max: 1, log: silent });
  ends.push(() => pool.end());
  const gate = new Gate({ connect, pool, log: silent, metrics: createMetrics() });
  ends.push(() => gate.end());
  const idle = await listenIdly();
  ends.push(() => idle.end());
  await fill(0.4);
  const found = await gate.queueUsage();
  expect(found).toBeGreaterThan(0.3);
  link.point(await deadPort());
  link.cut();
  expect(await gate.queueUsage()).toBe(found);
  link.point(server.port);
  await idle.end();
  await until('the queue is read', async () => (await gate.queueUsage()) < 0.1);
});

test('the node that keeps the gate closed for it is not taken for a frozen one', async () => {
  const connect = () => openSession({ url: server.url, name: 'a gate of a test' });
  const pool = createPool({ url: server.url, name: 'gates of a test', max: 2, log: silent });
  ends.push(() => pool.end());
  const metrics = createMetrics();
  const holder = new Gate({ connect, pool, log: silent, metrics });
  ends.push(() => holder.end());
  const idle = await listenIdly();
  ends.push(() => idle.end());
  await fill(0.4);
  expect(await holder.close()).toBe(true);

  let isFilling = false;
  let reads = 0;
  const other = startWakeup({
    ...{ databaseUrl: server.url, connect, pool, mayCloseGate: true, metrics },
    // Each read finds something, which no notification announced.
    wake: () => {
      if (!isFilling) return;
      reads += 1;
      queueMicrotask(() => other.onRead({ transactions: 1 }));
    },
    safetyReadMs: 20,
    paceMs: 60_000,
    log: hearing((name) => {
      if (name === 'notify_queue') isFilling = true;
    }),
  });
  ends.push(() => other.close());
  await until('it has read often', () => reads > 30);
  expect(holder.state).toBe('closed');
});
