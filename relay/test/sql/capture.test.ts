// What happens to an application in years: its own triggers, its settings, and what it publishes again.
import { once } from 'node:events';
import { resync } from '../clinic.ts';
import { clinic, codes, created, publish, updated } from './orders.ts';

/** The first warning of a call. */
async function warned(call: () => Promise<unknown>): Promise<string> {
  const notice = once(clinic.writer, 'notice') as Promise<[{ message: string }]>;
  await call();
  return (await notice)[0].message;
}

test.each(['row', 'statement'])(
  '%s level: a condition that raises does not fail the write',
  async (level) => {
    const condition = `condition => $$(new.data ->> 'amount')::numeric > 100$$`;
    await created(`, level => '${level}', ${condition}`);
    const insert = (id: number, amount: string) =>
      `insert into public.orders values (${id}, 'a', 'c${id}', '{"amount": "${amount}"}')`;
    expect(await clinic.heard(insert(1, '150,00'), insert(2, '150.00'), insert(3, '99'))).toEqual([
      resync('o.created', 'a', { sqlstate: '22P02' }),
      { event: 'o.created', account: 'a', payload: 'c2' },
    ]);
    expect(await clinic.value(`select count(*)::int from public.orders`)).toBe(3);
    expect(await codes()).toEqual(['captures_failed']);
    await created(`, level => '${level}', condition => 'true'`);
    expect(await codes()).toEqual([]);
  },
);

test("condition_in => 'trigger' puts the condition into the WHEN, for whoever wants the microseconds", async () => {
  const warning = await warned(() => updated(`, condition => 'new.code = ''1''', condition_in => 'trigger'`));
  expect(warning).toContain('an error in the condition fails writes');
  expect(
    await clinic.value(`select pg_get_triggerdef(oid) from pg_trigger where tgname = '!o.updated/update'`),
  ).toContain(`WHEN ((new.code = '1'::text))`);
  expect(
    await clinic.heard(
      `insert into public.orders values (1, 'a')`,
      `update public.orders set code = '1'`,
      `update public.orders set code = '2'`,
    ),
  ).toEqual([{ event: 'o.updated', account: 'a', payload: '1' }]);
  await expect(updated(`, condition_in => 'trigger'`)).rejects.toMatchObject({ code: '22023' });
  await updated(`, condition => 'new.code = ''2'''`);
  expect(await clinic.heard(`update public.orders set code = '2'`)).toHaveLength(1);
  expect(await codes()).toEqual([]);
});

test("the settings of the writer's session do not show", async () => {
  await publish(
    `'o', 'public.orders', 'INSERT', account => 'new.account', payload => $$jsonb_build_array(
       interval '1 mon 2 days', '\\xde00'::bytea, (date '2025-01-23')::text, (0.1::float8 + 0.2)::text, timestamptz '2025-01-23 12:00Z')$$`,
  );
  const insert = (id: number) => `insert into public.orders values (${id}, 'a')`;
  const plain = await clinic.heard(insert(1));
  await clinic.writer.query(`
    set intervalstyle = iso_8601; set bytea_output = escape; set datestyle = 'German'; set extra_float_digits = 0; set timezone = 'Asia/Tokyo'`);
  expect(await clinic.heard(insert(2))).toEqual(plain);
});

describe('check() is green after the cure', () => {
  test('an event unpublished leaves nothing; one inserted afterwards does', async () => {
    await created();
    await clinic.writer.query(`insert into public.orders values (1, 'a')`);
    await clinic.writer.query(`select relay.unpublish('o.created')`);
    expect(await codes()).toEqual([]);
    await clinic.writer.query(`insert into relay.events (account_id, event) values ('a', 'o.created')`);
    expect(await codes()).toEqual(['event_unknown']);
  });

  test('quote_all_identifiers = on makes no difference', async () => {
    const dba = await clinic.connect();
    try {
      await dba.query('set quote_all_identifiers = on');
      expect((await dba.query('select * from relay.check()')).rows).toEqual([]);
      expect(
        (await dba.query(`select distinct relay.republish(event) as o from relay.catalogue`)).rows,
      ).toEqual([{ o: 'unchanged' }]);
    } finally {
      await dba.end();
    }
  });
});

describe('the contract', () => {
  test('a later call leaves description and schema as they are; empty ones remove them', async () => {
    await created(`, description => 'An order', payload_schema => '{"type": "string"}'`);
    await created(`, condition => 'true'`);
    const kept = `select description, payload_schema from relay.catalogue where event = 'o.created'`;
    const read = async () => (await clinic.database.pool.query(kept)).rows[0];
    expect(await read()).toEqual({ description: 'An order', payload_schema: { type: 'string' } });
    await created(`, description => '', payload_schema => '{}'`);
    expect(await read()).toEqual({ description: null, payload_schema: null });
  });

  test('prints the calls that make it', async () => {
    const { pool } = clinic.database;
    await updated(`, condition => 'new.code = ''1''', condition_in => 'trigger'`);
    const contract = `select event, call, fires_when, description, payload_schema from relay.contract order by event, operation`;
    const { rows } = await pool.query<{ event: string; call: string }>(contract);
    await pool.query(`select relay.unpublish(event) from (select distinct event from relay.catalogue) as e`);
    for (const { call } of rows) await pool.query(call);
    expect((await pool.query(contract)).rows).toEqual(rows);
    expect(await codes()).toEqual([]);
  });

  test('relay.emit() of an unpublished name warns', async () => {
    expect(await warned(() => clinic.writer.query(`select relay.emit('a', 'o.unknown')`))).toContain(
      'not in the contract',
    );
  });

  test('relay_admin and the ownership of the table are enough to publish, suspend and unpublish', async () => {
    await clinic.writeAs(
      (role) =>
        `grant relay_admin to ${role}; alter table public.orders owner to ${role}; grant usage on schema public to ${role}`,
    );
    await created();
    await clinic.writer.query(
      `select relay.suspend('o.created'); select relay.resume('o.created'); select relay.republish('o.created')`,
    );
    expect(await clinic.heard(`insert into public.orders values (1, 'a', 'c')`)).toHaveLength(1);
    await clinic.writer.query(`select relay.unpublish('o.created')`);
  });
});

test('an account by join that a cascade has deleted before: a warning, and check() counts it', async () => {
  await clinic.writer.query(`
    create table public.lines (id int, "orderId" int references public.orders on delete cascade);
    insert into public.orders values (1, 'a'); insert into public.lines values (1, 1)`);
  const warning = await warned(() =>
    publish(
      `'line.gone', 'public.lines', 'DELETE', account => '(select o.account from public.orders as o where o.id = old."orderId")'`,
    ),
  );
  expect(warning).toContain('with its row of public.orders has no account');
  await clinic.heard('delete from public.orders');
  expect(await codes()).toEqual(['account_unknown']);
});

test('infinity is an instant too', async () => {
  const { rows } = await clinic.writer.query(
    `select relay.iso('infinity'::timestamptz) as a, relay.iso('-infinity'::timestamp) as b, relay.iso('infinity'::date) as c`,
  );
  expect(rows).toEqual([{ a: 'infinity', b: '-infinity', c: 'infinity' }]);
});

test('a payload of some KiB is compressed with lz4 where the server has it', async () => {
  await clinic.writer.query(
    `insert into relay.events (account_id, event, payload)
     select 'a', 'o.created', jsonb_agg(md5(n::text) || repeat('x', 100)) from generate_series(1, 100) as n`,
  );
  const isThere = await clinic.value<boolean>(
    `select 'lz4' = any (enumvals) from pg_settings where name = 'default_toast_compression'`,
  );
  const method = await clinic.value(
    'select pg_column_compression(payload) from relay.events where id = (select max(id) from relay.events)',
  );
  expect(method).toBe(isThere ? 'lz4' : 'pglz');
});
