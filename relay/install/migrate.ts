// Brings a database up to this version: migrations/ (the past, by node-pg-migrate), then sql/ (the present).
//
//   relay.migrations                which migrations of the core ran
//   relay.packs                     which packs are installed, and whether their tables are ours
//   relay.clinic_migrations, …      which migrations of a pack ran: a pack may be added to a core that is further on
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { runner } from 'node-pg-migrate';
import type pg from 'pg';
import { RecadoError } from '../errors.ts';
import type { Log } from '../log.ts';
import { commandLine, packageRoot } from '../package.ts';
import { applySql, type Patience, retryWhileBusy, sentenceOf } from './apply-sql.ts';
import { withLock } from './lock.ts';
import { upgradeFrom01 } from './upgrade-from-0-1.ts';

/** What may be installed beside the relay itself. */
export type Pack = 'clinic' | 'whatsapp';

/** The folders of sql/ that a pack's functions and events are in. */
export const SQL_OF: Readonly<Record<Pack, string>> = { clinic: 'clinic', whatsapp: 'evolution' };

export interface MigrateOptions {
  databaseUrl: string;
  log: Log;
  /** To be installed if they are not. Those that are installed are upgraded, whether named or not. */
  packs?: readonly Pack[];
  /** How long a busy table is retried. */
  patienceMs?: number;
  /** The folder that holds migrations/ and sql/: this package's, by default. */
  root?: string;
  /** Told of each migration as it begins, and of each file of sql/ once it is applied. */
  onProgress?: (line: string) => void;
}

export interface Migrated {
  /** As folder/name. */
  migrations: string[];
  /** Files of sql/, and single events of the contract, that were applied. */
  sql: string[];
}

const PATIENCE_MS = 120_000;

/**
 * Migrates. A second migration waits for the first. What is up to date is not touched.
 *
 * @throws RecadoError `migration_failed`, `sql_failed`: that migration or file changed nothing;
 *   `contract_incomplete`: everything else is installed, and the message says what is missing for each event that
 *   is not; `migration_forbidden`, `database_newer`, `rows_missing`
 */
export async function migrate(options: MigrateOptions): Promise<Migrated> {
  const { log, packs = [], patienceMs = PATIENCE_MS, root = packageRoot, onProgress = () => {} } = options;
  const how = { log, patienceMs, root, onProgress };
  return withLock({ ...options, name: 'recado migrate' }, async (session) => {
    await upgradeFrom01(session, how);
    await refuseNewer(session, root);
    await refuseWithoutRows(session);
    await prepare(session);
    const migrations = await run(session, 'relay', 'migrations', how);
    const installed = await rememberPacks(session, packs);
    for (const { pack, makesTables } of installed) {
      if (makesTables) migrations.push(...(await run(session, pack, `${pack}_migrations`, how)));
    }
    const sql = await applySql(session, { ...how, folders: installed.map(({ pack }) => SQL_OF[pack]) });
    // The history of a pack that is new is a table, too.
    if (migrations.length > 0) await session.query('select relay.secure()');
    // So that relay.position() has an epoch before the first relay connects.
    await session.query('select relay.settle_epoch()');
    if (migrations.length + sql.length > 0)
      log.say('migrated', { migrations: migrations.length, sql: sql.length });
    return { migrations, sql };
  });
}

async function prepare(session: pg.Client): Promise<void> {
  await session.query('create schema if not exists relay').catch((error) => {
    throw new RecadoError(
      'migration_forbidden',
      `Nothing could be made in this database (${sentenceOf(error)}): migrate as its owner, or as a role that was granted CREATE on it.`,
      { cause: error },
    );
  });
}

/** An older Recado would put its older functions over the newer ones. */
async function refuseNewer(session: pg.Client, root: string): Promise<void> {
  for (const [folder, table] of [
    ['relay', 'migrations'],
    ['clinic', 'clinic_migrations'],
    ['whatsapp', 'whatsapp_migrations'],
  ] as const) {
    const { rows } = await session.query<{ exists: boolean }>(
      'select to_regclass($1) is not null as exists',
      [`relay.${table}`],
    );
    if (!rows[0]!.exists) continue;
    const ours = await readdir(join(root, 'migrations', folder));
    const { rows: unknown } = await session.query<{ name: string }>(
      `select name from relay.${table} where name <> all ($1) order by id`,
      [ours.map((file) => file.replace(/\.sql$/, ''))],
    );
    if (unknown.length > 0) {
      throw new RecadoError(
        'database_newer',
        `This database was migrated by a newer Recado (${unknown.map(({ name }) => name).join(', ')}): use that one, or a newer one still.`,
      );
    }
  }
}

/** pg_dump --schema-only leaves out the history, the contract and the identity of the installation. */
async function refuseWithoutRows(session: pg.Client): Promise<void> {
  const { rows: made } = await session.query<{ exists: boolean }>(
    "select to_regclass('relay.events') is not null and to_regclass('relay.migrations') is not null as exists",
  );
  if (!made[0]!.exists) return;
  const { rows } = await session.query<{ empty: boolean }>(
    'select not exists (select from relay.migrations) or not exists (select from relay.installation) as empty',
  );
  if (!rows[0]!.empty) return;
  throw new RecadoError(
    'rows_missing',
    `The tables of Recado are here without their rows, as pg_dump --schema-only restores them, so nothing says what is installed. Run "${commandLine('uninstall', '--yes')}", then this command again, then your own calls of relay.publish(): "select call from relay.contract" prints them on the database that was dumped. Nothing was changed.`,
  );
}

interface InstalledPack {
  readonly pack: Pack;
  readonly makesTables: boolean;
}

/** The clinic's tables are made where there is none of them; else they are the application's own. */
async function rememberPacks(session: pg.Client, wanted: readonly Pack[]): Promise<InstalledPack[]> {
  await session.query(
    `insert into relay.packs (pack, makes_tables)
     select wanted, wanted <> 'clinic' or not exists (
              select from pg_class as c
               where c.relnamespace = to_regnamespace('public') and c.relkind in ('r', 'p', 'v', 'm', 'f')
                 and c.relname = any ('{accounts,doctors,patients,contacts,appointmentStatuses,appointments,procedures,appointmentProcedures}'))
       from unnest($1::text[]) as wanted
     on conflict (pack) do nothing`,
    [wanted],
  );
  const { rows } = await session.query<InstalledPack>(
    'select pack, makes_tables as "makesTables" from relay.packs order by pack',
  );
  return rows;
}

async function run(
  session: pg.Client,
  folder: string,
  table: string,
  options: Patience & { root: string; onProgress: (line: string) => void },
): Promise<string[]> {
  let at = '';
  const logger = {
    // The only place where the runner tells which migration it is at.
    info: (line: string) => {
      const begun = /^### MIGRATION (\S+)/.exec(line)?.[1];
      if (begun === undefined) return;
      at = begun;
      options.onProgress(`running ${folder}/${at}`);
    },
    warn: () => undefined,
    error: () => undefined,
  };
  try {
    const ran = await retryWhileBusy('migrations', options, () =>
      runner({
        dbClient: session,
        direction: 'up',
        count: Number.POSITIVE_INFINITY,
        dir: join(options.root, 'migrations', folder),
        migrationsSchema: 'relay',
        migrationsTable: table,
        singleTransaction: true,
        noLock: true, // we hold our own
        logger,
      }),
    );
    if (ran.length > 0) {
      await session.query(
        `comment on table relay.${table} is 'Which files of migrations/${folder}/ ran here.'`,
      );
    }
    return ran.map(({ name }) => `${folder}/${name}`);
  } catch (error) {
    const where = at === '' ? `The migrations of ${folder}` : `Migration ${folder}/${at}`;
    throw new RecadoError('migration_failed', `${where} failed: ${sentenceOf(error)}. Nothing was changed.`, {
      cause: error,
    });
  }
}
