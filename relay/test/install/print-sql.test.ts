// The SQL that --print-sql prints makes what recado migrate makes.
import pg from 'pg';
import { migrate, type Pack } from '../../install/migrate.ts';
import { recado } from '../commands/recado.ts';
import { ends } from '../ends.ts';
import { hearing } from '../hearing.ts';
import { createDatabase, type TestDatabase } from '../postgres.ts';

const log = hearing(() => undefined);

async function open(): Promise<TestDatabase> {
  const database = await createDatabase({ empty: true });
  ends.push(() => database.close());
  return database;
}

const objects = async ({ pool }: TestDatabase) =>
  (
    await pool.query<{ line: string }>(`
      select format('%s %s', c.relkind, c.oid::regclass) as line from pg_class as c join pg_namespace as n on n.oid = c.relnamespace
       where nspname in ('relay', 'relay_capture', 'relay_clinic', 'evolution', 'public') and c.relkind in ('r', 'p', 'v', 'i', 'S')
      union all select format('routine %s', p.oid::regprocedure) from pg_proc as p join pg_namespace as n on n.oid = p.pronamespace
       where nspname in ('relay', 'relay_capture', 'relay_clinic', 'evolution')
      union all select format('event %s %s', event, operation) from relay.catalogue
      order by line`)
  ).rows.map(({ line }) => line);

test.each<{ packs: Pack[] }>([{ packs: [] }, { packs: ['clinic', 'whatsapp'] }])(
  'with packs $packs: run twice, then adopted by recado migrate',
  async ({ packs }) => {
    const { code, stdout, stderr } = await recado(
      ['migrate', '--print-sql', ...packs.map((pack) => `--${pack}`)],
      {},
    );
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    const printed = await open();
    const session = new pg.Client({ connectionString: printed.url });
    await session.connect();
    try {
      for (let time = 0; time < 2; time += 1) await session.query(`begin; ${stdout}; commit`);
    } finally {
      await session.end();
    }
    const migrated = await open();
    await migrate({ databaseUrl: migrated.url, log, packs });
    expect(await objects(printed)).toEqual(await objects(migrated));
    expect((await migrate({ databaseUrl: printed.url, log })).migrations).toEqual([]);
    expect(await objects(printed)).toEqual(await objects(migrated));
    expect((await printed.pool.query('select * from relay.check()')).rows).toEqual([]);
  },
);

test('the core names no role to be made outside of relay.secure(), which it does not call', async () => {
  const { stdout } = await recado(['migrate', '--print-sql'], {});
  expect(stdout).not.toMatch(/^\s*create role/im);
  expect(stdout).not.toMatch(/^select relay\.secure/m);
});

test('a schema restored without its rows is refused with what to do', async () => {
  const database = await open();
  await migrate({ databaseUrl: database.url, log });
  await database.pool.query('delete from relay.migrations; delete from relay.installation');
  await expect(migrate({ databaseUrl: database.url, log })).rejects.toMatchObject({
    code: 'rows_missing',
    message: expect.stringContaining('npm run uninstall -- --yes'),
  });
  const env = { DATABASE_URL: database.url };
  expect(await recado(['tail'], env)).toMatchObject({
    code: 1,
    stderr: expect.stringContaining('(rows_missing)'),
  });
  expect(await recado(['uninstall', '--yes'], env)).toMatchObject({ code: 0 });
  expect(await recado(['migrate'], env)).toMatchObject({ code: 0 });
});
