// The contract as SQL: act, then assert the payload and the silence.
import { once } from 'node:events';
import {
  type Clinic,
  DOCTOR,
  type Heard,
  openClinic,
  resync,
  SEED,
  setStatus,
  softDelete,
} from '../clinic.ts';

// One clinic for all, put back before each test, but for those that change more than rows.
let shared: Clinic;
let clinic: Clinic;
beforeAll(async () => {
  shared = await openClinic();
});
beforeEach(async () => {
  clinic = shared;
  await clinic.reset();
});
afterAll(() => shared.close());

describe('doctors', () => {
  const to1 = (event: string, payload: unknown): Heard => ({ event, account: '1', payload });

  test('created: inserted, restored, moved here', async () => {
    const insert = `insert into public.doctors values (7, 1, 'Dra. Ana', false, '2025-01-02T03:04:05.678Z', '2025-01-02T03:04:05.678Z')`;
    const ana = { ...DOCTOR, id: 7, name: 'Dra. Ana', isBusy: false };
    expect(await clinic.heard(insert)).toEqual([to1('doctors.created', ana)]);
    await clinic.writer.query(`${softDelete} where id = 7`);
    expect(await clinic.heard('update public.doctors set "deletedAt" = null where id = 7')).toEqual([
      to1('doctors.created', ana),
    ]);
    expect(await clinic.heard('update public.doctors set "accountId" = 2 where id = 7')).toEqual([
      { event: 'doctors.created', account: '2', payload: { ...ana, accountId: 2 } },
      to1('doctors.deleted', 7),
    ]);
  });

  test('created: not when it is deleted already', async () => {
    expect(
      await clinic.heard(
        `insert into public.doctors ("accountId", name, "deletedAt") values (1, 'x', now())`,
      ),
    ).toEqual([]);
  });

  test('updated: with any column but isBusy and updatedAt', async () => {
    expect(await clinic.heard(`update public.doctors set name = 'Dr. Vítor'`)).toEqual([
      to1('doctors.updated', { ...DOCTOR, name: 'Dr. Vítor' }),
    ]);
    expect(await clinic.heard('update public.doctors set "updatedAt" = now(), name = name')).toEqual([]);
  });

  test('busy: a change of isBusy, and nothing else', async () => {
    expect(await clinic.heard('update public.doctors set "isBusy" = false, "updatedAt" = now()')).toEqual([
      to1('doctors.busy', { id: 1, isBusy: false }),
    ]);
    expect(await clinic.heard('update public.doctors set "isBusy" = false')).toEqual([]);
  });

  test('deleted: the id, a number; once', async () => {
    expect(await clinic.heard(softDelete)).toEqual([to1('doctors.deleted', 1)]);
    expect(await clinic.heard(softDelete, `update public.doctors set name = 'x', "isBusy" = false`)).toEqual(
      [],
    );
    expect(await clinic.heard('delete from public.doctors')).toEqual([]);
  });

  test('deleted: by a hard DELETE too', async () => {
    expect(await clinic.heard('delete from public.doctors')).toEqual([to1('doctors.deleted', 1)]);
  });

  test('TRUNCATE: every account refetches', async () => {
    expect(await clinic.heard('truncate public.doctors cascade')).toEqual(
      expect.arrayContaining([resync('doctors.deleted', null, { reason: 'truncated' })]),
    );
  });
});

describe('appointments', () => {
  test('finished: the seed, to the letter; FINALIZADO frees the doctor in the same transaction', async () => {
    const events = await clinic.heard(setStatus('FINALIZADO'));
    expect(events).toEqual([
      { event: 'doctors.busy', account: '1', payload: { id: 1, isBusy: false } },
      { event: 'appointmnents.finished', account: '1', payload: SEED },
    ]);
    expect(await clinic.value('select count(distinct xid)::int from relay.events')).toBe(1);
    expect(await clinic.value('select "isBusy" from public.doctors')).toBe(false);
  });

  test('finished: CANCELADO leaves the doctor alone', async () => {
    expect(await clinic.heard(setStatus('CANCELADO'))).toEqual([
      {
        event: 'appointmnents.finished',
        account: '1',
        payload: { ...SEED, status: { id: 6, name: 'Cancelado', color: '#dc3545' } },
      },
    ]);
  });

  test('finished: silence for the same status, another column, another status, an insert', async () => {
    await clinic.writer.query(setStatus('FINALIZADO'));
    expect(
      await clinic.heard(
        setStatus('FINALIZADO'),
        `update public.appointments set notes = 'x', "updatedAt" = now()`,
        setStatus('AGENDADO'),
        setStatus('CONFIRMADO'),
        `insert into public.appointments ("accountId", "statusId", date, "startTime", "endTime") values (1, 5, now(), '10:00', '10:30')`,
      ),
    ).toEqual([]);
  });

  test('finished: also when the same write soft-deletes it', async () => {
    const events = await clinic.heard(
      'update public.appointments set "statusId" = 6, "deletedAt" = \'2025-01-23T12:00:00.5Z\'',
    );
    expect(events).toMatchObject([
      { event: 'appointmnents.finished', payload: { deletedAt: '2025-01-23T12:00:00.500Z' } },
    ]);
  });

  test('finished: what is missing is null, and further procedures follow in "others"', async () => {
    await clinic.writer.query(
      'insert into public."appointmentProcedures" ("appointmentId", "procedureId") values (123, 3700)',
    );
    const [several] = await clinic.heard(setStatus('CANCELADO'));
    expect(several!.payload).toMatchObject({
      appointmentProcedures: {
        procedure: { id: 3699 },
        others: [{ procedure: { id: 3700, name: 'Consulta', price: '99.9' } }],
      },
    });
    const [bare] = await clinic.heard(
      'delete from public."appointmentProcedures"; delete from public.contacts',
      'update public.appointments set "doctorId" = null, "statusId" = 5',
    );
    expect(bare!.payload).toEqual({
      ...SEED,
      doctor: null,
      patient: { ...SEED.patient, contact: { phone: null } },
      appointmentProcedures: { procedure: null },
    });
  });

  test.each([
    ['appointments.checkin', 'CHECKIN'],
    ['appointments.serving', 'EM_ATENDIMENTO'],
  ])('%s: a change to %s, or an appointment that begins with it', async (event, code) => {
    expect(await clinic.heard(setStatus(code), setStatus(code))).toMatchObject([
      { event, account: '1', payload: { id: 123 } },
    ]);
    const insert = (more: string, values: string) =>
      `insert into public.appointments ("accountId", date, "startTime", "endTime", "statusId"${more})
       select 1, '2025-01-23', '09:00', '09:15', id${values} from public."appointmentStatuses" where code = '${code}'`;
    expect(await clinic.heard(insert('', ''))).toMatchObject([{ event }]);
    expect(await clinic.heard(insert(', "deletedAt"', ', now()'))).toEqual([]);
  });

  test('told at commit: with what was written after the status, and as the last of several statuses', async () => {
    expect(
      await clinic.heard(
        'begin',
        setStatus('CHECKIN'),
        setStatus('EM_ATENDIMENTO'),
        setStatus('CANCELADO'),
        'update public."appointmentProcedures" set "procedureId" = 3700',
        'commit',
      ),
    ).toMatchObject([
      { event: 'appointmnents.finished', payload: { appointmentProcedures: { procedure: { id: 3700 } } } },
    ]);
    expect(
      await clinic.heard('begin', setStatus('CHECKIN'), 'delete from public.appointments', 'commit'),
    ).toEqual([]);
  });
});

describe('capture', () => {
  const publish = (args: string) => clinic.writer.query<{ publish: string }>(`select relay.publish(${args})`);

  beforeEach(() =>
    clinic.database.pool.query(`
      drop table if exists public.notes, public.visits, public.parts;
      create table public.notes (id integer primary key, account text, body text);
      insert into public.notes select n, case when n % 3 > 0 then 'a' || n % 3 end, 'x' from generate_series(1, 30) as n`),
  );

  test('10,000 rows of one statement are 10,000 events', async () => {
    await clinic.writer.query(
      `insert into public.doctors ("accountId", name) select 1 + n % 2, 'Dr. ' || n from generate_series(1, 9999) as n`,
    );
    const events = await clinic.heard(softDelete);
    expect(new Set(events.map(({ payload }) => payload)).size).toBe(10_000);
    expect(events.filter(({ account }) => account === '2')).toHaveLength(5_000);
  });

  test('rolled back, the event is not; nor what a savepoint took back', async () => {
    expect(await clinic.heard('begin', softDelete, 'rollback')).toEqual([]);
    const name = (to: string) => `update public.doctors set name = '${to}'`;
    const events = await clinic.heard(
      ...['begin', name('a'), 'savepoint s', name('b'), 'rollback to s', name('c'), 'release s', name('d')],
      'commit',
    );
    expect(events.map(({ payload }) => (payload as { name: string }).name)).toEqual(['a', 'c', 'd']);
  });

  test("the writer's time zone and formats do not show", async () => {
    await clinic.writer.query(
      `set timezone = 'America/Sao_Paulo'; set datestyle = 'German'; set search_path = ''`,
    );
    expect(await clinic.heard('update public.appointments set "statusId" = 5')).toContainEqual({
      event: 'appointmnents.finished',
      account: '1',
      payload: SEED,
    });
  });

  test('nor in a payload that leaves instants to Postgres', async () => {
    await clinic.writer.query(`
      create table public.visits (id integer, at timestamptz);
      select relay.publish('visit', 'public.visits', 'INSERT', account => '1');
      set timezone = 'America/Sao_Paulo'`);
    expect(await clinic.heard(`insert into public.visits values (1, '2025-01-23T09:15:00Z')`)).toEqual([
      { event: 'visit', account: '1', payload: { id: 1, at: '2025-01-23T09:15:00+00:00' } },
    ]);
  });

  test('relay.iso() is the same in every time zone', async () => {
    await clinic.writer.query(`set timezone = 'America/Sao_Paulo'`);
    const { rows } = await clinic.writer.query(`
      select relay.iso('2025-01-23 00:15:00.1234+00'::timestamptz) as instant, relay.iso('2025-01-23 09:15:00'::timestamp) as utc,
             relay.iso('2025-01-23'::date) as day, relay.iso(null::date) as none`);
    expect(rows).toEqual([
      {
        instant: '2025-01-23T00:15:00.123Z',
        utc: '2025-01-23T09:15:00.000Z',
        day: '2025-01-23T00:00:00.000Z',
        none: null,
      },
    ]);
  });

  test('an account that cannot be computed: everybody refetches', async () => {
    await publish(`'note', 'public.notes', account => $$1 / (new.id - 1)$$`);
    expect(await clinic.heard('update public.notes set body = body where id = 1')).toEqual([
      resync('note', null, { sqlstate: '22012', error: 'division by zero' }),
    ]);
  });

  test('a null account: no event, and the payload is not even computed', async () => {
    await publish(
      `'note', 'public.notes', account => 'new.account', payload => $$to_jsonb(1 / (new.id - 3))$$`,
    );
    expect(await clinic.heard('update public.notes set body = body where id = 3')).toEqual([]);
  });

  test.each(['row', 'statement'])('%s level: what is too large becomes a resync', async (level) => {
    await publish(`'note', 'public.notes', account => 'new.account', level => '${level}'`);
    const large = `update public.notes set body = repeat('x', 5000000) where id = 1`;
    expect(await clinic.heard(large)).toEqual([
      resync('note', 'a1', { error: expect.stringContaining('4 MiB') }),
    ]);
    // Nobody's account, so nobody refetches.
    const name = `update public.notes set account = repeat('x', 300) where id = 2`;
    expect(await clinic.heard(name)).toEqual([
      resync('note', 'x'.repeat(257), { error: expect.stringContaining('256 bytes') }),
    ]);
    expect(
      await clinic.value(`select count(*)::int from relay.check() where problem = 'event_too_large'`),
    ).toBe(0);
  });

  test.each(['row', 'statement'])(
    '%s level: also where it is stored as a hundredth of what it is',
    async (level) => {
      await clinic.writer.query(
        'drop table if exists public.pages; create table public.pages (id integer primary key, page jsonb)',
      );
      await publish(
        `'page', 'public.pages', 'INSERT', account => '''a1''', payload => 'new.page', level => '${level}'`,
      );
      await publish(
        `'page', 'public.pages', account => '''a1''', payload => 'new.page', level => '${level}'`,
      );
      const large = { error: expect.stringContaining('4 MiB'), table: 'public.pages' };
      expect(
        await clinic.heard(
          `insert into public.pages values (1, to_jsonb(repeat('x', 5000000)))`,
          // Now it comes from the table.
          'update public.pages set id = id',
        ),
      ).toEqual([resync('page', 'a1', large), resync('page', 'a1', large)]);
    },
  );

  test('a row that moves to another partition: seen at statement level, and at row level a warning says it is not', async () => {
    await clinic.writer.query(`
      create table public.parts (id integer, region text, primary key (id, region)) partition by list (region);
      create table public.parts_a partition of public.parts for values in ('a');
      create table public.parts_b partition of public.parts for values in ('b');
      insert into public.parts values (1, 'a')`);
    await publish(`'part.moved', 'public.parts', level => 'statement', key => 'id', account => '1',
      payload => 'to_jsonb(old.region || new.region)'`);
    const warned = once(clinic.writer, 'notice');
    await publish(`'part.updated', 'public.parts', account => '1'`);
    expect((await warned)[0].message).toContain('another partition');
    expect(await clinic.heard(`update public.parts set region = 'b'`)).toEqual([
      { event: 'part.moved', account: '1', payload: 'ab' },
    ]);
  });

  describe('statement level', () => {
    const update = 'update public.notes set body = body';

    test('one event per row that has an account and meets the condition', async () => {
      await publish(`'note', 'public.notes', level => 'statement', account => 'new.account', condition => 'new.id <= 4',
        payload => $$jsonb_build_object('id', new.id, 'was', old.body)$$`);
      expect(await clinic.heard(`update public.notes set body = 'y'`)).toEqual(
        [1, 2, 4].map((id) => ({ event: 'note', account: `a${id % 3}`, payload: { id, was: 'x' } })),
      );
    });

    test.each([
      ['INSERT', `insert into public.notes values (31, 'a1', 'x')`, 'new'],
      ['DELETE', 'delete from public.notes where id = 31', 'old'],
    ])('%s', async (operation, statement, row) => {
      await clinic.writer.query(
        `insert into public.notes select 31, 'a1', 'x' where '${operation}' = 'DELETE'`,
      );
      await publish(
        `'note', 'public.notes', '${operation}', level => 'statement', account => '${row}.account'`,
      );
      expect(await clinic.heard(statement)).toEqual([
        { event: 'note', account: 'a1', payload: { id: 31, account: 'a1', body: 'x' } },
      ]);
    });

    test('a payload that fails: the accounts of the statement refetch, and no other', async () => {
      await publish(`'note', 'public.notes', level => 'statement', account => 'new.account',
        payload => $$to_jsonb(1 / (new.id - 2))$$`);
      expect(await clinic.heard(`${update} where id < 10`)).toEqual([
        resync('note', 'a1', { error: 'division by zero' }),
        resync('note', 'a2', { error: 'division by zero' }),
      ]);
      expect(await clinic.heard(`${update} where id = 3`)).toEqual([]);
    });

    test('a changed key leaves no pair: everybody refetches', async () => {
      await publish(`'note', 'public.notes', level => 'statement', account => 'new.account'`);
      expect(await clinic.heard('update public.notes set id = id + 100 where id < 3')).toEqual([
        resync('note', null, { error: expect.stringContaining('key (id)') }),
      ]);
    });
  });

  test('synchronous_commit = off becomes local in a transaction with an event, and in no other', async () => {
    const setting = async () =>
      (await clinic.writer.query<{ s: string }>(`select current_setting('synchronous_commit') as s`)).rows[0]!
        .s;
    await clinic.writer.query('set synchronous_commit = off; begin');
    await clinic.writer.query('update public.notes set body = body');
    expect(await setting()).toBe('off');
    await clinic.writer.query(softDelete);
    expect(await setting()).toBe('local');
    await clinic.writer.query('commit');
    expect(await setting()).toBe('off');
  });
});

describe('the application changes its tables, roles and policies', () => {
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

  test("a column that the application's own BEFORE trigger sets", async () => {
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

  test('row-level security that hides everything else from the writer', async () => {
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

  test("ALTER TYPE and DROP of a column in a condition are nobody's business but the application's", async () => {
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
});

describe('the bell', () => {
  /** How often the statements rang. A marker sent after them says when all that they sent has arrived. */
  async function rings(...statements: string[]): Promise<number> {
    const listener = await clinic.connect();
    try {
      await listener.query('listen relay');
      let count = 0;
      const end = new Promise<void>((resolve) => {
        listener.on('notification', ({ payload }) => {
          if (payload === 'end') resolve();
          else count += 1;
        });
      });
      for (const statement of statements) await clinic.writer.query(statement);
      await clinic.writer.query(`select pg_notify('relay', 'end')`);
      await end;
      return count;
    } finally {
      await listener.end();
    }
  }

  test('once per transaction, however many events', async () => {
    expect(await rings(softDelete)).toBe(1);
    expect(await rings('begin', setStatus('CHECKIN'), setStatus('CANCELADO'), 'commit')).toBe(1);
    expect(await rings(setStatus('CHECKIN'), setStatus('CANCELADO'))).toBe(2);
  });

  test('again after a savepoint took the first ring back', async () => {
    expect(await rings('begin', 'savepoint s', softDelete, 'rollback to s', softDelete, 'commit')).toBe(1);
  });

  test('not for zero rows, a rollback, or a change that is no event', async () => {
    await clinic.writer.query(
      `create table public.marks (id integer primary key);
       select relay.publish('mark', 'public.marks', level => 'statement', account => '1')`,
    );
    expect(await rings('update public.marks set id = id')).toBe(0);
    expect(await rings('begin', softDelete, 'rollback')).toBe(0);
    expect(await rings(`update public.appointments set notes = ''`)).toBe(0);
  });

  test('muted: recorded, not rung', async () => {
    await clinic.writer.query('set relay.ring = off');
    expect(await rings(softDelete)).toBe(0);
    expect(await clinic.value(`select count(*)::int from relay.events where event = 'doctors.deleted'`)).toBe(
      1,
    );
  });
});
