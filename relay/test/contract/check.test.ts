// relay.check(): each kind of damage, done by hand, is named; what its remedy says heals it.
import { type Clinic, openClinic, softDelete } from '../clinic.ts';

let clinic: Clinic;

beforeAll(async () => {
  clinic = await openClinic();
});
afterAll(() => clinic.close());

interface CheckRow {
  problem: string;
  event: string | null;
  object: string;
  detail: string;
  remedy: string;
}

async function check(): Promise<CheckRow[]> {
  const { rows } = await clinic.database.pool.query<CheckRow>('select * from relay.check()');
  return rows;
}

/** Damages, and rolls back: what check() said in between, and after the remedies were followed. */
async function damaged(damage: string, heal = true): Promise<{ found: CheckRow[]; healed: CheckRow[] }> {
  const { writer } = clinic;
  await writer.query('begin');
  try {
    await writer.query(damage);
    const { rows: found } = await writer.query<CheckRow>('select * from relay.check()');
    if (heal) for (const { remedy } of found) await writer.query(remedy);
    const { rows: healed } = await writer.query<CheckRow>('select * from relay.check()');
    return { found, healed };
  } finally {
    await writer.query('rollback');
  }
}

const codes = (problems: CheckRow[]) => [...new Set(problems.map(({ problem }) => problem))].sort();

test('nothing is off in a fresh installation', async () => {
  expect(await check()).toEqual([]);
});

const BUSY = 'relay_capture."doctors.busy/update"()';

test.each<[name: string, damage: string, expected: string[], event: string | null]>([
  [
    'a trigger switched off',
    'alter table public.doctors disable trigger "!doctors.deleted/update"',
    ['trigger_disabled'],
    'doctors.deleted',
  ],
  [
    'a trigger for replicas only',
    'alter table public.doctors enable replica trigger "!doctors.deleted/update"',
    ['trigger_replica_only'],
    'doctors.deleted',
  ],
  [
    'a trigger dropped',
    'drop trigger "!doctors.deleted/update" on public.doctors',
    ['trigger_missing'],
    'doctors.deleted',
  ],
  [
    'a trigger altered',
    `create or replace trigger "!doctors.busy/update" after update on public.doctors
       for each row when (new.id = 1) execute function ${BUSY}`,
    ['trigger_altered'],
    'doctors.busy',
  ],
  [
    'a function replaced',
    `create or replace function ${BUSY} returns trigger language plpgsql security definer
       set search_path = pg_catalog, pg_temp set timezone = 'UTC' set row_security = off
       as 'begin return null; end'`,
    ['function_replaced'],
    'doctors.busy',
  ],
  [
    'a function dropped',
    `drop function ${BUSY} cascade`,
    ['function_missing', 'trigger_missing'],
    'doctors.busy',
  ],
  [
    'a function that is no longer a definer',
    `alter function ${BUSY} security invoker`,
    ['function_settings'],
    null,
  ],
  [
    'a function with another search_path',
    `alter function ${BUSY} set search_path = public`,
    ['function_settings'],
    null,
  ],
  [
    'rows hidden from a function',
    `alter function ${BUSY} set row_security = on`,
    ['function_settings'],
    'doctors.busy',
  ],
  [
    'a function of another role',
    `alter function ${BUSY} owner to relay_owner`,
    ['function_owner'],
    'doctors.busy',
  ],
  [
    'a writer path without its privileges',
    `alter table public.doctors owner to relay_admin;
     select relay.republish('doctors.busy');
     alter function ${BUSY} owner to relay_admin;
     revoke insert (account_id, event, payload) on relay.events from relay_admin`,
    // It belongs to the new owner, the other functions of the table do not yet.
    ['capture_privileges'],
    'doctors.busy',
  ],
  [
    'a default that no longer notifies',
    'alter table relay.events alter xid set default pg_current_xact_id()',
    ['default_missing'],
    null,
  ],
  [
    'an event that lost its slot',
    'alter table relay.events alter slot set default 0',
    ['default_missing'],
    null,
  ],
  [
    'an outbox with row-level security',
    'alter table relay.events enable row level security',
    ['outbox_row_security'],
    null,
  ],
  ['an unlogged slot', 'alter table relay.events_3 set unlogged', ['outbox_unlogged'], null],
  ['ids drawn in advance', 'alter table relay.events alter id set cache 20', ['identity_cached'], null],
  ['a slot that is gone', 'drop table relay.events_5', ['partition_missing'], null],
  [
    'a trigger on the outbox',
    `create trigger meddle before insert on relay.events for each row execute function ${BUSY}`,
    ['outbox_trigger'],
    null,
  ],
  [
    'a role that inserts itself',
    'grant insert (account_id, event, payload) on relay.events to relay_reader',
    ['outbox_writer'],
    null,
  ],
])('%s', async (_name, damage, expected, event) => {
  const { found, healed } = await damaged(damage);
  expect(codes(found)).toEqual(expect.arrayContaining(expected));
  if (event !== null) expect(found.map((problem) => problem.event)).toContain(event);
  for (const { detail, object, remedy } of found) expect([detail, object, remedy]).not.toContain(null);
  expect(healed).toEqual([]);
});

test.each<[name: string, damage: string, expected: string[], event: string | null]>([
  [
    'a column renamed under an expression',
    'alter table public.doctors rename "isBusy" to busy',
    ['expression_broken'],
    'doctors.busy',
  ],
  [
    'a column dropped that a condition and a payload name',
    'alter table public.doctors drop "isBusy"',
    ['expression_broken'],
    'doctors.busy',
  ],
  ['a table dropped', 'drop table evolution.merges cascade', ['table_missing'], 'chat:merged'],
  ['an index dropped', 'drop index relay.events_by_account', ['index_missing'], null],
  [
    'an event suspended and forgotten',
    `select relay.suspend('doctors.busy');
     update relay.catalogue set suspended_at = now() - interval '2 hours' where event = 'doctors.busy'`,
    ['event_suspended'],
    'doctors.busy',
  ],
  [
    'an event nobody published',
    `insert into relay.events (account_id, event) values ('1', 'doctors.typo')`,
    ['event_unknown'],
    'doctors.typo',
  ],
  [
    'an account that is too long, inserted past relay.emit()',
    `insert into relay.events (account_id, event) values (repeat('x', 300), 'doctors.busy')`,
    ['event_too_large'],
    'doctors.busy',
  ],
  [
    'a slot that could not be emptied',
    `delete from relay.events;
     insert into relay.events (account_id, event, created_at) values ('1', 'doctors.busy', now() - interval '3 days')`,
    ['slot_overdue'],
    null,
  ],
  [
    'sessions in which triggers do not fire',
    'alter role relay_reader set session_replication_role = replica',
    ['triggers_bypassed'],
    null,
  ],
  [
    'a role that commits asynchronously',
    'alter role relay_reader set synchronous_commit = off',
    ['asynchronous_commit'],
    null,
  ],
  [
    'a function that switches asynchronous commit on',
    `create function public.quick() returns void language sql set synchronous_commit = off as 'select'`,
    ['asynchronous_commit'],
    null,
  ],
  [
    'a trigger that captures for no contract',
    `create trigger "doctors.busy/delete" after delete on public.patients for each row execute function ${BUSY}`,
    ['trigger_unpublished'],
    null,
  ],
])('%s', async (_name, damage, expected, event) => {
  const { found } = await damaged(damage, false);
  expect(codes(found)).toEqual(expected);
  if (event !== null) expect(found.map((problem) => problem.event)).toContain(event);
  for (const { detail, object, remedy } of found) expect([detail, object, remedy]).not.toContain(null);
});

test('captures that failed, with what Postgres said', async () => {
  const { writer } = clinic;
  await writer.query('begin');
  await writer.query(`select relay.publish('test.fails', 'public.doctors', account => 'new."accountId"',
    payload => 'to_jsonb(1 / (new.id - new.id))'); ${softDelete}`);
  const { rows } = await writer.query<CheckRow>('select * from relay.check()');
  await writer.query('rollback');
  expect(rows).toEqual([
    expect.objectContaining({
      problem: 'captures_failed',
      event: 'test.fails',
      object: 'public.doctors',
      detail: expect.stringContaining('division by zero'),
    }),
  ]);
});

test('row-level security that a look into the table would meet', async () => {
  const { writer } = clinic;
  await writer.query('begin');
  try {
    await writer.query(`
      create schema hidden;
      create table hidden.owners (id int primary key, account text);
      alter table hidden.owners enable row level security;
      alter table hidden.owners force row level security;
      create table hidden.pets (id int primary key, owner_id int);
      alter schema hidden owner to relay_admin; alter table hidden.owners owner to relay_admin;
      alter table hidden.pets owner to relay_admin;
      select relay.publish('pets.changed', 'hidden.pets',
        account => '(select o.account from hidden.owners as o where o.id = new.owner_id)')`);
    const { rows } = await writer.query<CheckRow>('select * from relay.check()');
    expect(rows).toEqual([expect.objectContaining({ problem: 'row_security', event: 'pets.changed' })]);
    await writer.query('alter table hidden.owners no force row level security');
    expect((await writer.query('select * from relay.check()')).rows).toEqual([]);
  } finally {
    await writer.query('rollback');
  }
});

test('check() and republish() run no published SQL with the rights of their caller', async () => {
  const { writer } = clinic;
  await writer.query('begin');
  try {
    await writer.query(`
      create schema mallory;
      create table mallory.calls (who name);
      create function mallory.sneak(id int) returns text language plpgsql immutable
        as $$ begin insert into mallory.calls values (current_user); return 'x'; end $$;
      select relay.publish('test.sneaky', 'public.doctors', account => 'new."accountId"', payload => 'to_jsonb(mallory.sneak(1))');
      update relay.catalogue set condition = 'true); insert into mallory.calls values (current_user); select (true' where event = 'doctors.busy'`);
    const { rows } = await writer.query<CheckRow>('select * from relay.check()');
    expect(rows).toContainEqual(
      expect.objectContaining({ problem: 'expression_broken', event: 'doctors.busy' }),
    );
    await writer.query('savepoint before');
    await expect(writer.query(`select relay.republish('doctors.busy')`)).rejects.toThrow('condition');
    await writer.query('rollback to before');
    await writer.query(`select relay.republish('test.sneaky')`);
    expect((await writer.query('select * from mallory.calls')).rows).toEqual([]);
  } finally {
    await writer.query('rollback');
  }
});

test('a reader may check, and read the contract and the status', async () => {
  const { writer } = clinic;
  await writer.query('set role relay_reader');
  try {
    expect((await writer.query('select * from relay.check()')).rows).toEqual([]);
    const { rows } = await writer.query<{ event: string }>('select distinct event from relay.contract');
    expect(rows.map(({ event }) => event)).toContain('appointmnents.finished');
    const { rows: status } = await writer.query<{ subject: string }>('select * from relay.status');
    expect(new Set(status.map(({ subject }) => subject))).toEqual(
      new Set(['relays', 'gate', 'backlog', 'events', 'slots', 'oldest transaction', 'notification queue']),
    );
  } finally {
    await writer.query('reset role');
  }
});
