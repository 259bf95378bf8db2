// What a trigger records of a change, whatever the session that makes it, and what becomes of an expression that fails.
import { once } from 'node:events';
import { resync, SEED, softDelete } from '../clinic.ts';
import { clinic } from './one-clinic.ts';

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

  test('a rollback leaves no event, nor does a rollback to a savepoint', async () => {
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

  test("the writer's time zone does not show in instants that Postgres formats", async () => {
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
    '%s level: what is too large becomes a resync, even if it is stored compressed',
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
