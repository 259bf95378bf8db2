// What makes `npm ci && npm start` work with nothing else installed: the files in DATA_DIR by which the commands
// find each other, and two sample clinics.
import { randomBytes } from 'node:crypto';
import { mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type pg from 'pg';
import type { Settings } from '../config/settings.ts';
import { errorCode, RecadoError } from '../errors.ts';
import { commandLine, packageRoot } from '../package.ts';

/** DATABASE_URL, or the embedded Postgres of a `recado start` that runs. @throws RecadoError `database_not_running` */
export async function findDatabase(settings: Settings): Promise<string> {
  const { database } = settings;
  if (database.url !== null) return database.url;
  const url = await readIfThere(addressFile(database.dataDir));
  if (url !== null) return url;
  throw new RecadoError(
    'database_not_running',
    `There is no DATABASE_URL, and no embedded Postgres runs in ${database.dataDir}: set DATABASE_URL, or start the embedded one with "${commandLine('start')}" in another terminal.`,
  );
}

/** Lets the other commands find the embedded Postgres; the address holds its password. */
export async function announceDatabase(dataDir: string, url: string): Promise<() => Promise<void>> {
  await mkdir(dataDir, { recursive: true });
  await writeFile(addressFile(dataDir), url, { mode: 0o600 });
  return () => rm(addressFile(dataDir), { force: true });
}

/** The settings of tokens; where they name no key, a secret is made once and kept in DATA_DIR. */
export async function findSecret({ jwt, database: { dataDir } }: Settings): Promise<Settings['jwt']> {
  if (jwt.secret !== null || jwt.keySetUrl !== null) return jwt;
  const file = join(dataDir, 'jwt-secret');
  const known = await readIfThere(file);
  if (known !== null) return { ...jwt, secret: known };
  const secret = randomBytes(32).toString('base64url');
  await mkdir(dataDir, { recursive: true });
  await writeFile(file, secret, { mode: 0o600, flag: 'wx' });
  return { ...jwt, secret };
}

/** The two sample clinics, into tables that are still empty, and who answers which conversation. */
export async function addSamples(pool: pg.Pool): Promise<void> {
  const { rows } = await pool.query<{ empty: boolean }>(
    'select not exists (select from public.accounts) as empty',
  );
  const samples = rows[0]!.empty ? ['clinic.sql', 'chats.sql'] : [];
  // First: the samples make events, too.
  for (const file of ['attendants.sql', ...samples]) {
    await pool.query(await readFile(join(packageRoot, 'sql/demo', file), 'utf8'));
  }
}

function addressFile(dataDir: string): string {
  return join(dataDir, 'database-url');
}

async function readIfThere(file: string): Promise<string | null> {
  try {
    return await readFile(file, 'utf8');
  } catch (error) {
    if (errorCode(error) === 'ENOENT') return null;
    throw error;
  }
}
