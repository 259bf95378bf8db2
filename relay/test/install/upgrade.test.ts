// What changes beneath a running relay: the contract from psql, sql/ applied anew, an application's own migration. And
// installing it beside applications that made their tables with other tools.

import { readContract } from '../../contract/read.ts';
import { toTypeScript } from '../../contract/typescript.ts';
import { migrate } from '../../install/migrate.ts';
import { createLog } from '../../log.ts';
import type { Relay } from '../../server/relay.ts';
import { createDatabase, type TestDatabase } from '../postgres.ts';
import { Client, startNode, token, until } from '../world.ts';

const log = createLog('silent', false);
let database: TestDatabase;
let relay: Relay;
let client: Client;

async function open(options: { empty?: boolean } = {}): Promise<void> {
  database = await createDatabase(options);
}

async function connect(account: string): Promise<void> {
  relay = await startNode(database.url);
  await relay.ready();
  client = new Client(relay, { token: await token(account) });
  await client.live();
}

afterEach(async () => {
  client.close();
  await relay.close();
  await database.close();
});

const query = async <Row extends object>(text: string): Promise<Row[]> =>
  (await database.pool.query<Row>(text)).rows;

describe('the contract, changed from psql while a relay runs', () => {
  beforeEach(async () => {
    await open();
    await connect('acme');
  });

  test('a new table, an event for it, a row: heard, shown and typed, and nothing was restarted', async () => {
    await query(
      `create table public.orders (id int primary key, tenant text not null, total numeric(10, 2) not null, note text)`,
    );
    await query(`select relay.publish(event => 'orders.placed', on_table => 'public.orders', operation => 'INSERT',
      account => 'new.tenant', description => 'An order was placed.')`);
    await query(`insert into public.orders values (1, 'acme', 99.5, null), (2, 'other', 1, null)`);
    expect(await client.hears(1)).toEqual([{ id: 1, tenant: 'acme', total: 99.5, note: null }]);
    expect(
      await query(
        `select event, room, on_table::text, fires_when, trigger, enabled from relay.contract where event = 'orders.placed'`,
      ),
    ).toEqual([
      {
        event: 'orders.placed',
        room: 'orders.account.{tenant}',
        on_table: 'orders',
        fires_when: 'after INSERT of a row',
        trigger: '!orders.placed/insert',
        enabled: true,
      },
    ]);
    const types = toTypeScript(await readContract(database.pool, 'orders.account.'));
    expect(types).toContain(`/** An order was placed. */
export type OrdersPlaced = {
  id: number;
  tenant: string;
  total: number | string;
  note: string | null;
};`);
    expect(types).toContain('"orders.placed": (payload: OrdersPlaced, position: Position) => void;');
  });

  test('an event replaced, suspended for a migration of its table, resumed, unpublished', async () => {
    await query(`create table public.orders (id int primary key, tenant text not null, state int not null)`);
    await query(
      `select relay.publish('orders.moved', 'public.orders', account => 'new.tenant', condition => 'old.state <> new.state', payload => 'to_jsonb(new.state)')`,
    );
    await query(`insert into public.orders values (1, 'acme', 1)`);
    await query('update public.orders set state = 2');
    expect(await client.hears(1)).toEqual([2]);
    await query(`begin; select relay.suspend('orders.moved');
      alter table public.orders alter state type text using 'state ' || state; update public.orders set state = 'unheard';
      select relay.resume('orders.moved'); update public.orders set state = 'heard'; commit`);
    expect(await client.hears(2)).toEqual([2, 'heard']);
    await query(
      `select relay.publish('orders.moved', 'public.orders', account => 'new.tenant', condition => 'old.state <> new.state', payload => 'to_jsonb(''other''::text)')`,
    );
    await query(`update public.orders set state = 'again'`);
    expect(await client.hears(3)).toEqual([2, 'heard', 'other']);
    await query(`select relay.unpublish('orders.moved')`);
    await query(`update public.orders set state = 'silent'`);
    await query(`select relay.publish('orders.marked')`);
    await query(`select relay.emit('acme', 'orders.marked', '"end"')`);
    expect(await client.hears(4)).toEqual([2, 'heard', 'other', 'end']);
    expect(client.disconnects).toEqual([]);
  });
});

test('an upgrade removes relay.ring() of the first version, and events still arrive', async () => {
  await open();
  await query(`create function relay.ring() returns xid8 language sql as 'select pg_current_xact_id()'`);
  await query(`alter table only relay.events alter column xid set default
    case when current_setting('relay.rung', true) = 'on' then pg_current_xact_id() else relay.ring() end`);
  await query(`update relay.applied_sql set hash = 'of an older version'`);
  await migrate({ databaseUrl: database.url, log });
  expect(await query(`select to_regproc('relay.ring') as ring, problem from relay.check()`)).toEqual([]);
  expect(await query(`select to_regproc('relay.ring') as ring`)).toEqual([{ ring: null }]);
  await connect('acme');
  await query(`select relay.publish('app.hello')`);
  await query(`select relay.emit('acme', 'app.hello', '"hi"')`);
  expect(await client.hears(1)).toEqual(['hi']);
});

test('migrate beneath a running relay and a busy writer: sql/ anew, nothing lost, nothing twice, nobody sent away', async () => {
  await open();
  await query(`create table public.ticks (id int primary key, tenant text not null)`);
  await query(
    `select relay.publish('tick', 'public.ticks', 'INSERT', account => 'new.tenant', payload => 'to_jsonb(new.id)')`,
  );
  await connect('acme');
  let ticks = 0;
  let writing = true;
  const writer = (async () => {
    while (writing) {
      ticks += 1;
      await query(`insert into public.ticks values (${ticks}, 'acme')`);
    }
  })();
  await client.hears(10);
  // As an upgrade finds it: other versions of everything.
  await query(`update relay.applied_sql set hash = 'of an older version'`);
  const { sql } = await migrate({ databaseUrl: database.url, log });
  expect(sql).toContain('relay/*.sql');
  const during = ticks;
  await until('the writer went on', () => ticks >= during + 10);
  writing = false;
  await writer;
  expect(await client.hears(ticks)).toEqual(Array.from({ length: ticks }, (_, index) => index + 1));
  expect(client.disconnects).toEqual([]);
  expect(await query('select * from relay.check()')).toEqual([]);
  expect(await migrate({ databaseUrl: database.url, log })).toEqual({ migrations: [], sql: [] });
});

describe('beside an application that has its own tables', () => {
  const prisma = `
    create table public."_prisma_migrations" (
      id varchar(36) primary key, checksum varchar(64) not null, finished_at timestamptz, migration_name varchar(255) not null,
      started_at timestamptz not null default now(), applied_steps_count integer not null default 0);
    insert into public."_prisma_migrations" (id, checksum, migration_name) values (gen_random_uuid()::text, 'x', '20250101000000_init');
    create type public."AppointmentStatus" as enum ('SCHEDULED', 'CHECKIN', 'FINALIZADO');
    create table public."Clinic" (id text not null, name text not null, constraint "Clinic_pkey" primary key (id));
    create table public."Appointment" (
      id text not null, "clinicId" text not null, status public."AppointmentStatus" not null default 'SCHEDULED',
      "startsAt" timestamp(3) not null, "createdAt" timestamp(3) not null default current_timestamp, "updatedAt" timestamp(3) not null,
      tags text[] default array[]::text[],
      constraint "Appointment_pkey" primary key (id),
      constraint "Appointment_clinicId_fkey" foreign key ("clinicId") references public."Clinic" (id) on delete restrict on update cascade);
    create index "Appointment_clinicId_startsAt_idx" on public."Appointment" ("clinicId", "startsAt");
    insert into public."Clinic" values ('cm1abc', 'Boa Vista');
    insert into public."Appointment" (id, "clinicId", "startsAt", "updatedAt") values ('a1', 'cm1abc', '2025-01-23 09:00', now())`;
  const django = `
    create table public.django_migrations (
      id bigint generated by default as identity primary key, app varchar(255) not null, name varchar(255) not null, applied timestamptz not null);
    insert into public.django_migrations (app, name, applied) values ('clinic', '0001_initial', now());
    create schema clinic;
    create table clinic.clinic_account (id uuid primary key, name varchar(200) not null);
    create table clinic.clinic_appointment (
      id bigint generated by default as identity primary key, account_id uuid not null references clinic.clinic_account deferrable initially deferred,
      status smallint not null check (status >= 0), starts_at timestamptz not null, data jsonb not null default '{}');
    insert into clinic.clinic_account values ('0b9d3f2e-5c1a-4e8b-9f57-2d6a1c7e4b30', 'Boa Vista');
    insert into clinic.clinic_appointment (account_id, status, starts_at) values ('0b9d3f2e-5c1a-4e8b-9f57-2d6a1c7e4b30', 0, '2025-01-23T09:00:00Z')`;

  /** Everything of the application's that could be touched: columns, constraints, indexes, triggers, rows. */
  const inventory = () =>
    query(`
      with app as (
        select c.* from pg_class as c join pg_namespace as n on n.oid = c.relnamespace
         where n.nspname in ('public', 'clinic') and c.relkind in ('r', 'v') and c.relname not in ('chats', 'messages'))
      select app.relname, app.relowner, app.relacl::text, app.relrowsecurity, app.reltuples = -1 as unread,
             (select jsonb_agg(jsonb_build_array(a.attname, a.atttypid, a.atttypmod, a.attnotnull, a.attidentity, a.attnum) order by a.attnum)
                from pg_attribute as a where a.attrelid = app.oid) as columns,
             (select jsonb_agg(pg_get_expr(d.adbin, d.adrelid) order by d.adnum) from pg_attrdef as d where d.adrelid = app.oid) as defaults,
             (select jsonb_agg(pg_get_constraintdef(k.oid) order by k.conname) from pg_constraint as k where k.conrelid = app.oid) as constraints,
             (select jsonb_agg(pg_get_indexdef(i.indexrelid) order by i.indexrelid) from pg_index as i where i.indrelid = app.oid) as indexes,
             (select count(*)::int from pg_trigger as t where t.tgrelid = app.oid and not t.tgisinternal) as triggers
        from app order by app.relname`);

  test.each([
    {
      tool: 'Prisma',
      tables: prisma,
      publish: `select relay.publish('appointments.changed', 'public."Appointment"', account => 'new."clinicId"',
        condition => 'old.status is distinct from new.status',
        payload => $$jsonb_build_object('id', new.id, 'status', new.status, 'startsAt', relay.iso(new."startsAt"), 'tags', new.tags)$$)`,
      change: `update public."Appointment" set status = 'FINALIZADO', "updatedAt" = now()`,
      account: 'cm1abc',
      payload: { id: 'a1', status: 'FINALIZADO', startsAt: '2025-01-23T09:00:00.000Z', tags: [] },
    },
    {
      tool: 'Django',
      tables: django,
      publish: `select relay.publish('appointments.changed', 'clinic.clinic_appointment', account => 'new.account_id',
        payload => $$jsonb_build_object('id', new.id, 'status', new.status, 'startsAt', relay.iso(new.starts_at))$$)`,
      change: 'update clinic.clinic_appointment set status = 3',
      account: '0b9d3f2e-5c1a-4e8b-9f57-2d6a1c7e4b30',
      payload: { id: 1, status: 3, startsAt: '2025-01-23T09:00:00.000Z' },
    },
  ])(
    '$tool: installed without touching a column, published, heard',
    async ({ tables, publish, change, account, payload }) => {
      await open({ empty: true });
      await query(tables);
      const before = await inventory();
      await migrate({ databaseUrl: database.url, log });
      expect(await inventory()).toEqual(before);
      await query(publish);
      expect(await query('select * from relay.check()')).toEqual([]);
      await connect(account);
      await query(change);
      expect(await client.hears(1)).toEqual([payload]);
      // The event's trigger is all there is.
      const triggers = (await inventory()).map((table) => (table as { triggers: number }).triggers);
      expect(triggers.reduce((sum, count) => sum + count)).toBe(1);
      await query(`select relay.unpublish('appointments.changed')`);
      expect(await inventory()).toEqual(before);
    },
  );
});
