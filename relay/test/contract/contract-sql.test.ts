// The contract in psql: tables of every kind, and what a preview and a schema show.
import { clinic, rows } from './psql.ts';

/** What check() finds; a table that is published stays as it should be. */
const problems = () => rows('select * from relay.check()');

describe('tables of every kind', () => {
  test('partitioned, with a composite key of uuids, names in quotes, a schema in quotes', async () => {
    await clinic.writer.query(`
      create schema "Lab Results";
      create table "Lab Results"."Blood ""Test""" (
        "clinicId" int not null, "testId" uuid not null default gen_random_uuid(), "takenOn" date not null, "Value" numeric,
        primary key ("clinicId", "testId", "takenOn")
      ) partition by range ("takenOn");
      create table "Lab Results"."2025" partition of "Lab Results"."Blood ""Test""" for values from ('2025-01-01') to ('2026-01-01');
      create table "Lab Results"."2026" partition of "Lab Results"."Blood ""Test""" for values from ('2026-01-01') to ('2027-01-01');
      select relay.publish('lab.taken', '"Lab Results"."Blood ""Test"""', 'INSERT', account => 'new."clinicId"');
      select relay.publish('lab.corrected', '"Lab Results"."Blood ""Test"""', 'UPDATE', level => 'statement',
        condition => 'old."Value" is distinct from new."Value"', account => 'new."clinicId"', payload => 'to_jsonb(new."Value")');
      select relay.publish('lab.corrected', '"Lab Results"."Blood ""Test"""', 'TRUNCATE')`);
    const insert = `insert into "Lab Results"."Blood ""Test""" values (1, '0b9d3f2e-5c1a-4e8b-9f57-2d6a1c7e4b30', '2025-05-05', 1.5)`;
    expect(await clinic.heard(insert)).toEqual([
      {
        event: 'lab.taken',
        account: '1',
        payload: {
          clinicId: 1,
          testId: '0b9d3f2e-5c1a-4e8b-9f57-2d6a1c7e4b30',
          takenOn: '2025-05-05',
          Value: 1.5,
        },
      },
    ]);
    // Straight into a partition, too.
    const direct = `insert into "Lab Results"."2026" values (1, gen_random_uuid(), '2026-05-05', 2)`;
    expect(await clinic.heard(direct)).toHaveLength(1);
    expect(await clinic.heard(`update "Lab Results"."Blood ""Test""" set "Value" = 3`)).toHaveLength(2);
    const truncated = {
      event: 'lab.corrected',
      reason: 'truncated',
      table: '"Lab Results"."Blood ""Test"""',
    };
    const resync = { event: 'relay:resync', account: null, payload: truncated };
    // Of the table and of each partition; a client is told once.
    expect(await clinic.heard(`truncate "Lab Results"."Blood ""Test"""`)).toEqual([resync, resync, resync]);
    expect(await clinic.heard(`truncate "Lab Results"."2025"`)).toEqual([resync]);
    expect(await problems()).toEqual([]);
    // A partition that comes later is watched; one on which the trigger is switched off is found.
    await clinic.writer.query(`
      create table "Lab Results"."2027" partition of "Lab Results"."Blood ""Test""" for values from ('2027-01-01') to ('2028-01-01');
      alter table "Lab Results"."2025" disable trigger "!lab.taken/insert"`);
    expect(await clinic.heard(direct.replaceAll('2026', '2027'))).toHaveLength(1);
    expect(await problems()).toMatchObject([
      // A row trigger came to the partition by itself, those of statements do not.
      { problem: 'child_uncaptured', event: 'lab.corrected', object: expect.stringContaining('"2027"') },
      { problem: 'child_uncaptured', event: 'lab.corrected', object: expect.stringContaining('"2027"') },
      { problem: 'trigger_disabled', event: 'lab.taken', detail: expect.stringContaining('"2025"') },
    ]);
    await clinic.writer.query(`select relay.republish('lab.taken'), relay.republish('lab.corrected')`);
    expect(await problems()).toEqual([]);
  });

  test('an account that takes a join, also when the row is deleted', async () => {
    await clinic.writer.query(`
      create table public.notes (id int primary key, "appointmentId" int, body text);
      select relay.publish('notes.changed', 'public.notes', op, payload => 'to_jsonb(' || row || '.body)',
        account => '(select a."accountId" from public.appointments as a where a.id = ' || row || '."appointmentId")')
        from (values ('INSERT', 'new'), ('UPDATE', 'new'), ('DELETE', 'old')) as o(op, row)`);
    const heard = await clinic.heard(
      `insert into public.notes values (1, 123, 'a'), (2, null, 'nobody')`,
      `update public.notes set body = 'b'`,
      'delete from public.notes',
    );
    expect(heard.map(({ account, payload }) => [account, payload])).toEqual([
      ['1', 'a'],
      ['1', 'b'],
      ['1', 'b'],
      // Nobody hears of it; relay.check() counts it.
      ['', { event: 'notes.changed', table: 'public.notes', reason: 'unheard' }],
    ]);
  });

  test('a table that is renamed goes on; published again, its name is the new one', async () => {
    await clinic.writer.query(`
      select relay.publish('doctors.test', 'public.doctors', account => 'new."accountId"', payload => 'to_jsonb(new.id)');
      alter table public.doctors rename to physicians`);
    expect(await clinic.heard('update public.physicians set "isBusy" = "isBusy"')).toHaveLength(1);
    expect(await rows(`select on_table::text from relay.contract where event = 'doctors.test'`)).toEqual([
      { on_table: 'physicians' },
    ]);
    const names = (await problems()).map(({ problem }) => problem);
    expect(new Set(names)).toEqual(new Set(['table_renamed']));
    await clinic.writer.query('select relay.republish(event) from relay.catalogue group by event');
    expect(await problems()).toEqual([]);
  });
});

describe('publishing again from the catalogue', () => {
  test('keeps whose rights a function has, whoever does it', async () => {
    const { writer, value } = clinic;
    const role = await clinic.writeAs(
      (r) => `grant relay_admin to ${r}; grant trigger on public.doctors to ${r}`,
    );
    await writer.query(
      `select relay.publish('doctors.theirs', 'public.doctors', account => 'new."accountId"', payload => 'to_jsonb(new.id)')`,
    );
    await writer.query('reset role');
    const owner = () =>
      value(`select proowner::regrole::text from pg_proc where proname = 'doctors.theirs/update'`);
    expect(await owner()).toBe(role);
    // By a superuser, unchanged, damaged, and dropped.
    expect(await value(`select relay.republish('doctors.theirs')`)).toBe('unchanged');
    await writer.query(`alter function relay_capture."doctors.theirs/update"() security invoker`);
    expect(await value(`select relay.republish('doctors.theirs')`)).toBe('replaced');
    expect(await owner()).toBe(role);
    await writer.query(`drop function relay_capture."doctors.theirs/update"() cascade`);
    expect(await value(`select relay.republish('doctors.theirs')`)).toBe('replaced');
    expect(await owner()).toBe(role);
    await writer.query(`select relay.unpublish('doctors.theirs')`);
  });
});

describe('relay.preview()', () => {
  test('shows what is sent, for each operation of the event', async () => {
    const { writer, value } = clinic;
    const preview = await rows<{ operation: string; fires: boolean; account: string; payload: unknown }>(
      `select * from relay.preview('doctors.created', (select d from public.doctors as d where id = 1))`,
    );
    expect(preview.map(({ operation, fires, account }) => [operation, fires, account])).toEqual([
      ['INSERT', true, '1'],
      ['UPDATE', null, '1'],
    ]);
    await writer.query(`insert into public.doctors (id, "accountId", name) values (7, 2, 'Dra. Lia')`);
    const sent = await value(
      `select payload from relay.events where event = 'doctors.created' and account_id = '2'`,
    );
    expect(
      await value(
        `select payload from relay.preview('doctors.created', (select d from public.doctors as d where id = 7)) where fires`,
      ),
    ).toEqual(sent);
  });

  test('of an UPDATE, with its old row; of a DELETE, with the row', async () => {
    const changed = `select fires, payload from relay.preview('doctors.busy',
      jsonb_populate_record((select d from public.doctors as d where id = 1), '{"isBusy": false}'), (select d from public.doctors as d where id = 1))`;
    expect(await rows(changed)).toEqual([{ fires: true, payload: { id: 1, isBusy: false } }]);
    const deleted = `select fires, payload from relay.preview('doctors.deleted', (select d from public.doctors as d where id = 1)) where operation = 'DELETE'`;
    expect(await rows(deleted)).toEqual([{ fires: true, payload: 1 }]);
    const oneRow = `select fires from relay.preview('doctors.busy', (select d from public.doctors as d where id = 1))`;
    expect(await rows(oneRow)).toEqual([{ fires: null }]);
  });

  test.each([
    [`select relay.preview('doctors.none', 1)`, 'no such event'],
    [`select relay.preview('doctors.busy', 1)`, 'received a row of type integer, expected one of'],
  ])('%s is refused', async (query, message) => {
    await expect(rows(query)).rejects.toThrow(message);
  });
});

describe('the schema of a payload that has none', () => {
  test('comes from the table, and its sample from the schema', async () => {
    await clinic.writer.query(`
      create type public.mood as enum ('bem', 'mal');
      create domain public.percent as numeric check (value between 0 and 100);
      create type public.place as (street text, "number" int);
      create table public.everything (
        id bigint primary key, code uuid not null, tags text[] not null, mood public.mood, share public.percent not null,
        place public.place not null, at timestamptz not null, day date, extra jsonb, ok boolean not null, blob bytea);
      select relay.publish('all.made', 'public.everything', 'INSERT', account => 'new.code');
      select relay.publish('all.moved', 'public.everything', account => 'new.code', payload => 'to_jsonb( new."at" )');
      select relay.publish('all.told', 'public.everything', account => 'new.code', payload => $$'"hi"'::jsonb$$)`);
    const [made, moved, told] = await rows<{ payload_schema: unknown; sample: unknown }>(
      `select payload_schema, sample from relay.contract where event like 'all.%' order by event`,
    );
    expect(made!.payload_schema).toEqual({
      type: 'object',
      required: ['id', 'code', 'tags', 'mood', 'share', 'place', 'at', 'day', 'extra', 'ok', 'blob'],
      properties: {
        id: { type: 'integer', format: 'int64' },
        code: { type: 'string', format: 'uuid' },
        tags: { type: 'array', items: { type: ['string', 'null'] } },
        mood: { enum: ['bem', 'mal', null] },
        share: { type: ['number', 'string'] },
        place: {
          type: 'object',
          required: ['street', 'number'],
          properties: { street: { type: ['string', 'null'] }, number: { type: ['integer', 'null'] } },
        },
        at: { type: 'string', format: 'date-time' },
        day: { type: ['string', 'null'], format: 'date' },
        extra: {},
        ok: { type: 'boolean' },
        blob: { type: ['string', 'null'] },
      },
    });
    expect(made!.sample).toMatchObject({
      id: 123,
      mood: 'bem',
      place: { number: 123 },
      tags: ['text'],
      ok: true,
    });
    expect(moved).toEqual({
      payload_schema: { type: 'string', format: 'date-time' },
      sample: '2025-01-23T09:15:00.000Z',
    });
    expect(told).toEqual({ payload_schema: {}, sample: null });
  });
});
