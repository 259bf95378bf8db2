// Postgres on a disk that is filled: relay.check() and the metrics say so, and no longer once there is room. The disk is
// a small one in memory, which root may mount.
import { execFileSync } from 'node:child_process';
import { chmodSync, mkdtempSync } from 'node:fs';
import { open, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { startEmbedded } from '../../db/embedded.ts';
import { migrate } from '../../install/migrate.ts';
import { createLog } from '../../log.ts';
import { ends } from '../ends.ts';
import { Client, OPERATOR, openDatabase, startNode, token } from '../world.ts';

const disk = mkdtempSync(join(tmpdir(), 'recado-disk-test-'));
const isMounted = mount();
afterAll(async () => {
  if (isMounted) execFileSync('umount', [disk]);
  await rm(disk, { recursive: true });
});

function mount(): boolean {
  try {
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=200m', 'tmpfs', disk], { stdio: 'ignore' });
    chmodSync(disk, 0o755);
    return true;
  } catch {
    return false;
  }
}

async function openServer() {
  const settings = { fsync: 'off', min_wal_size: '32MB', max_wal_size: '48MB', max_connections: '50' };
  const server = await startEmbedded({ dataDir: join(disk, 'data'), settings });
  ends.push(() => server.stop('immediate'));
  const database = openDatabase(server.url);
  ends.push(() => database.close());
  await migrate({ databaseUrl: server.url, log: createLog('silent', false) });
  await database.query(`select relay.publish('item'); create table public.visits (note text)`);
  return { database, url: server.url };
}

/** @returns what to remove */
async function fill(): Promise<string> {
  const path = join(disk, 'ballast');
  const file = await open(path, 'w');
  try {
    for (;;) await file.write(Buffer.alloc(64 * 1024));
  } catch (error) {
    expect(error).toMatchObject({ code: 'ENOSPC' });
  } finally {
    await file.close();
  }
  return path;
}

(isMounted ? test : test.skip)('a full disk is told while it is full, and clients hear on', async () => {
  const { database, url } = await openServer();
  const relay = await startNode(url);
  ends.push(() => relay.close());
  const client = new Client(relay, { token: await token('acme') });
  ends.push(() => client.close());
  await client.live();
  const emit = (n: number) => database.query(`select relay.emit('acme', 'item', to_jsonb($1::int))`, [n]);
  const look = () => database.query('select problem from relay.check()');
  const write = () =>
    database.query(`insert into public.visits select repeat('x', 4000) from generate_series(1, 100)`);
  expect(await look()).toEqual([]);
  // What commits next makes a segment of the WAL that has room: without one Postgres itself would end.
  await database.query('select pg_switch_wal()');
  await emit(1);

  const ballast = await fill();
  await expect(write()).rejects.toMatchObject({ code: '53100' });
  expect(await look()).toEqual([{ problem: 'disk_full' }]);
  const metrics = await fetch(`http://127.0.0.1:${relay.port}/metrics`, { headers: OPERATOR });
  const text = await metrics.text();
  expect(text).toMatch(/^recado_disk_full 1$/m);
  expect(text).toMatch(/^recado_contract_problems 0$/m);
  // Into a page that is there.
  await emit(2);
  expect(await client.hears(2)).toEqual([1, 2]);

  await rm(ballast);
  await write();
  expect(await look()).toEqual([]);
});
