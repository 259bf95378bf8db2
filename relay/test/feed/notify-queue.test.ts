// Somebody's listener that does not read fills the queue of notifications. A full queue makes every commit fail that
// notifies: a relay silences the writers before that. On a server of its own, whose queue is small.
import { chmod, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { startEmbedded } from '../../db/embedded.ts';
import { migrate } from '../../install/migrate.ts';
import { createLog } from '../../log.ts';
import { Client, openDatabase, startNode, token, until } from '../world.ts';

const ends: (() => unknown)[] = [];
afterEach(async () => {
  for (const end of ends.splice(0).reverse()) await end();
});

test('writers go on, and events arrive, while the queue is nearly full', async () => {
  const base = await mkdtemp(join(tmpdir(), 'recado-queue-test-'));
  await chmod(base, 0o755);
  ends.push(() => rm(base, { recursive: true, force: true }));
  // Half a megabyte instead of eight gigabytes.
  const settings = { fsync: 'off', max_notify_queue_pages: '64', max_connections: '50' };
  const server = await startEmbedded({ dataDir: join(base, 'data'), settings });
  ends.push(() => server.stop('immediate'));
  const database = openDatabase(server.url);
  ends.push(() => database.close());
  await migrate({ databaseUrl: server.url, log: createLog('silent', false) });
  await database.query(`select relay.publish('item')`);
  const relay = await startNode(server.url);
  ends.push(() => relay.close());
  await relay.ready();
  const client = new Client(relay, { token: await token('acme') });
  ends.push(() => client.close());
  await client.live();

  // It listens in a transaction that it leaves open.
  const idle = await database.connect();
  await idle.query('listen elsewhere');
  await idle.query('begin; select 1');
  const used = async () =>
    (await database.query<{ used: number }>('select pg_notification_queue_usage() as used'))[0]!.used;
  const fill = async (part: number) => {
    while ((await used()) < part)
      await database.query(`select pg_notify('elsewhere', repeat('x', 7000)) from generate_series(1, 3)`);
  };
  await fill(0.4);
  const isClosed = async () => (await relay.metrics.gateClosed.get()).values[0]?.value === 1;
  await until('the gate is closed', isClosed);

  // Nothing fits any more.
  await expect(fill(1.1)).rejects.toThrow(/queue/);
  for (let n = 1; n <= 50; n += 1)
    await database.query(`select relay.emit('acme', 'item', to_jsonb($1::int))`, [n]);
  expect(await client.hears(50)).toEqual(Array.from({ length: 50 }, (_, n) => n + 1));
  expect(await isClosed()).toBe(true);

  await idle.query('commit');
  await until('the queue is read', async () => (await used()) < 0.1);
  await until('the gate is open again', async () => !(await isClosed()));
});
