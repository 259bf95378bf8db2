// Servers beneath a folder for the tests of a file, in this process or in one of their own.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmod, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import pg from 'pg';
import { type EmbeddedPostgres, startEmbedded } from '../../db/embedded.ts';

export const settings = { fsync: 'off' };

export let base: string;
export const servers: EmbeddedPostgres[] = [];
export const ends: (() => unknown)[] = [];

beforeAll(async () => {
  base = await mkdtemp(join(tmpdir(), 'recado-embedded-test-'));
  await chmod(base, 0o755);
});

afterEach(async () => {
  for (const end of ends.splice(0)) await end();
  for (const server of servers.splice(0)) await server.stop('immediate');
});

afterAll(() => rm(base, { recursive: true, force: true }));

export async function start(dataDir: string, port?: number): Promise<EmbeddedPostgres> {
  const server = await startEmbedded({ dataDir, settings, ...(port !== undefined && { port }) });
  servers.push(server);
  return server;
}

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
export async function startInChild({
  dataDir,
  root = join(import.meta.dirname, '../../..'),
  tmp,
  user,
}: InChild) {
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

export async function query(url: string, sql: string): Promise<unknown[]> {
  const client = new pg.Client(url);
  await client.connect();
  try {
    return (await client.query(sql)).rows as unknown[];
  } finally {
    await client.end();
  }
}
