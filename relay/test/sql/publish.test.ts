// Changing the contract: relay.publish() and its companions, and who may call them.
import { type Clinic, openClinic, softDelete } from '../clinic.ts';

let clinic: Clinic;

const DOCTORS = `event => 'doctors.test', on_table => 'public.doctors', account => 'new."accountId"'`;
const touch = 'update public.doctors set "isBusy" = "isBusy"';

describe('the contract changes', () => {
  beforeEach(async () => {
    clinic = await openClinic();
  });
  afterEach(() => clinic.close());

  test('published, unchanged, replaced; unpublished, it is gone', async () => {
    const publish = (more = '') => clinic.value<string>(`select relay.publish(${DOCTORS}${more})`);
    expect(await publish()).toBe('published');
    expect(await publish()).toBe('unchanged');
    expect(await publish(`, payload => 'to_jsonb(new.id)'`)).toBe('replaced');
    expect(await clinic.heard(touch)).toEqual([{ event: 'doctors.test', account: '1', payload: 1 }]);
    expect(await clinic.value(`select relay.unpublish('doctors.test')`)).toBe(true);
    expect(await clinic.value(`select relay.unpublish('doctors.test')`)).toBe(false);
    expect(await clinic.heard(touch)).toEqual([]);
  });

  test('unchanged takes no lock that a writer would meet; a change is refused at once beside an open transaction', async () => {
    await clinic.writer.query(`begin; ${softDelete}`);
    const dba = await clinic.connect();
    try {
      await dba.query(`begin; set local lock_timeout = '1ms'`);
      const { rows } = await dba.query(
        'select distinct relay.republish(event) as outcome from relay.catalogue',
      );
      expect(rows).toEqual([{ outcome: 'unchanged' }]);
      const { rows: locks } = await dba.query(
        `select distinct mode from pg_locks where pid = pg_backend_pid() and relation = 'public.doctors'::regclass`,
      );
      expect(locks).toEqual([{ mode: 'AccessShareLock' }]);
      await dba.query('commit');
      await dba.query(`set lock_timeout = '1ms'`);
      await expect(dba.query(`select relay.publish(${DOCTORS})`)).rejects.toMatchObject({
        message: expect.stringContaining("relay.publish('doctors.test'): public.doctors is busy"),
        code: '55P03',
      });
    } finally {
      await dba.end();
    }
  });

  test('a trigger that was dropped or disabled is made again', async () => {
    await clinic.writer.query(`
      alter table public.doctors disable trigger "!doctors.deleted/update";
      drop trigger "!doctors.busy/update" on public.doctors`);
    expect(await clinic.heard(softDelete)).toEqual([]);
    expect(await clinic.value(`select relay.republish('doctors.deleted')`)).toBe('replaced, unchanged');
    expect(await clinic.value(`select relay.republish('doctors.busy')`)).toBe('replaced');
    expect(
      await clinic.heard(
        'update public.doctors set "deletedAt" = null',
        'update public.doctors set "isBusy" = false',
        softDelete,
      ),
    ).toMatchObject([{ event: 'doctors.created' }, { event: 'doctors.busy' }, { event: 'doctors.deleted' }]);
  });

  test('further operations of an event share its description and schema', async () => {
    const { rows } = await clinic.database.pool.query(
      `select count(*)::int as n, count(distinct description)::int as texts, count(distinct payload_schema)::int as schemas
         from relay.catalogue where event = 'doctors.deleted'`,
    );
    expect(rows).toEqual([{ n: 3, texts: 1, schemas: 1 }]);
  });

  test('without a table: an event that applications emit', async () => {
    const publish = `select relay.publish('app.hello', description => 'Says hello.')`;
    expect(await clinic.value(publish)).toBe('published');
    expect(await clinic.value(publish)).toBe('unchanged');
    expect(await clinic.heard(`select relay.emit('1', 'app.hello', '{"a": 1}')`)).toEqual([
      { event: 'app.hello', account: '1', payload: { a: 1 } },
    ]);
    const refused = (call: string) => expect(clinic.writer.query(`select relay.emit(${call})`)).rejects;
    await refused(`null, 'app.hello'`).toThrow('account: received null, expected the account');
    await refused(`repeat('x', 257), 'app.hello'`).toThrow(
      'account: received 257 bytes, expected at most 256',
    );
    await refused(
      `'1', 'app.hello', (select to_jsonb(string_agg(md5(n::text), '')) from generate_series(1, 150000) as n)`,
    ).toThrow(/^payload: received \d+ bytes, expected at most 4 MiB$/);
  });

  test('the owner of a table needs relay_admin to publish it; everybody may call relay.position()', async () => {
    const role = await clinic.writeAs((name) => `alter table public.doctors owner to ${name}`);
    const { writer } = clinic;
    await expect(writer.query(`select relay.publish(${DOCTORS})`)).rejects.toThrow('permission denied');
    const { rows } = await writer.query('select relay.position() as position');
    expect(rows[0].position).toMatch(/^[0-9a-f]{12}-/);
    await clinic.database.pool.query(`grant relay_admin to ${role}`);
    expect((await writer.query(`select relay.publish(${DOCTORS})`)).rows).toEqual([{ publish: 'published' }]);
    expect(await clinic.heard(touch)).toMatchObject([{ event: 'doctors.test' }]);
    expect(
      await clinic.value(`select proowner::regrole::text from pg_proc where proname = 'doctors.test/update'`),
    ).toBe(role);
    await expect(
      writer.query(`select relay.publish('x', 'public.patients', account => '1')`),
    ).rejects.toThrow("relay.publish(on_table => 'public.patients'): permission denied");
  });

  test('an application that was admitted may emit, and nothing else', async () => {
    await clinic.writeAs((role) => `select relay.admit('${role}')`);
    expect(await clinic.heard(`select relay.emit('1', 'doctors.busy')`)).toEqual([
      { event: 'doctors.busy', account: '1', payload: null },
    ]);
  });

  test('an application that was not admitted cannot emit', async () => {
    await clinic.writeAs(() => 'select');
    await expect(clinic.writer.query(`select relay.emit('1', 'doctors.busy')`)).rejects.toThrow(
      'permission denied',
    );
  });
});

describe('publish() refuses, names the argument, and leaves nothing half-installed', () => {
  beforeAll(async () => {
    clinic = await openClinic();
  });
  afterAll(() => clinic.close());

  const inventory = () =>
    clinic.value<string>(`
      select md5(string_agg(thing, ',' order by thing)) from (
        select c::text from relay.catalogue as c
        union all select proname || prosrc from pg_proc where pronamespace = 'relay_capture'::regnamespace
        union all select tgname || tgrelid::regclass from pg_trigger) as things(thing)`);

  test.each([
    ['a reserved name', `'connect', 'public.doctors', account => '1'`, "event: 'connect' is reserved"],
    ['a name of ours', `'relay:ready', 'public.doctors', account => '1'`, "event: 'relay:ready' is reserved"],
    ['a name with blanks', `'a b', 'public.doctors', account => '1'`, "event: received 'a b'"],
    ['no name', `null, 'public.doctors', account => '1'`, 'event: received null'],
    [
      'a missing table',
      `'x', 'public.nurses', account => '1'`,
      "on_table => 'public.nurses'): there is no such table",
      '42P01',
    ],
    ['not a name', `'x', 'a.b.c.', account => '1'`, "on_table => 'a.b.c.'): there is no such table", '42P01'],
    [
      'a view',
      `'x', 'relay.failures', account => '1'`,
      "on_table => 'relay.failures'): expected a table",
      '42809',
    ],
    [
      'the outbox',
      `'x', 'relay.events', account => '1'`,
      "on_table => 'relay.events'): expected a table",
      '42809',
    ],
    [
      'no table after all',
      `'doctors.busy'`,
      "event => 'doctors.busy'): the event exists already for public.doctors",
      '42710',
    ],
    ['an unknown operation', `'x', 'public.doctors', 'UPSERT', account => '1'`, "operation => 'UPSERT')"],
    ['no operation', `'x', 'public.doctors', null, account => '1'`, 'operation => NULL)'],
    ['an unknown level', `'x', 'public.doctors', account => '1', level => 'table'`, "level => 'table')"],
    ['an unknown moment', `'x', 'public.doctors', account => '1', at => 'dawn'`, "at => 'dawn')"],
    [
      'a deferred statement',
      `'x', 'public.doctors', account => '1', level => 'statement', at => 'commit'`,
      "at => 'commit')",
    ],
    ['no account', `'x', 'public.doctors'`, 'account => ...): received null', '22004'],
    [
      'a broken account',
      `'x', 'public.doctors', account => 'new.accountId'`,
      'account => ...): column new.accountid does not exist',
    ],
    [
      'an aggregate as account',
      `'x', 'public.doctors', account => 'count(*)'`,
      'account => ...): aggregate functions',
    ],
    [
      'old in an INSERT',
      `'x', 'public.doctors', 'INSERT', account => 'old.id'`,
      'account => ...): missing FROM-clause entry for table "old"',
    ],
    [
      'a broken payload',
      `'x', 'public.doctors', account => '1', payload => 'new.'`,
      'payload => ...): syntax error',
    ],
    [
      'a payload that is no JSON',
      `'x', 'public.doctors', account => '1', payload => 'new.id'`,
      'payload => ...): cannot cast type integer to jsonb',
    ],
    [
      'a condition that is none',
      `'x', 'public.doctors', account => '1', condition => 'new.name'`,
      'condition => ...): argument of WHERE must be type boolean',
    ],
    [
      'a key that is none',
      `'x', 'public.doctors', account => '1', level => 'statement', key => 'crm'`,
      "key => 'crm')",
    ],
    [
      'an account without table',
      `'x', account => '1'`,
      'on_table => null): condition, account, payload, audience and key',
    ],
  ])('%s', async (_, args, message, code = '22023') => {
    const before = await inventory();
    await expect(clinic.writer.query(`select relay.publish(${args})`)).rejects.toMatchObject({
      message: expect.stringContaining(message),
      code,
    });
    expect(await inventory()).toBe(before);
  });
});
