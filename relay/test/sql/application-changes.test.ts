// The application changes its tables, roles and policies.
import { type Clinic, DOCTOR, openClinic, resync, SEED, setStatus, softDelete } from '../clinic.ts';

let clinic: Clinic;
beforeEach(async () => {
  clinic = await openClinic();
});
afterEach(() => clinic.close());

test('a column that was added later is part of the doctor', async () => {
  await clinic.writer.query('alter table public.doctors add specialty text');
  expect(await clinic.heard(`update public.doctors set specialty = 'tireoide'`)).toEqual([
    { event: 'doctors.updated', account: '1', payload: { ...DOCTOR, specialty: 'tireoide' } },
  ]);
});

test('a rule that cannot work does not fail the write', async () => {
  await clinic.writer.query('alter table public.doctors rename "isBusy" to busy');
  expect(await clinic.heard(setStatus('FINALIZADO'))).toMatchObject([
    resync('doctors.busy', '1', { sqlstate: '42703' }),
    { event: 'appointmnents.finished' },
  ]);
});

test("a column that the application's own BEFORE trigger sets counts as changed", async () => {
  await clinic.writer.query(`
    create function public.forget() returns trigger language plpgsql as $$ begin new."deletedAt" := now(); return new; end $$;
    create trigger forget before update of name on public.doctors for each row execute function public.forget()`);
  expect(await clinic.heard(`update public.doctors set name = ''`)).toMatchObject([
    { event: 'doctors.deleted', payload: 1 },
  ]);
});

test('an application that may only update doctors needs nothing more', async () => {
  await clinic.writeAs((role) => `grant update on public.doctors to ${role}`);
  expect(await clinic.heard(softDelete)).toMatchObject([{ event: 'doctors.deleted' }]);
  await expect(clinic.writer.query('select from relay.events')).rejects.toThrow('permission denied');
});

test('an application that may only update appointments frees the doctor', async () => {
  await clinic.writeAs((role) => `grant select, update on public.appointments to ${role}`);
  expect(await clinic.heard('update public.appointments set "statusId" = 5')).toEqual([
    expect.objectContaining({ event: 'doctors.busy' }),
    { event: 'appointmnents.finished', account: '1', payload: SEED },
  ]);
});

test('row-level security that hides all other tables from the writer changes no event', async () => {
  await clinic.writeAs(
    (role) => `
      grant select, update on public.appointments to ${role};
      create policy own on public.appointments to ${role} using (true);
      ${[
        'appointments',
        'doctors',
        'patients',
        'contacts',
        '"appointmentStatuses"',
        '"appointmentProcedures"',
        'procedures',
      ]
        .map((table) => `alter table public.${table} enable row level security;`)
        .join(' ')}`,
  );
  expect(await clinic.heard('update public.appointments set "statusId" = 5')).toEqual([
    expect.objectContaining({ event: 'doctors.busy' }),
    { event: 'appointmnents.finished', account: '1', payload: SEED },
  ]);
});

test('row-level security that would hide rows from the capture function: a resync, not a payload without them', async () => {
  await clinic.writeAs(
    (role) => `
      create table public.visits (id integer);
      alter table public.visits owner to ${role};
      grant select on public.doctors to ${role};
      alter table public.doctors enable row level security;
      select relay.publish('visit', 'public.visits', 'INSERT', account => '1',
        payload => $$to_jsonb(array(select d.name from public.doctors as d))$$)`,
  );
  expect(await clinic.heard('insert into public.visits values (1)')).toEqual([
    resync('visit', '1', { error: expect.stringContaining('row-level security') }),
  ]);
});

test('a timestamp without time zone, as Prisma makes it, has the Z too', async () => {
  await clinic.writer.query(`
    select relay.suspend('doctors.updated');
    alter table public.doctors alter "createdAt" type timestamp(3) using "createdAt" at time zone 'UTC';
    select relay.resume('doctors.updated')`);
  expect(await clinic.heard(`update public.doctors set name = 'x'`)).toEqual([
    { event: 'doctors.updated', account: '1', payload: { ...DOCTOR, name: 'x' } },
  ]);
});

test('a renamed column: the write goes on, the account refetches, relay.failures says why', async () => {
  await clinic.writer.query('alter table public.doctors rename "isBusy" to busy');
  expect(await clinic.heard('update public.doctors set busy = false')).toEqual(
    expect.arrayContaining([resync('doctors.busy', '1', { reason: 'capture_failed', sqlstate: '42703' })]),
  );
  const { rows } = await clinic.database.pool.query(
    'select event, on_table, account_id, error from relay.failures',
  );
  expect(rows).toContainEqual({
    event: 'doctors.busy',
    on_table: 'public.doctors',
    account_id: '1',
    error: expect.stringContaining('isBusy'),
  });
});

test('a column in a condition may be retyped; once it is dropped, the account refetches', async () => {
  await clinic.writer.query(softDelete.replace('now()', 'null'));
  await clinic.writer.query(`alter table public.doctors alter "isBusy" type text`);
  expect(await clinic.heard(`update public.doctors set "isBusy" = 'lunch'`)).toEqual([
    { event: 'doctors.busy', account: '1', payload: { id: 1, isBusy: 'lunch' } },
  ]);
  await clinic.writer.query('alter table public.doctors drop "isBusy"');
  expect(await clinic.heard(`update public.doctors set name = 'x'`)).toContainEqual(
    resync('doctors.busy', '1', { reason: 'capture_failed' }),
  );
});

test('suspended: silent, and a republish leaves it so', async () => {
  await clinic.writer.query(`select relay.suspend('doctors.deleted')`);
  expect(await clinic.value(`select relay.republish('doctors.deleted')`)).toBe('suspended');
  expect(await clinic.heard(softDelete)).toEqual([]);
  await expect(clinic.writer.query(`select relay.resume('doctors.gone')`)).rejects.toThrow('no such event');
});
