// Debian's pgbouncer in front of a test's database, on a free port.
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { chmod, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { deadPort } from './world.ts';

const PROGRAM = '/usr/sbin/pgbouncer';
/** Debian's nobody: as root it refuses to start. */
const NOBODY = 65_534;

/** In CI its package is installed. */
export const pgbouncerIsMissing = !existsSync(PROGRAM) && process.env.RECADO_CI === undefined;

export interface Pooler {
  readonly url: string;
  close(): Promise<void>;
}

/** @param sessions it may open */
export async function startPooler(
  databaseUrl: string,
  mode: 'transaction' | 'session' | 'statement',
  sessions = 3,
): Promise<Pooler> {
  const { hostname, port, username, password, pathname } = new URL(databaseUrl);
  const folder = await mkdtemp(join(tmpdir(), 'recado-pgbouncer-'));
  const own = await deadPort();
  const target = `host=${hostname} port=${port || 5432} dbname=${pathname.slice(1)} user=${username} password=${password}`;
  await writeFile(
    join(folder, 'pgbouncer.ini'),
    `[databases]
app = ${target} pool_size=${sessions}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = ${own}
unix_socket_dir =
auth_type = any
pool_mode = ${mode}
server_reset_query_always = 0
`,
  );
  await chmod(folder, 0o755);
  const asNobody = process.getuid?.() === 0 ? { uid: NOBODY, gid: NOBODY } : {};
  const child: ChildProcess = spawn(PROGRAM, [join(folder, 'pgbouncer.ini')], {
    ...asNobody,
    cwd: '/',
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  let said = '';
  const ended = once(child, 'exit');
  await new Promise<void>((resolve, reject) => {
    child.stderr!.on('data', (data) => {
      said += String(data);
      if (said.includes('process up')) resolve();
    });
    child.once('exit', () => reject(new Error(`pgbouncer did not start: ${said}`)));
  });
  return {
    url: `postgres://app@127.0.0.1:${own}/app`,
    async close() {
      child.kill('SIGKILL');
      await ended;
      await rm(folder, { recursive: true });
    },
  };
}
