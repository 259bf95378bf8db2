// Brings a database up to this version: migrations/ (the past, by node-pg-migrate), then sql/ (the present).
//
//   recado.migrations   which migrations ran; in a schema of its own, because it comes before and outlives `relay`
//   recado.setup        one row: whether the application's tables are ours or its own (--without-clinic-tables)
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { runner } from 'node-pg-migrate';
import type pg from 'pg';
import { packageRoot } from '../config.ts';
import { RecadoError } from '../errors.ts';
import type { Log } from '../log.ts';
import { type ApplyOptions, applySql, patiently, sentenceOf } from './apply-sql.ts';
import { openSession } from './connect.ts';

export interface MigrateOptions {
  databaseUrl: string;
  log: Log;
  /** false: the application has its own. Absent: as decided when this database was first migrated, where it is true. */
  appTables?: boolean;
  /** How long a busy table is tried again. */
  patienceMs?: number;
  /** The folder that holds migrations/ and sql/: this package's, by default. */
  root?: string;
}

export interface Migrated {
  migrations: string[];
  /** Files of sql/, and single events of the contract, that were applied. */
  sql: string[];
}

/** Advisory lock of the runner, for the whole of its work. */
const LOCK = '7205759403792';
const PATIENCE_MS = 120_000;

/**
 * Migrates. A second runner waits for the first. What is in force already is not touched.
 *
 * @throws RecadoError `migration_failed`, `sql_failed`: that migration or file changed nothing;
 *   `contract_incomplete`: everything else is installed, and the message says what is missing for each event that
 *   is not; `app_tables_exist`, `app_tables_chosen`: see --without-clinic-tables; `migration_forbidden`, `database_newer`
 */
export async function migrate(options: MigrateOptions): Promise<Migrated> {
  const { log, patienceMs = PATIENCE_MS, root = packageRoot } = options;
  const how = { log, patienceMs, root };
  return alone(options, async (session) => {
    await prepare(session);
    await refuseNewer(session, root);
    const setup = await rememberSetup(session, options.appTables);
    const migrations = await run(session, { direction: 'up', setup }, how);
    const sql = await applySql(session, how);
    if (migrations.length + sql.length > 0)
      log.say('migrated', { migrations: migrations.length, sql: sql.length });
    return { migrations, sql };
  });
}

/** Takes the last `count` migrations back, data included; all by default. What sql/ added goes with its tables. */
export async function migrateDown(
  options: Pick<MigrateOptions, 'databaseUrl' | 'log'> & { count?: number },
): Promise<string[]> {
  return alone(options, async (session) => {
    await prepare(session);
    const setup = await rememberSetup(session, undefined);
    const { log, count } = options;
    return run(
      session,
      { direction: 'down', setup, count },
      { log, patienceMs: PATIENCE_MS, root: packageRoot },
    );
  });
}

/** Runs `work` on a connection of its own, while no other runner is at it. */
async function alone<T>(
  { databaseUrl, log }: Pick<MigrateOptions, 'databaseUrl' | 'log'>,
  work: (session: pg.Client) => Promise<T>,
): Promise<T> {
  const session = await openSession({ url: databaseUrl, name: 'recado migrate' });
  session.on('notice', ({ message }) => log.say('migrate_said', { message: message ?? '' }));
  try {
    // Every name in our files is qualified, and this proves it. Locks are waited for briefly, since writers queue
    // behind whoever waits; then the work is tried again.
    await session.query(`
      set search_path = pg_catalog; set timezone = 'UTC'; set client_min_messages = warning;
      set lock_timeout = '1s'; set statement_timeout = 0; set idle_in_transaction_session_timeout = 0`);
    // Trying in a loop, not waiting in pg_advisory_lock(): that would hold a snapshot, for which CREATE INDEX
    // CONCURRENTLY of the first runner would wait for ever.
    for (let attempt = 1; !(await tryLock(session)); attempt += 1) {
      if (attempt === 1) log.say('migrate_waiting');
      await delay(100);
    }
    return await work(session);
  } finally {
    await session.end();
  }
}

async function tryLock(session: pg.Client): Promise<boolean> {
  const { rows } = await session.query<{ locked: boolean }>(`select pg_try_advisory_lock(${LOCK}) as locked`);
  return rows[0]!.locked;
}

async function prepare(session: pg.Client): Promise<void> {
  const { rows } = await session.query<{ exists: boolean }>(
    "select to_regclass('recado.setup') is not null as exists",
  );
  if (rows[0]!.exists) return;
  const made = session.query(`
    begin;
    create schema if not exists recado;
    comment on schema recado is 'Recado: which of its migrations ran here.';
    create table recado.setup (
      singleton boolean primary key default true,
      clinic_tables boolean not null,
      whatsapp_tables boolean not null,
      constraint only_one_row check (singleton)
    );
    comment on table recado.setup is 'One row: whose tables the application''s are, as decided when this database was first migrated.';
    comment on column recado.setup.clinic_tables is 'false: the application has its own (recado migrate --without-clinic-tables).';
    comment on column recado.setup.whatsapp_tables is 'false: the application had its own public.chats besides.';
    commit`);
  await made.catch((error) => {
    throw new RecadoError(
      'migration_forbidden',
      `Nothing could be made in this database (${sentenceOf(error)}): migrate as its owner, or as a role that was granted CREATE on it.`,
      { cause: error },
    );
  });
}

/** An older Recado would put its older functions over the newer ones. */
async function refuseNewer(session: pg.Client, root: string): Promise<void> {
  const { rows } = await session.query<{ exists: boolean }>(
    "select to_regclass('recado.migrations') is not null as exists",
  );
  if (!rows[0]!.exists) return;
  const ours = await readdir(join(root, 'migrations'));
  const { rows: unknown } = await session.query<{ name: string }>(
    'select name from recado.migrations where name <> all ($1) order by id',
    [ours.map((file) => file.replace(/\.sql$/, ''))],
  );
  if (unknown.length > 0) {
    throw new RecadoError(
      'database_newer',
      `This database was migrated by a newer Recado (${unknown.map(({ name }) => name).join(', ')}): use that one, or a newer one still.`,
    );
  }
}

interface Setup {
  readonly clinicTables: boolean;
  readonly whatsappTables: boolean;
}

/** What was decided when this database was first migrated, which is now if it never was. */
async function rememberSetup(session: pg.Client, appTables: boolean | undefined): Promise<Setup> {
  const { rows } = await session.query<{ clinic: boolean; whatsapp: boolean; migrated: boolean }>(
    `select clinic_tables as clinic, whatsapp_tables as whatsapp, to_regclass('relay.events') is not null as migrated
       from recado.setup`,
  );
  const known = rows[0];
  if (known?.migrated) {
    if (appTables !== undefined && appTables !== known.clinic) {
      throw new RecadoError(
        'app_tables_chosen',
        `This database was installed ${known.clinic ? 'with' : 'without'} the clinic tables, and that stays so: leave the option out, or install into another database.`,
      );
    }
    return { clinicTables: known.clinic, whatsappTables: known.whatsapp };
  }
  const { rows: decided } = await session.query<Setup>(
    `insert into recado.setup (clinic_tables, whatsapp_tables)
     values ($1, $1 or to_regclass('public.chats') is null)
     on conflict (singleton) do update
       set clinic_tables = excluded.clinic_tables, whatsapp_tables = excluded.whatsapp_tables
     returning clinic_tables as "clinicTables", whatsapp_tables as "whatsappTables"`,
    [appTables ?? true],
  );
  return decided[0]!;
}

interface Run {
  direction: 'up' | 'down';
  setup: Setup;
  /** All by default. */
  count?: number | undefined;
}

async function run(
  session: pg.Client,
  { direction, setup, count }: Run,
  options: ApplyOptions,
): Promise<string[]> {
  let at = '';
  const logger = {
    // The only place where the runner tells which migration it is at.
    info: (line: string) => {
      at = /^### MIGRATION (\S+)/.exec(line)?.[1] ?? at;
    },
    warn: () => undefined,
    error: () => undefined,
  };
  const notOurs = [setup.clinicTables || 'clinic', setup.whatsappTables || 'whatsapp'].filter(
    (x) => x !== true,
  );
  try {
    const ran = await patiently('migrations', options, () =>
      runner({
        dbClient: session,
        direction,
        count: count ?? Number.POSITIVE_INFINITY,
        dir: join(options.root, 'migrations'),
        ignorePattern: `(.*_(${notOurs.join('|') || 'none'})_tables\\.sql|.*(?<!\\.sql))`,
        migrationsSchema: 'recado',
        migrationsTable: 'migrations',
        singleTransaction: true,
        noLock: true, // we hold our own
        logger,
      }),
    );
    return ran.map(({ name }) => name);
  } catch (error) {
    const { code } = error as { code?: unknown };
    if (code === '42P07' && /_(clinic|whatsapp)_tables$/.test(at)) {
      throw new RecadoError(
        'app_tables_exist',
        `The application's tables are there already (${sentenceOf(error)}): run "recado migrate --without-clinic-tables" to install the relay and its triggers alone. Nothing was changed.`,
        { cause: error },
      );
    }
    const where = at === '' ? 'The migrations' : `Migration ${at}`;
    throw new RecadoError('migration_failed', `${where} failed: ${sentenceOf(error)}. Nothing was changed.`, {
      cause: error,
    });
  }
}
