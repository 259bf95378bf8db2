// Migrating: what a database is afterwards, however it came there.
import pg from 'pg';
import { MIGRATION_LOCK } from '../../db/lock-holders.ts';
import { ends } from '../ends.ts';
import { hearing } from '../hearing.ts';
import { until } from '../world.ts';
import { ALL, describeContract, describeSchema, open, release, run } from './migrations.ts';

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

test('three runs at once: one migrates, the others wait and find nothing to do', async () => {
  const database = await open();
  const said: string[] = [];
  const log = hearing((name) => said.push(name));
  const waiting = () => said.filter((name) => name === 'migrate_waiting').length;
  // So that none begins before all three are there.
  const holder = new pg.Client({ connectionString: database.url });
  await holder.connect();
  ends.push(() => holder.end());
  await holder.query(`select pg_advisory_lock(${MIGRATION_LOCK})`);
  const runs = [1, 2, 3].map(() => run(database, { log }));
  await until('all wait', () => waiting() === runs.length);
  await holder.query('select pg_advisory_unlock_all()');
  const outcomes = await Promise.all(runs);
  expect(outcomes.filter(({ migrations }) => migrations.length > 0)).toHaveLength(1);
  expect(outcomes.filter(({ sql }) => sql.length > 0)).toHaveLength(1);
  expect(waiting()).toBe(3);
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
