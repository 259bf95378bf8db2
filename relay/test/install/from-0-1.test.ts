// Migrating a database of version 0.1.
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import pg from 'pg';
import { packageRoot } from '../../package.ts';
import { ends } from '../ends.ts';
import { hearing } from '../hearing.ts';
import type { TestDatabase } from '../postgres.ts';
import { ALL, describeContract, describeSchema, open, run } from './migrations.ts';

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

  test("that wrote into the application's own chats starts over with tables of its own", async () => {
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
