// Beside an application whose tables an ORM made, with names that Recado's packs use too and keys of another type.
// What the ORM sees must not change: not by installing, not by publishing an event, not by leaving.
import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { cp, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { packageRoot } from '../../package.ts';
import { recado } from '../commands/recado.ts';
import { createDatabase, type TestDatabase } from '../postgres.ts';
import { Client, startNode, token } from '../world.ts';

const run = promisify(execFile);
const ends: (() => unknown)[] = [];

afterEach(async () => {
  for (const end of ends.splice(0).reverse()) await end();
});

/** A folder with node_modules/prisma in it. Not in CI: the schema engine of 6.19.3 crashes on `db push` there. */
const prismaFolder = process.env.RECADO_TEST_PRISMA ?? '';
const PYTHON = '/usr/bin/python3';

/** In CI all of it is installed, and what is missing fails. */
const inCi = process.env.RECADO_CI !== undefined;
const prismaIsMissing = !existsSync(join(prismaFolder, 'node_modules/prisma'));
const djangoIsMissing = !existsSync('/usr/lib/python3/dist-packages/django') && !inCi;

interface Orm {
  /** The foreign keys of doctors and appointments, quoted. */
  readonly tenantId: string;
  readonly doctorId: string;
  /** Brings the database to the models of the folder. */
  migrate(): Promise<unknown>;
  /** Makes the next migration and applies it. */
  migrateAgain(): Promise<unknown>;
  /** Takes that one back. */
  undo(): Promise<unknown>;
  /** Rejects where the database is not what the models say. */
  checkDrift(): Promise<unknown>;
}

async function withPrisma({ url, pool }: TestDatabase): Promise<Orm> {
  const folder = await mkdtemp(join(prismaFolder, 'app-'));
  ends.push(() => rm(folder, { recursive: true }));
  await cp(join(packageRoot, 'relay/test/beside/prisma'), folder, { recursive: true });
  const schema = join(folder, 'schema.prisma');
  const prisma = (...args: string[]) =>
    run(process.execPath, [join(prismaFolder, 'node_modules/prisma/build/index.js'), ...args], {
      cwd: folder,
      env: { PATH: process.env.PATH, DATABASE_URL: url, CHECKPOINT_DISABLE: '1' },
    });
  const addMigration = async (name: string, from: string[]) => {
    const { stdout } = await prisma('migrate', 'diff', ...from, '--to-schema-datamodel', schema, '--script');
    await mkdir(join(folder, 'migrations', name), { recursive: true });
    await writeFile(join(folder, 'migrations', name, 'migration.sql'), stdout);
    await writeFile(join(folder, 'migrations/migration_lock.toml'), 'provider = "postgresql"\n');
    await prisma('migrate', 'deploy');
  };
  return {
    tenantId: '"tenantId"',
    doctorId: '"doctorId"',
    migrate: () => addMigration('0_init', ['--from-empty']),
    async migrateAgain() {
      const text = await readFile(schema, 'utf8');
      const old = join(folder, 'old.prisma');
      await writeFile(old, text);
      await writeFile(schema, text.replace('text   String\n', 'text   String\n  seenAt DateTime?\n'));
      await addMigration('1_seen', ['--from-schema-datamodel', old]);
    },
    undo: () => pool.query('alter table public.messages drop "seenAt"'),
    // It reads the database, and says so where that is what the models say; else it changes or refuses.
    async checkDrift() {
      const { stdout } = await prisma('db', 'push', '--skip-generate');
      expect(stdout).toContain('already in sync');
      const { stdout: seen } = await prisma('db', 'pull', '--print');
      const models = [...seen.matchAll(/^model (\w+)/gm)].map(([, model]) => model);
      expect(models.sort()).toEqual(['appointments', 'chats', 'doctors', 'messages', 'tenants']);
    },
  };
}

async function withDjango({ url, pool }: TestDatabase): Promise<Orm> {
  const folder = await mkdtemp(join(tmpdir(), 'recado-django-'));
  ends.push(() => rm(folder, { recursive: true }));
  await cp(join(packageRoot, 'relay/test/beside/django'), folder, { recursive: true });
  const manage = (...args: string[]) =>
    run(PYTHON, ['manage.py', ...args], {
      cwd: folder,
      env: { DATABASE_URL: url, PYTHONDONTWRITEBYTECODE: '1' },
    });
  const models = join(folder, 'clinic/models.py');
  return {
    tenantId: 'tenant_id',
    doctorId: 'doctor_id',
    async migrate() {
      await manage('makemigrations', 'clinic');
      await manage('migrate');
    },
    async migrateAgain() {
      const text = await readFile(models, 'utf8');
      await writeFile(
        models,
        text.replace(
          'text = models.TextField()',
          'text = models.TextField()\n    seen_at = models.DateTimeField(null=True)',
        ),
      );
      const { stdout } = await manage('makemigrations', 'clinic');
      expect(stdout.match(/^ +- .*/gm)).toEqual(['    - Add field seen_at to message']);
      await manage('migrate');
    },
    undo: () => pool.query('alter table public.messages drop seen_at'),
    async checkDrift() {
      await manage('makemigrations', '--check', '--dry-run');
      await manage('migrate', '--check');
      const { stdout } = await manage('inspectdb');
      const tables = [...stdout.matchAll(/db_table = '(\w+)'/g)].map(([, table]) => table).sort();
      expect(tables).toEqual([
        'appointments',
        'chats',
        'django_migrations',
        'doctors',
        'messages',
        'tenants',
      ]);
    },
  };
}

/** The whole schema as pg_dump prints it, or that of public alone. */
async function dump({ url }: TestDatabase, ...options: string[]): Promise<string> {
  const { stdout } = await run('pg_dump', ['--schema-only', ...options, url], { maxBuffer: 2 ** 26 });
  // A random word of newer versions.
  return stdout.replace(/^\\(un)?restrict .*$/gm, '');
}

async function isDumpable({ pool }: TestDatabase): Promise<boolean> {
  const { rows } = await pool.query<{ version: number }>(
    `select current_setting('server_version_num')::int / 10000 as version`,
  );
  const { stdout } = await run('pg_dump', ['--version']).catch(() => ({ stdout: '' }));
  return Number(/ (\d+)\./.exec(stdout)?.[1] ?? 0) >= rows[0]!.version;
}

async function installUseAndLeave(database: TestDatabase, orm: Orm, packs: string[]): Promise<void> {
  const { url, pool } = database;
  await orm.migrate();
  // Where pg_dump is older than the server (the embedded 18), the run on Postgres 15 compares the dumps.
  const dumpable = await isDumpable(database);
  const before = dumpable ? [await dump(database, '--schema=public'), await dump(database)] : [];

  expect(await recado(['migrate', ...packs], { DATABASE_URL: url })).toMatchObject({ code: 0, stderr: '' });
  if (dumpable) expect(await dump(database, '--schema=public')).toBe(before[0]);
  await orm.checkDrift();

  const { tenantId, doctorId } = orm;
  await pool.query(
    `select relay.publish('appointments.changed', 'public.appointments', payload => 'to_jsonb(new.status)',
       account => $$(select d.${tenantId} from public.doctors as d where d.id = new.${doctorId})$$)`,
  );
  const { rows } = await pool.query<{ tenant: string }>(
    `insert into public.tenants (id, name) values (gen_random_uuid(), 'Boa Vista') returning id as tenant`,
  );
  const { tenant } = rows[0]!;
  await pool.query(
    `with doctor as (
       insert into public.doctors (id, ${tenantId}, name) values (gen_random_uuid(), $1, 'Dra. Ana') returning id
     )
     insert into public.appointments (id, ${doctorId}, status) select gen_random_uuid(), id, 'BOOKED' from doctor`,
    [tenant],
  );
  const relay = await startNode(url);
  const client = new Client(relay, { token: await token(tenant) });
  try {
    await client.live();
    await pool.query(`update public.appointments set status = 'DONE'`);
    expect(await client.hears(1)).toEqual(['DONE']);
  } finally {
    client.close();
    await relay.close();
  }

  await orm.checkDrift();
  await orm.migrateAgain();
  await orm.checkDrift();
  expect((await pool.query('select * from relay.check()')).rows).toEqual([]);

  expect(await recado(['uninstall', '--yes'], { DATABASE_URL: url })).toMatchObject({ code: 0, stderr: '' });
  await orm.checkDrift();
  if (dumpable) {
    await orm.undo();
    expect([await dump(database, '--schema=public'), await dump(database)]).toEqual(before);
  }
}

describe.each([{ packs: [] as string[] }, { packs: ['--whatsapp'] }])(
  'recado migrate $packs',
  ({ packs }) => {
    const open = async () => {
      const database = await createDatabase({ empty: true });
      ends.push(() => database.close());
      return database;
    };

    const beside = (missing: boolean) => (missing ? test.skip : test);

    beside(prismaIsMissing)(
      'beside Prisma (needs RECADO_TEST_PRISMA, a folder with prisma in it)',
      async () => {
        const database = await open();
        await installUseAndLeave(database, await withPrisma(database), packs);
      },
      300_000,
    );

    beside(djangoIsMissing)(
      'beside Django (needs the Debian packages python3-django, python3-psycopg2)',
      async () => {
        const database = await open();
        await installUseAndLeave(database, await withDjango(database), packs);
      },
      300_000,
    );
  },
);
