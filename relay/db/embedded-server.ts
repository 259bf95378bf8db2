// The process of the embedded Postgres: how it is started, watched, and ended.
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { Socket } from 'node:net';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { errorText } from '../errors.ts';
import type { Log } from '../log.ts';
import { environment, run, type User } from './embedded-binaries.ts';

export interface Server {
  pid: number;
  /** Resolves when the server and its watch are gone. Any number of calls; `immediate` may follow `fast`. */
  stop(mode?: 'fast' | 'immediate'): Promise<void>;
}

// As root, Postgres runs as a user who may not be able to traverse the path to the data (a 0700 home above it). The
// child enters the directory before it gives up root, and this name leads there directly. Only Linux has such a
// name; elsewhere that user must be able to traverse the path, or Postgres fails with its own error.
export const here = '/proc/self/cwd';

export const named = (data: string, user: User) => (user && process.platform === 'linux' ? here : data);

/** Starts the postmaster and waits until it is ready. If it ends instead, `said` is the end of its log. */
export async function launch(
  native: string,
  data: string,
  user: User,
  settings: Record<string, string>,
  log?: Log,
): Promise<Server | { said: string }> {
  const fixed = {
    listen_addresses: '127.0.0.1',
    unix_socket_directories: '',
    // What is read below. ERROR is left out, because its lines quote statements and rows.
    log_destination: 'stderr',
    logging_collector: 'off',
    log_min_messages: 'log',
    log_line_prefix: '',
    lc_messages: 'C',
  };
  const flags = Object.entries({ ...settings, ...fixed }).flatMap(([name, value]) => [
    '-c',
    `${name}=${value}`,
  ]);
  const command = [join(native, 'bin/postgres'), '-D', named(data, user), ...flags];
  const isWindows = process.platform === 'win32';
  const child = isWindows ? spawnOnWindows(command, data) : spawnUnderWatch(command, data, user);
  // 'close' comes when Postgres has ended, its last line is read and the watch is gone too.
  const gone = once(child, 'close');

  const lines: string[] = [];
  const ready = new Promise<boolean>((settle) => {
    createInterface({ input: child.stderr! }).on('line', (text) => {
      const line = text.replaceAll(here, data);
      lines.push(line);
      if (lines.length > 20) lines.shift();
      log?.say('embedded_server_said', { line });
      if (line.includes('ready to accept connections')) settle(true);
    });
    gone.then(
      () => settle(false),
      (error) => {
        lines.push(errorText(error));
        settle(false);
      },
    );
  });
  if (!(await ready)) return { said: lines.join(' ') };

  let stopping = false;
  child.once('exit', (code, signal) => {
    if (!stopping) log?.say('embedded_exited', { how: signal ?? `exit code ${code}` });
  });
  return {
    pid: child.pid!,
    async stop(mode = 'fast') {
      stopping = true;
      if (isWindows) await stopOnWindows(child, native, data, mode);
      else child.kill(mode === 'fast' ? 'SIGINT' : 'SIGQUIT');
      await gone;
    },
  };
}

// The watch outlives a killed parent: fd 3 ends when our process is gone, however that happened. The watch is there
// before Postgres is, so no moment goes without one; it is forked twice, so as not to be a child of the postmaster.
const underWatch = `
  ( ( read -r word <&3; [ "$word" = stopped ] || kill -INT $$ ) >/dev/null 2>&1 & )
  exec "$@" 3<&-`;

function spawnUnderWatch(command: string[], data: string, user: User): ChildProcess {
  const child = spawn('/bin/sh', ['-c', underWatch, 'sh', ...command], {
    ...user,
    cwd: data,
    env: environment,
    // Its own session: Ctrl-C in the terminal is for us, and we close the database last.
    detached: true,
    stdio: ['ignore', 'ignore', 'pipe', 'pipe'],
  });
  const watch = child.stdio[3];
  if (!(watch instanceof Socket)) throw new Error('Node opened no pipe to the watch of Postgres.');
  watch.resume();
  watch.on('error', () => {}); // EPIPE: the watch has already ended, and the word only tells it to end
  child.once('exit', () => watch.end('stopped\n'));
  return child;
}

/**
 * Without a watch. Ctrl-C and a window that is closed reach every process of the window, so that Postgres ends by
 * itself. If only our process is killed, Postgres keeps running, and the next start reports it.
 */
function spawnOnWindows([program = '', ...flags]: string[], data: string): ChildProcess {
  return spawn(program, flags, { cwd: data, env: environment, stdio: ['ignore', 'ignore', 'pipe'] });
}

/** Windows has no signals. If pg_ctl cannot stop the server, it is killed, and recovers at its next start. */
async function stopOnWindows(child: ChildProcess, native: string, data: string, mode: string): Promise<void> {
  if (child.exitCode !== null) return;
  await run(join(native, 'bin/pg_ctl'), ['stop', '-D', data, '-m', mode]).catch(() => child.kill());
}
