// Leaving: what of Recado is in a database goes, and nothing else changes, also beneath a running application.
import pg from 'pg';
import { migrate, type Pack } from '../../install/migrate.ts';
import { uninstall } from '../../install/uninstall.ts';
import { recado } from '../commands/recado.ts';
import { ends } from '../ends.ts';
import { hearing } from '../hearing.ts';
import { createDatabase, type TestDatabase } from '../postgres.ts';
import { startNode, until } from '../world.ts';

const log = hearing(() => undefined);

async function open(change: string, packs: readonly Pack[] | null = []): Promise<TestDatabase> {
  const database = await createDatabase({ empty: true });
  ends.push(() => database.close());
  await database.pool.query(change);
  if (packs) await migrate({ databaseUrl: database.url, log, packs });
  return database;
}

const APP = `
  create table public.tenants (id uuid primary key default gen_random_uuid());
  create table public.orders (id int primary key, tenant uuid not null references public.tenants, total int not null default 0)`;

const PUBLISH = `select relay.publish('orders.changed', 'public.orders', account => 'new.tenant::text'),
  relay.publish('orders.created', 'public.orders', 'INSERT', account => 'new.tenant::text', at => 'commit'),
  relay.publish('orders.cleared', 'public.orders', 'DELETE', account => 'old.tenant::text', level => 'statement')`;

/** Everything that is not Postgres's own. */
async function inventory({ pool }: TestDatabase): Promise<string[]> {
  const { rows } = await pool.query<{ line: string }>(`
    with app as (select oid, nspname from pg_namespace where nspname !~ '^pg_' and nspname <> 'information_schema')
    select 'schema ' || nspname as line from app
    union all select format('relation %s %s %s', c.oid::regclass, c.relkind, c.relacl) from pg_class as c join app on app.oid = c.relnamespace
    union all select format('routine %s', p.oid::regprocedure) from pg_proc as p join app on app.oid = p.pronamespace
    union all select format('type %s', t.oid::regtype) from pg_type as t join app on app.oid = t.typnamespace
    union all select format('trigger %s on %s', t.tgname, t.tgrelid::regclass) from pg_trigger as t where not t.tgisinternal
    union all select format('database %s', coalesce(datacl, acldefault('d', datdba))) from pg_database where datname = current_database()
    order by 1`);
  return rows.map(({ line }) => line);
}

test.each<{ packs: Pack[] }>([{ packs: [] }, { packs: ['whatsapp'] }, { packs: ['clinic', 'whatsapp'] }])(
  'with packs $packs: as before',
  async ({ packs }) => {
    const database = await open(APP, null);
    const before = await inventory(database);
    await migrate({ databaseUrl: database.url, log, packs });
    await database.pool.query(PUBLISH);
    await uninstall({ databaseUrl: database.url, log });
    expect(await inventory(database)).toEqual(before);
    await database.pool.query(
      'with t as (insert into public.tenants default values returning id) insert into public.orders select 1, id from t',
    );
    await expect(uninstall({ databaseUrl: database.url, log })).rejects.toMatchObject({
      code: 'not_migrated',
    });
    expect((await migrate({ databaseUrl: database.url, log, packs })).migrations.length).toBeGreaterThan(0);
  },
);

test("the pack on the application's own clinic tables leaves them", async () => {
  const database = await open('', ['clinic']);
  await database.pool.query(
    `update relay.packs set makes_tables = false; insert into public.accounts (name) values ('a')`,
  );
  const tables = (await inventory(database)).filter(
    (line) => line.startsWith('relation') && !/relay/.test(line),
  );
  await uninstall({ databaseUrl: database.url, log });
  expect((await inventory(database)).filter((line) => line.startsWith('relation'))).toEqual(tables);
});

describe('refused, and nothing is changed', () => {
  const refusal = async (database: TestDatabase, code: string, named: string) => {
    const before = await inventory(database);
    await expect(uninstall({ databaseUrl: database.url, log })).rejects.toMatchObject({
      code,
      message: expect.stringContaining(named),
    });
    expect(await inventory(database)).toEqual(before);
  };

  test('while a relay is connected', async () => {
    const database = await open(APP);
    const relay = await startNode(database.url);
    await relay.ready();
    await refusal(database, 'relays_connected', 'recado feed').finally(() => relay.close());
    // A pool's end() does not wait for its sessions.
    await until('its sessions have ended', async () => {
      const { rows } = await database.pool.query(
        `select from pg_stat_activity where datname = current_database() and application_name ~ '^recado'`,
      );
      return rows.length === 0;
    });
    await uninstall({ databaseUrl: database.url, log });
  });

  test('where chats or rows of the clinic would go with it', async () => {
    const database = await open('', ['clinic', 'whatsapp']);
    await database.pool.query(`insert into evolution.chats ("tenantId", "whatsappChatId") values ('1', 'x');
      insert into public.accounts (name) values ('a')`);
    await refusal(database, 'data_would_be_lost', 'public."accounts", evolution.chats');
    await uninstall({ databaseUrl: database.url, log, withData: true });
    expect((await inventory(database)).filter((line) => /^(relation|schema)/.test(line))).toEqual([
      'schema public',
    ]);
  });

  test.each([
    ['a view', `create view public.recent as select * from evolution.chats`, 'view'],
    ['a foreign key', `create table public.notes (chat bigint references evolution.chats)`, 'notes'],
    ['a column of our type', `create table public.notes (account relay.account)`, 'notes'],
    [
      'the text of a function',
      `create function public.tell() returns void language sql as $$ select relay.emit('1', 'x', 'null') $$`,
      'function public.tell()',
    ],
  ])('where the application uses it: %s', async (_, change, named) => {
    const database = await open('', ['whatsapp']);
    await database.pool.query(`select relay.publish('x'); ${change}`);
    await refusal(database, 'app_depends_on_it', named);
    await uninstall({ databaseUrl: database.url, log, force: true });
    expect((await inventory(database)).filter((line) => /schema (relay|evolution)/.test(line))).toEqual([]);
  });
});

test('beneath writers: none of their writes fails', async () => {
  const database = await open(APP);
  await database.pool.query(`${PUBLISH}; insert into public.tenants default values`);
  let writing = true;
  let writes = 0;
  const writer = async (id: number) => {
    const session = new pg.Client({ connectionString: database.url });
    await session.connect();
    try {
      for (let n = 0; writing; n += 1) {
        await session.query('begin');
        await session.query('insert into public.orders select $1, id from public.tenants limit 1', [id]);
        await session.query('update public.orders set total = $2 where id = $1', [id, n]);
        await session.query('commit');
        await session.query('delete from public.orders where id = $1', [id]);
        writes += 1;
      }
    } finally {
      await session.end();
    }
  };
  const writers = Promise.all([1, 2, 3, 4].map(writer));
  await until('the writers write', () => writes >= 20);
  await uninstall({ databaseUrl: database.url, log });
  const after = writes;
  await until('the writers go on', () => writes >= after + 20);
  writing = false;
  await writers;
  expect((await inventory(database)).filter((line) => /relay/.test(line))).toEqual([]);
});

test('a table that stays busy ends it with a sentence; run again, it goes on', async () => {
  const database = await open(APP);
  await database.pool.query(PUBLISH);
  const session = new pg.Client({ connectionString: database.url });
  await session.connect();
  ends.push(() => session.end());
  await session.query('begin; lock table public.orders in access share mode');
  await expect(uninstall({ databaseUrl: database.url, log, patienceMs: 0 })).rejects.toMatchObject({
    code: 'uninstall_incomplete',
  });
  await session.query('commit');
  await uninstall({ databaseUrl: database.url, log });
  expect((await inventory(database)).filter((line) => /relay/.test(line))).toEqual([]);
});

test('the command lists first, then removes', async () => {
  const database = await open(APP, ['whatsapp']);
  await database.pool.query(PUBLISH);
  const before = await inventory(database);
  const listed = await recado(['uninstall'], { DATABASE_URL: database.url });
  expect(listed).toMatchObject({ code: 0, stderr: '' });
  for (const line of [
    'event orders.changed',
    'trigger "!orders.changed/update" on public.orders',
    'schema evolution',
    'schema relay',
    'Nothing was changed. To do it: npm run uninstall -- --yes',
  ]) {
    expect(listed.stdout).toContain(line);
  }
  expect(await inventory(database)).toEqual(before);
  const done = await recado(['uninstall', '--yes'], { DATABASE_URL: database.url });
  expect(done).toMatchObject({ code: 0, stdout: expect.stringContaining('Recado is removed.') });
});
