// Migrating: what a database is afterwards, however it came there.
import { cp, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import pg from 'pg';
import { type MigrateOptions, migrate } from '../../install/migrate.ts';
import { packageRoot } from '../../package.ts';
import { ends } from '../ends.ts';
import { hearing } from '../hearing.ts';
import { createDatabase, type TestDatabase, withDatabase } from '../postgres.ts';

const ALL = [
  'relay/001_relay',
  'relay/002_limits',
  'relay/003_ascii',
  'relay/004_packs',
  'relay/005_capture',
  'relay/006_known_names',
  'relay/007_condition_in',
  'relay/008_epoch',
  'relay/009_several_tables',
  'relay/010_audience',
  'relay/011_revoked_topics',
  'relay/012_published_audience',
  'relay/013_several_accounts',
  'relay/014_lz4',
  'relay/015_traceparent',
  'clinic/001_clinic_tables',
  'whatsapp/001_chats',
  'whatsapp/002_worker',
  'whatsapp/003_live_servers',
  'whatsapp/004_addresses',
  'whatsapp/005_instance_made_anew',
];

async function open(how: 'migrated' | 'empty' = 'empty'): Promise<TestDatabase> {
  const database = await createDatabase({ empty: how === 'empty' });
  ends.push(() => database.close());
  return database;
}

const silent = hearing(() => undefined);

/** With both packs, unless told otherwise. */
function run({ url }: TestDatabase, options: Partial<MigrateOptions> = {}) {
  return migrate({ databaseUrl: url, log: silent, packs: ['clinic', 'whatsapp'], ...options });
}

/** Another release: our files, changed. */
async function release(changes: Record<string, (text: string) => string>): Promise<string> {
  const root = await mkdtemp(join(tmpdir(), 'recado-release-'));
  ends.push(() => rm(root, { recursive: true }));
  for (const folder of ['migrations', 'sql']) {
    await cp(join(packageRoot, folder), join(root, folder), { recursive: true });
  }
  for (const [file, change] of Object.entries(changes)) {
    const path = join(root, file);
    await writeFile(path, change(await readFile(path, 'utf8').catch(() => '')));
  }
  return root;
}

/** Everything the catalogs say about our schemas and the application's, one line per thing. */
async function describeSchema({ pool }: TestDatabase): Promise<string[]> {
  const { rows } = await pool.query<{ line: string }>(`
    with ours as (
      select oid, nspname as name, nspowner, nspacl from pg_namespace
       where nspname not like 'pg\\_%' and nspname <> 'information_schema'
    ),
    comments as (
      select classoid, objoid, objsubid, description from pg_description
    )
    select format('schema %s owner %s acl %s', name, nspowner::regrole, nspacl) as line from ours where name <> 'public'
    union all
    select format('relation %s %s owner %s acl %s partition %s key %s options %s comment %s', c.oid::regclass, c.relkind, c.relowner::regrole,
                  c.relacl, pg_get_expr(c.relpartbound, c.oid), pg_get_partkeydef(c.oid), c.reloptions, obj_description(c.oid, 'pg_class'))
      from pg_class as c join ours on ours.oid = c.relnamespace where c.relkind in ('r', 'p', 'v', 'm', 'S')
    union all
    select format('view %s %s', c.oid::regclass, pg_get_viewdef(c.oid)) from pg_class as c join ours on ours.oid = c.relnamespace where c.relkind = 'v'
    union all
    select format('column %s.%s %s %s null %s default %s identity %s generated %s acl %s comment %s', c.oid::regclass, a.attname, a.attnum,
                  format_type(a.atttypid, a.atttypmod), not a.attnotnull, pg_get_expr(d.adbin, d.adrelid), a.attidentity, a.attgenerated,
                  a.attacl, col_description(c.oid, a.attnum))
      from pg_attribute as a join pg_class as c on c.oid = a.attrelid join ours on ours.oid = c.relnamespace
      left join pg_attrdef as d on (d.adrelid, d.adnum) = (a.attrelid, a.attnum)
     where a.attnum > 0 and not a.attisdropped and c.relkind in ('r', 'p', 'v')
    union all
    select format('index %s', pg_get_indexdef(i.indexrelid)) from pg_index as i join pg_class as c on c.oid = i.indrelid join ours on ours.oid = c.relnamespace
    union all
    select format('constraint %s on %s %s', k.conname, coalesce(k.conrelid::regclass::text, k.contypid::regtype::text), pg_get_constraintdef(k.oid))
      from pg_constraint as k join ours on ours.oid = k.connamespace where k.contype <> 't'
    union all
    select format('function %s owner %s acl %s comment %s', pg_get_functiondef(p.oid), p.proowner::regrole, p.proacl, obj_description(p.oid, 'pg_proc'))
      from pg_proc as p join ours on ours.oid = p.pronamespace
    union all
    select format('trigger %s %s comment %s', pg_get_triggerdef(t.oid), t.tgenabled, obj_description(t.oid, 'pg_trigger'))
      from pg_trigger as t join pg_class as c on c.oid = t.tgrelid join ours on ours.oid = c.relnamespace where not t.tgisinternal
    union all
    select format('type %s %s owner %s acl %s comment %s', t.oid::regtype, t.typtype, t.typowner::regrole, t.typacl, obj_description(t.oid, 'pg_type'))
      from pg_type as t join ours on ours.oid = t.typnamespace where t.typtype in ('d', 'e')
    order by line`);
  return rows.map(({ line }) => line);
}

/** The contract as it was published, apart from when. */
async function describeContract({ pool }: TestDatabase): Promise<unknown[]> {
  const { rows } = await pool.query<{ row: Record<string, unknown> }>(
    `select to_jsonb(c) - 'published_at' as row from relay.catalogue as c order by event, operation`,
  );
  return rows.map(({ row }) => row);
}

describe('fresh equals upgraded', () => {
  test('from an older release, with other functions, privileges, triggers and a contract that grew', async () => {
    const root = await release({
      'sql/relay/03_body_of_row.sql': (text) => text.replaceAll('captured_payload', 'the_payload'),
      'sql/relay/02_position.sql': (text) => text.replace("'Identifies the history", "'Once: the history"),
      'sql/relay/90_privileges.sql': (text) => text.replace('{position, iso,', '{position, revoke, iso,'),
      'sql/clinic/01_rules.sql': () => '',
      'sql/clinic/doctors.busy.sql': () => '',
    });
    const upgraded = await open();
    await run(upgraded, { root });
    const fresh = await open();
    await run(fresh);
    expect(await describeSchema(upgraded)).not.toEqual(await describeSchema(fresh));

    const { migrations, sql } = await run(upgraded);
    expect(migrations).toEqual([]);
    expect(sql).toContain('clinic/doctors.busy.sql');
    expect(sql).not.toContain('clinic/doctors.created.sql');
    expect(sql).toContain('republished: doctors.created');
    expect(await describeSchema(upgraded)).toEqual(await describeSchema(fresh));
    expect(await describeContract(upgraded)).toEqual(await describeContract(fresh));
  });

  test('a pack added later to a core that is further on', async () => {
    const grown = await open();
    expect((await run(grown, { packs: [] })).migrations).toEqual(
      ALL.filter((name) => name.startsWith('relay/')),
    );
    expect((await run(grown, { packs: ['whatsapp'] })).migrations).toEqual(
      ALL.filter((name) => name.startsWith('whatsapp/')),
    );
    expect((await run(grown, { packs: ['clinic'] })).migrations).toEqual(['clinic/001_clinic_tables']);
    // Both are remembered.
    expect(await run(grown, { packs: [] })).toEqual({ migrations: [], sql: [] });
    const fresh = await open();
    await run(fresh);
    expect(await describeSchema(grown)).toEqual(await describeSchema(fresh));
    expect(await describeContract(grown)).toEqual(await describeContract(fresh));
  });

  test('a second run changes nothing', async () => {
    const database = await open('migrated');
    const rows = async () =>
      (
        await database.pool.query(
          'select xmin::text, file from relay.applied_sql union all select xmin::text, event from relay.catalogue order by 2',
        )
      ).rows;
    const before = [await describeSchema(database), await rows()];
    expect(await run(database)).toEqual({ migrations: [], sql: [] });
    expect([await describeSchema(database), await rows()]).toEqual(before);
  });
});

describe('what of sql/ is applied', () => {
  test('the event whose call changed, and not for a comment beside it', async () => {
    const database = await open('migrated');
    const versions = async () => (await database.pool.query('select file, hash from relay.applied_sql')).rows;
    const before = await versions();
    const root = await release({
      'sql/clinic/doctors.busy.sql': (text) =>
        text.replace(
          "jsonb_build_object('id', new.id, 'isBusy'",
          "jsonb_build_object('doctor', new.id, 'isBusy'",
        ),
      'sql/clinic/doctors.updated.sql': (text) => text.replaceAll(/^-- /gm, '-- Note: '),
    });
    expect((await run(database, { root })).sql).toEqual(['clinic/doctors.busy.sql']);
    const changed = (await versions()).filter((row) => !before.some(({ hash }) => hash === row.hash));
    expect(changed.map(({ file }) => file)).toEqual(['clinic/doctors.busy.sql']);
  });

  test('not what a DBA changed in psql', async () => {
    const database = await open('migrated');
    await database.pool.query(`
      select relay.unpublish('doctors.updated'), relay.suspend('doctors.deleted'),
             relay.publish('doctors.busy', 'public.doctors', account => 'new."accountId"', payload => 'to_jsonb(new.id)')`);
    const before = await describeContract(database);
    const root = await release({
      'sql/relay/03_body_of_row.sql': (text) => text.replaceAll('captured_payload', 'the_payload'),
    });
    const { sql } = await run(database, { root });
    expect(sql).toContain('republished: doctors.busy');
    expect(await describeContract(database)).toEqual(before);
  });

  test('events of a table that was dropped and made again', async () => {
    const database = await open('migrated');
    await database.pool.query('drop table evolution.chats cascade');
    const said: string[] = [];
    expect((await run(database, { log: hearing((name, text) => said.push(`${name} ${text}`)) })).sql).toEqual(
      [],
    );
    expect(said.join()).toMatch(/migrate_skipped.*chat-new.*no such table/);

    await database.pool.query(`
      create table evolution.chats (id bigint primary key, "tenantId" text, "whatsappChatId" text, "contactName" text,
        "contactNumber" text, status text, "unreadCount" integer, "lastMessageAt" timestamptz)`);
    expect((await run(database)).sql).toContain('evolution/chat-new.sql');
  });

  test('none of it when a file of sql/relay is broken', async () => {
    const database = await open('migrated');
    const before = await describeSchema(database);
    const root = await release({
      'sql/relay/01_events.sql': (text) => text.replace('8242561920741', '1'),
      'sql/relay/05_revoke.sql': (text) => `${text}\nselect nonsense;`,
    });
    await expect(run(database, { root })).rejects.toMatchObject({
      code: 'sql_failed',
      message: expect.stringMatching(
        /^sql\/relay was not applied: relay\/05_revoke\.sql line \d+: column "nonsense" does not exist\. Nothing was changed\.$/,
      ),
    });
    expect(await describeSchema(database)).toEqual(before);
  });

  test('a busy table is tried again until its writer is done, or until patience ends', async () => {
    const database = await open('migrated');
    await database.pool.query(`alter table public.doctors disable trigger "!doctors.busy/update";
      delete from relay.applied_sql where file like '%doctors.busy%'`);
    const writer = new pg.Client({ connectionString: database.url });
    await writer.connect();
    ends.push(() => writer.end());
    await writer.query('begin; lock table public.doctors in row exclusive mode');
    await expect(run(database, { patienceMs: 0 })).rejects.toMatchObject({
      code: 'contract_incomplete',
      message: expect.stringContaining(
        "doctors.busy.sql: relay.publish('doctors.busy'): public.doctors is busy",
      ),
    });
    const log = hearing((name) => {
      if (name === 'migrate_busy') void writer.query('commit');
    });
    expect((await run(database, { log })).sql).toContain('clinic/doctors.busy.sql');
  });
});

test('while it waits for a table it says for whom', async () => {
  const database = await open('migrated');
  await database.pool.query(`delete from relay.applied_sql where file like '%doctors.busy%';
    alter table public.doctors disable trigger "!doctors.busy/update"`);
  const writer = new pg.Client({ connectionString: database.url, application_name: 'nightly job' });
  await writer.connect();
  ends.push(() => writer.end());
  await writer.query('begin; lock table public.doctors in row exclusive mode');
  const said: string[] = [];
  const log = hearing((name, fields) => {
    if (name !== 'migrate_blocked') return;
    said.push(fields);
    void writer.query('commit');
  });
  await run(database, { log });
  expect(said[0]).toMatch(
    /backend \d+, role \w+, application nightly job, idle in transaction, in a transaction since [\d:]+ UTC"/,
  );
});

test('each migration is told as it begins, each file of sql/ once it is applied', async () => {
  const told: string[] = [];
  const { sql } = await run(await open(), { onProgress: (line) => told.push(line) });
  expect(told).toEqual([...ALL.map((name) => `running ${name}`), ...sql.map((name) => `applied ${name}`)]);
});

test('two runners at once: the second waits, and finds nothing to do', async () => {
  const database = await open();
  const said: string[] = [];
  const log = hearing((name) => said.push(name));
  const outcomes = await Promise.all([
    run(database, { log }),
    run(database, { log }),
    run(database, { log }),
  ]);
  expect(outcomes.filter(({ migrations }) => migrations.length > 0)).toHaveLength(1);
  expect(outcomes.filter(({ sql }) => sql.length > 0)).toHaveLength(1);
  expect(said.filter((name) => name === 'migrate_waiting')).toHaveLength(2);
  expect(said.filter((name) => name === 'migrated')).toHaveLength(1);
});

test('a database of a newer Recado is left alone', async () => {
  const database = await open('migrated');
  await database.pool.query(`insert into relay.migrations (name, run_on) values ('999_later', now())`);
  await expect(run(database)).rejects.toMatchObject({
    code: 'database_newer',
    message: expect.stringContaining('999_later'),
  });
});

describe("beside the application's own tables", () => {
  async function openApplication(change: string): Promise<TestDatabase> {
    const database = await open();
    const tables = await readFile(join(packageRoot, 'migrations/clinic/001_clinic_tables.sql'), 'utf8');
    await database.pool.query(`${tables}; ${change}`);
    return database;
  }

  const ofTheApplication = async (database: TestDatabase) =>
    (await describeSchema(database)).filter((line) => !/\brelay(_capture)?\b/.test(line));

  test('the core makes the schemas relay and relay_capture and nothing else', async () => {
    const database = await open();
    await database.pool.query(`
      create table public.tenants (id uuid primary key);
      create table public.chats (id uuid primary key, tenant uuid references public.tenants);
      create table public.messages (id uuid primary key, chat uuid references public.chats);
      create table public.doctors (id uuid primary key, tenant uuid references public.tenants);
      create table public.appointments (id uuid primary key, doctor uuid references public.doctors)`);
    const before = await describeSchema(database);
    const { migrations, sql } = await run(database, { packs: [] });
    expect(migrations).toEqual(ALL.filter((name) => name.startsWith('relay/')));
    expect(sql).toEqual(['relay/*.sql']);
    expect(await ofTheApplication(database)).toEqual(before);
    expect((await database.pool.query('select event from relay.contract')).rows).toEqual([]);
    expect((await database.pool.query('select * from relay.check()')).rows).toEqual([]);
    expect(await run(database, { packs: [] })).toEqual({ migrations: [], sql: [] });
  });

  test('WhatsApp is in a schema of its own, whatever the application calls its tables', async () => {
    const database = await open();
    await database.pool.query(
      'create table public.chats (id uuid primary key); create table public.messages (id uuid primary key)',
    );
    const before = (await describeSchema(database)).filter((line) => line.includes('public'));
    await run(database, { packs: ['whatsapp'] });
    const { rows } = await database.pool.query(
      `select distinct conrelid::regclass::text as table from pg_constraint
        where contype = 'f' and confrelid in ('public.chats'::regclass, 'public.messages'::regclass)`,
    );
    expect(rows).toEqual([]);
    expect((await ofTheApplication(database)).filter((line) => line.includes('public'))).toEqual(before);
  });

  test('the clinic on tables that are there: none is made, and the contract is on them', async () => {
    const database = await openApplication('');
    const before = await ofTheApplication(database);
    expect((await run(database, { packs: ['clinic'] })).migrations).not.toContain('clinic/001_clinic_tables');
    const { rows } = await database.pool.query(
      'select count(distinct event)::int as events from relay.contract',
    );
    expect(rows).toEqual([{ events: 7 }]);
    const tables = (lines: string[]) => lines.filter((line) => line.startsWith('relation'));
    expect(tables(await ofTheApplication(database))).toEqual(tables(before));
    expect(await run(database, { packs: [] })).toEqual({ migrations: [], sql: [] });
  });

  test('a missing column is named for each event that needs it; the rest is installed', async () => {
    const database = await openApplication(`
      alter table public.doctors drop "isBusy";
      alter table public."appointmentStatuses" rename color to colour;
      insert into public.accounts (id, name) values (1, 'a');
      insert into public.doctors (id, "accountId", name) values (123, 1, 'x')`);
    const failure = await run(database).catch((error) => error);
    expect(failure.code).toBe('contract_incomplete');
    const named = [...failure.message.matchAll(/^ {2}(\S+?\.sql)(?: line \d+)?: .*/gm)].map(
      ([, name]) => name,
    );
    expect(named).toEqual([
      'clinic/00_appointment.sql',
      'clinic/01_rules.sql',
      'clinic/appointments.checkin.sql',
      'clinic/appointments.serving.sql',
      'clinic/appointmnents.finished.sql',
      'clinic/doctors.busy.sql',
    ]);
    expect(failure.message).toContain('column s.color does not exist');
    expect(failure.message).toContain('column d.isBusy does not exist');

    await database.pool.query('update public.doctors set "deletedAt" = now()');
    const { rows } = await database.pool.query('select event, payload from relay.events');
    expect(rows).toEqual([{ event: 'doctors.deleted', payload: 123 }]);

    await database.pool.query(`alter table public.doctors add "isBusy" boolean not null default false;
      alter table public."appointmentStatuses" rename colour to color`);
    expect((await run(database)).sql).toEqual(named);
  });
});

describe('a database of version 0.1', () => {
  const old = () => readFile(join(packageRoot, 'relay/test/fixtures/version-0.1.sql'), 'utf8');

  async function openOld(change = ''): Promise<TestDatabase> {
    const database = await open();
    const session = new pg.Client({ connectionString: database.url });
    await session.connect();
    try {
      await session.query(await old());
      await session.query(`set search_path = public; ${change}`);
    } finally {
      await session.end();
    }
    return database;
  }

  test('becomes what a fresh one is; chats and messages are kept, and read under their old names', async () => {
    const upgraded = await openOld();
    const { migrations } = await run(upgraded, { packs: [] });
    const had = ['relay/001_relay', 'relay/002_limits', 'clinic/001_clinic_tables', 'whatsapp/001_chats'];
    expect(migrations).toEqual(ALL.filter((name) => ![...had, 'whatsapp/002_worker'].includes(name)));
    const { rows: kept } = await upgraded.pool.query(
      `select c."contactName", m.content from evolution.chats as c left join evolution.messages as m on m."chatId" = c.id order by c.id`,
    );
    expect(kept).toEqual([
      { contactName: 'Ana', content: 'oi' },
      { contactName: 'Bia', content: null },
    ]);
    expect(
      (await upgraded.pool.query('select "contactName" from public.chats order by id')).rows,
    ).toHaveLength(2);
    expect((await upgraded.pool.query('select content from public.messages')).rows).toEqual([
      { content: 'oi' },
    ]);
    await upgraded.pool.query('drop view public.messages; drop view public.chats');
    const fresh = await open();
    await run(fresh);
    // The dump is of Postgres 15, which had no names for NOT NULL, and it has no privileges.
    const described = async (database: TestDatabase) =>
      (await describeSchema(database))
        .filter((line) => !/^constraint \S+_not_null on /.test(line))
        // Read again, a long OR has fewer parentheses.
        .map((line) => line.replace(/ acl \S*/, '').replaceAll(/[()]/g, ''));
    expect(await described(upgraded)).toEqual(await described(fresh));
    expect(await describeContract(upgraded)).toEqual(await describeContract(fresh));
    expect((await upgraded.pool.query('select * from relay.check()')).rows).toEqual([]);
    expect(await run(upgraded, { packs: [] })).toEqual({ migrations: [], sql: [] });
  });

  test('row-level security of the application holds through the old names', async () => {
    const database = await openOld();
    const role = `${new URL(database.url).pathname.slice(1)}_app`;
    await database.pool.query(`create role ${role}; grant select on public.chats to ${role};
      alter table public.chats enable row level security;
      create policy own on public.chats to ${role} using ("tenantId" = 't')`);
    ends.push(async () => {
      await database.pool.query(`drop owned by ${role}; drop role ${role}`);
    });
    await run(database, { packs: [] });
    const session = new pg.Client({ connectionString: database.url });
    await session.connect();
    ends.push(() => session.end());
    await session.query(`set role ${role}`);
    expect((await session.query('select "tenantId" from public.chats')).rows).toEqual([{ tenantId: 't' }]);
  });

  test("that wrote into the application's own chats begins anew with tables of its own", async () => {
    const database = await openOld(`update recado.setup set whatsapp_tables = false;
      delete from recado.migrations where name = '003_whatsapp_tables'`);
    await run(database, { packs: [] });
    const { rows } = await database.pool.query(
      `select (select count(*)::int from public.chats) as theirs, (select count(*)::int from evolution.chats) as ours,
              (select synced_at from evolution.sources) as synced`,
    );
    expect(rows).toEqual([{ theirs: 2, ours: 0, synced: null }]);
    const { rows: triggers } = await database.pool.query(
      `select tgname from pg_trigger where tgrelid in ('public.chats'::regclass, 'public.messages'::regclass) and not tgisinternal`,
    );
    expect(triggers).toEqual([]);
    expect((await database.pool.query('select * from relay.check()')).rows).toEqual([]);
  });

  test('a busy table is tried again, and nothing is changed meanwhile', async () => {
    const database = await openOld();
    const writer = new pg.Client({ connectionString: database.url });
    await writer.connect();
    ends.push(() => writer.end());
    await writer.query('begin; lock table public.messages in row exclusive mode');
    const log = hearing((name) => {
      if (name === 'migrate_busy') void writer.query('commit');
    });
    await run(database, { log, packs: [] });
    expect((await database.pool.query('select from evolution.chats')).rows).toHaveLength(2);
  });
});

describe('as a role that is no superuser', () => {
  /** An empty database that belongs to a new role, and its address as that role. */
  async function openOwned(
    grants = '',
  ): Promise<{ database: TestDatabase; asOwner: TestDatabase; role: string }> {
    const database = await createDatabase({ empty: true });
    const name = new URL(database.url).pathname.slice(1);
    const role = `${name}_owner`;
    await database.pool.query(`create role ${role} login password 'p'; ${grants.replaceAll('ROLE', role)};
      alter database ${name} owner to ${role}`);
    const url = withDatabase(database.url, name, { name: role, password: 'p' });
    ends.push(async () => {
      await database.pool.query(
        `reassign owned by ${role} to current_user; drop owned by ${role}; drop role ${role}`,
      );
      await database.close();
    });
    return { database, asOwner: { ...database, url }, role };
  }

  async function check(database: TestDatabase): Promise<void> {
    await database.pool.query(`insert into public.accounts (id, name) values (1, 'a');
      insert into public.doctors (id, "accountId", name) values (123, 1, 'x'); update public.doctors set "deletedAt" = now()`);
    const { rows } = await database.pool.query('select event from relay.events order by id');
    expect(rows).toEqual([{ event: 'doctors.created' }, { event: 'doctors.deleted' }]);
  }

  const owners = async ({ pool }: TestDatabase) =>
    (
      await pool.query<{ owner: string }>(
        `select distinct proowner::regrole::text as owner from pg_proc where pronamespace = 'relay'::regnamespace`,
      )
    ).rows.map(({ owner }) => owner);

  test('it keeps what it made, and the log says what to run by hand', async () => {
    const { database, asOwner, role } = await openOwned();
    const said: string[] = [];
    await run(asOwner, { log: hearing((name, text) => said.push(`${name} ${text}`)) });
    expect(said.join('\n')).toContain(`grant relay_owner to ${role}; select relay.secure();`);
    await check(database);
    expect(await owners(database)).toEqual([role]);
    expect(await run(asOwner)).toEqual({ migrations: [], sql: [] });

    await database.pool.query(`grant relay_owner to ${role}; select relay.secure()`);
    expect(await owners(database)).toEqual(['relay_owner']);
  });

  test('a member of relay_owner gives everything to it, and can still upgrade', async () => {
    const { database, asOwner } = await openOwned('grant relay_owner to ROLE');
    await run(asOwner);
    expect(await owners(database)).toEqual(['relay_owner']);
    await check(database);
    const root = await release({
      'sql/relay/03_body_of_row.sql': (text) => text.replaceAll('captured_payload', 'the_payload'),
      'sql/relay/05_views.sql': (text) =>
        `${text}\ncreate function relay.extra() returns int language sql as 'select 1';`,
    });
    await run(asOwner, { root });
    expect(await owners(database)).toEqual(['relay_owner']);
    const { rows } = await database.pool.query(
      `select has_function_privilege('public', 'relay.extra()', 'execute') as open`,
    );
    expect(rows).toEqual([{ open: false }]);
  });

  test('a role that may create nothing is told so', async () => {
    const { database, asOwner, role } = await openOwned();
    await database.pool.query(
      `alter database ${new URL(database.url).pathname.slice(1)} owner to current_user`,
    );
    await expect(run(asOwner)).rejects.toMatchObject({ code: 'migration_forbidden' });
    expect(role).toBeDefined();
  });
});
