// A real Postgres out of an npm package, so that `npm start` needs no database of yours. For development, tests and
// small installations on one machine: it listens on 127.0.0.1 only, and nobody makes backups or major upgrades.
//
//   dataDir/cluster/data      PGDATA
//   dataDir/cluster/password  of the role postgres, mode 0600
//   dataDir/cluster-init-*    a cluster being made; renamed to `cluster` when it is whole
import { randomBytes } from 'node:crypto';
import { lchown, mkdir, mkdtemp, readdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { errorField, errorText, RecadoError } from '../errors.ts';
import type { Log } from '../log.ts';
import { freePort } from '../port.ts';
import { environment, findBinaries, run, type User } from './embedded-binaries.ts';
import { here, launch, named, type Server } from './embedded-server.ts';
import { forgetRecycledPid, isServing } from './postmaster-pid.ts';

export interface EmbeddedOptions {
  dataDir: string;
  /** Preferred; another free one is taken when it is busy or absent. */
  port?: number;
  /** Server settings, as `postgres -c name=value`. With `fsync` off, initdb does not sync either. */
  settings?: Record<string, string>;
  log?: Log;
}

export interface EmbeddedPostgres extends Server {
  /** Of the superuser, password included. */
  url: string;
  port: number;
  dataDir: string;
}

/** Resolves when the server takes connections. It runs until `stop` or until this process ends (see spawnOnWindows). */
export async function startEmbedded(options: EmbeddedOptions): Promise<EmbeddedPostgres> {
  const { settings = {}, log } = options;
  const dataDir = resolve(options.dataDir);
  const cluster = join(dataDir, 'cluster');
  const place = { dataDir, cluster, data: join(cluster, 'data') };
  const user = await chooseUser(place);
  const native = await findBinaries(user, log);
  if (!(await find(cluster))) await makeCluster(native, place, user, settings.fsync === 'off', log);
  const password = await readFile(join(cluster, 'password'), 'utf8').catch((error) => {
    throw unusable(dataDir, error);
  });
  await forgetRecycledPid(place.data);

  let port = options.port ?? (await freePort());
  let portsLeft = 5;
  const patience = Date.now() + 30_000;
  for (;;) {
    const server = await launch(native, place.data, user, { ...settings, port: String(port) }, log);
    if ('pid' in server) {
      if (options.port !== undefined && options.port !== port)
        log?.say('embedded_port_taken', { wanted: options.port, port });
      log?.say('embedded_ready', { dataDir, port, pid: server.pid });
      return { url: `postgres://postgres:${password}@127.0.0.1:${port}/postgres`, port, dataDir, ...server };
    }
    const { said } = server;
    if (/lock file .* (already exists|is empty)|is still in use/.test(said)) {
      // A server whose parent was killed may still be shutting down, and a crashed one may have left children.
      if (Date.now() > patience || (await isServing(place.data)))
        throw new RecadoError(
          'embedded_in_use',
          `Another Postgres already runs on ${dataDir}: stop it, or choose another directory. Postgres said: ${said}`,
        );
      await delay(50);
    } else if (said.includes('could not bind') && --portsLeft > 0) {
      // A port that was found free can be taken meanwhile, so Postgres's own attempt is the test.
      port = await freePort();
    } else {
      throw new RecadoError('embedded_failed', `Postgres did not start on ${dataDir}. It said: ${said}`);
    }
  }
}

interface Place {
  dataDir: string;
  cluster: string;
  data: string;
}

async function makeCluster(
  native: string,
  place: Place,
  user: User,
  noSync: boolean,
  log?: Log,
): Promise<void> {
  const { dataDir, cluster } = place;
  log?.say('embedded_creating', { dataDir });
  let fresh: string;
  try {
    await mkdir(dataDir, { recursive: true });
    fresh = await mkdtemp(join(dataDir, 'cluster-init-'));
  } catch (error) {
    throw unusable(dataDir, error);
  }
  const data = join(fresh, 'data');
  const password = join(fresh, 'password');
  const flags = ['--username=postgres', '--auth=scram-sha-256', '--pwfile=../password', '--encoding=UTF8'];
  // The built-in locale: upper() and the order of rows are the same on every system, accents included.
  flags.push('--locale=C', '--locale-provider=builtin', '--builtin-locale=C.UTF-8');
  if (noSync) flags.push('--no-sync');
  try {
    await mkdir(data, { mode: 0o700 });
    await writeFile(password, randomBytes(24).toString('hex'), { mode: 0o600 });
    // The directory last: until then nobody but root can put something else in the place of the other two.
    if (user) for (const path of [data, password, fresh]) await lchown(path, user.uid, user.gid);
    const initdb = join(native, 'bin/initdb');
    await run(initdb, ['-D', named(data, user), ...flags], { ...user, cwd: data, env: environment });
    await rename(fresh, cluster);
  } catch (error) {
    await rm(fresh, { recursive: true, force: true, maxRetries: 20, retryDelay: 50 });
    // Another start was faster. The launch below finds out whether its server runs.
    if (await find(cluster)) return;
    const said = (errorField(error, 'stderr')?.trim() || errorText(error))
      .replaceAll(here, data)
      .replaceAll('\n', ' ');
    throw new RecadoError('embedded_initdb_failed', `No database could be made in ${dataDir}: ${said}`, {
      cause: error,
    });
  }
  // What killed starts left behind. A start that is still writing has lost the race already; it may add a file while
  // we delete, hence the retries.
  for (const name of await readdir(dataDir))
    if (name.startsWith('cluster-init-'))
      await rm(join(dataDir, name), { recursive: true, force: true, maxRetries: 20, retryDelay: 50 });
}

/** As root: the owner of the data, or of the nearest directory above; if that is root, an unprivileged system user. */
async function chooseUser({ dataDir, cluster }: Place): Promise<User> {
  const self = process.getuid?.();
  // Windows, where a user has no number, and Postgres does not ask who owns its data.
  if (self === undefined) return undefined;
  let at = cluster;
  let owner = await find(at);
  while (!owner) {
    at = dirname(at);
    owner = await find(at);
  }
  const { uid, gid } = owner;
  if (self !== 0) {
    if (at === cluster && uid !== self)
      throw unusable(dataDir, `the data belong to the user with id ${uid}, this process runs as ${self}`);
    return undefined;
  }
  // initdb wants the user to have a name, which the owner of a directory mounted into a container may lack.
  if (uid !== 0 && (at === cluster || (await idOf('-u', String(uid))) !== undefined)) return { uid, gid };
  // On macOS the user `nobody` has a negative id, and the system has a user for this very purpose.
  const name = process.platform === 'darwin' ? '_postgres' : 'nobody';
  const user = { uid: (await idOf('-u', name)) ?? 65534, gid: (await idOf('-g', name)) ?? 65534 };
  if (at === cluster) await run('chown', ['-hR', `${user.uid}:${user.gid}`, cluster]); // copied here by root
  return user;
}

async function idOf(flag: '-u' | '-g', name: string): Promise<number | undefined> {
  return run('id', [flag, name]).then(
    ({ stdout }) => Number(stdout),
    () => undefined, // no such user
  );
}

async function find(path: string): Promise<{ uid: number; gid: number } | undefined> {
  return stat(path).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return undefined;
    throw unusable(path, error);
  });
}

function unusable(dataDir: string, reason: unknown): RecadoError {
  return new RecadoError(
    'embedded_data_unusable',
    `The embedded Postgres cannot use ${dataDir} (${errorText(reason)}): choose another directory, or set DATABASE_URL to a Postgres of your own.`,
    { cause: reason },
  );
}
