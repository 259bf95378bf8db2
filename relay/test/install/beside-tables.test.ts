// Migrating a database that has tables of an application: what is made beside them, and what is not.
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { packageRoot } from '../../package.ts';
import type { TestDatabase } from '../postgres.ts';
import { ALL, describeSchema, open, run } from './migrations.ts';

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
