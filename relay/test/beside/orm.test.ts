// Beside an application whose tables an ORM made, with names that Recado's packs use too and keys of another type.
// What the ORM sees must not change: not by installing, not by publishing an event, not by leaving.
import { existsSync } from 'node:fs';
import { cp, mkdtemp, rm, symlink } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { packageRoot } from '../../package.ts';
import { recado } from '../commands/recado.ts';
import { ends } from '../ends.ts';
import { createDatabase, type TestDatabase } from '../postgres.ts';
import { Client, startNode, token } from '../world.ts';
import { djangoIsInstalled, withDjango } from './django.ts';
import { withDrizzle } from './drizzle.ts';
import { type Orm, packages, run } from './orm.ts';
import { withPrisma } from './prisma.ts';

const npmIsInstalled = existsSync(packages);
const NPM = 'npm ci --prefix relay/test/beside --ignore-scripts';

/** The whole schema as pg_dump prints it, or that of public alone. */
async function dump({ url }: TestDatabase, ...options: string[]): Promise<string> {
  const printed = await run('pg_dump', ['--schema-only', ...options, url]);
  // A random word of newer versions.
  return printed.replace(/^\\(un)?restrict .*$/gm, '');
}

async function isDumpable({ pool }: TestDatabase): Promise<boolean> {
  const { rows } = await pool.query<{ version: number }>(
    `select current_setting('server_version_num')::int / 10000 as version`,
  );
  const printed = await run('pg_dump', ['--version']).catch(() => '');
  return Number(/ (\d+)\./.exec(printed)?.[1] ?? 0) >= rows[0]!.version;
}

interface Installation {
  readonly packs: string[];
  /** The printed SQL before the command, which goes on from there. */
  readonly byMigration: boolean;
}

async function installUseAndLeave(
  database: TestDatabase,
  orm: Orm,
  { packs, byMigration }: Installation,
): Promise<void> {
  const { url, pool } = database;
  await orm.migrate();
  // Where pg_dump is older than the server (the embedded 18), the run on Postgres 15 compares the dumps.
  const dumpable = await isDumpable(database);
  const before = dumpable ? [await dump(database, '--schema=public'), await dump(database)] : [];

  if (byMigration) {
    const { stdout } = await recado(['migrate', '--print-sql', ...packs], {});
    await orm.addMigration('recado', stdout);
    await orm.checkDrift();
  }
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

describe.each([
  { name: 'prisma', open: withPrisma, installed: npmIsInstalled, needs: NPM },
  { name: 'drizzle', open: withDrizzle, installed: npmIsInstalled, needs: NPM },
  {
    name: 'django',
    open: withDjango,
    installed: djangoIsInstalled,
    needs: 'apt-get install python3-django python3-psycopg2',
  },
])('beside $name (needs $needs)', ({ name, open, installed }) => {
  // In CI all of it is installed, and what is missing fails.
  (installed || process.env.RECADO_CI !== undefined ? test : test.skip).each([
    { title: 'recado migrate', packs: [], byMigration: false },
    {
      title: 'recado migrate --whatsapp, after a migration of the ORM ran its SQL',
      packs: ['--whatsapp'],
      byMigration: true,
    },
  ])(
    '$title',
    async (installation) => {
      const database = await createDatabase({ empty: true });
      ends.push(() => database.close());
      const folder = await mkdtemp(join(tmpdir(), `recado-${name}-`));
      ends.push(() => rm(folder, { recursive: true }));
      await cp(join(packageRoot, 'relay/test/beside', name), folder, { recursive: true });
      await symlink(packages, join(folder, 'node_modules'));
      await installUseAndLeave(database, open(folder, database), installation);
    },
    300_000,
  );
});
