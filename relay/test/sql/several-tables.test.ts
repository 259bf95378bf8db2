// One event of several tables: of one schema, or of the schema that each tenant has.
import { once } from 'node:events';
import { printContract } from '../../commands/contract.ts';
import { readContract } from '../../contract/read.ts';
import { type Clinic, openClinic, resync } from '../clinic.ts';

let clinic: Clinic;

beforeEach(async () => {
  clinic = await openClinic();
  await clinic.writer.query(`
    create schema north; create schema south;
    create table north.orders (id int primary key, code text);
    create table south.orders (id int, code text, paid boolean)`);
  await publish('north');
});
afterEach(() => clinic.close());

const run = (statement: string) => clinic.writer.query(statement);
const publish = (tenant: string, more = '', table = 'orders', operation = 'INSERT') =>
  run(
    `select relay.publish('order.placed', '${tenant}.${table}', '${operation}', account => '''${tenant}'''${more})`,
  );
const insert = (tenant: string, id: number, table = 'orders') =>
  `insert into ${tenant}.${table} (id, code) values (${id}, '${tenant}')`;
const placed = (account: string, id: number) => ({
  event: 'order.placed',
  account,
  payload: expect.objectContaining({ id }),
});
const problems = async () =>
  (
    await clinic.database.pool.query<{ problem: string; object: string; remedy: string }>(
      'select problem, object, remedy from relay.check()',
    )
  ).rows;
const functions = () =>
  clinic.value<string[]>(
    `select array_agg(proname::text order by proname) from pg_proc where proname like 'order.placed%'`,
  );

test('each table has its own account, trigger and function; a notice tells of the second', async () => {
  const notice = once(clinic.writer, 'notice') as Promise<[{ message: string }]>;
  expect((await publish('south')).rows).toEqual([{ publish: 'published' }]);
  expect((await notice)[0].message).toContain('the event has several tables now');
  expect((await publish('south')).rows).toEqual([{ publish: 'unchanged' }]);
  expect((await publish('south', `, condition => 'new.id > 1'`)).rows).toEqual([{ publish: 'replaced' }]);
  expect(await functions()).toEqual(['order.placed/insert', 'order.placed/insert/2']);
  expect(await clinic.heard(insert('north', 1), insert('south', 1), insert('south', 2))).toEqual([
    placed('north', 1),
    placed('south', 2),
  ]);
  expect(await problems()).toEqual([]);
});

test('unpublish takes one of them, or all', async () => {
  await publish('south');
  expect(await clinic.value(`select relay.unpublish('order.placed', 'west.orders')`)).toBe(false);
  expect(await clinic.value(`select relay.unpublish('order.placed', 'no name.')`)).toBe(false);
  expect(await clinic.value(`select relay.unpublish('order.placed', 'north.orders')`)).toBe(true);
  expect(await clinic.heard(insert('north', 1), insert('south', 1))).toEqual([placed('south', 1)]);
  expect(await functions()).toEqual(['order.placed/insert/2']);
  // The first name is free again.
  await publish('north');
  expect(await functions()).toEqual(['order.placed/insert', 'order.placed/insert/2']);
  expect(await clinic.heard(insert('north', 2), insert('south', 2))).toHaveLength(2);
  expect(await clinic.value(`select relay.unpublish('order.placed')`)).toBe(true);
  expect(await clinic.heard(insert('north', 3), insert('south', 3))).toEqual([]);
  expect(await functions()).toBeNull();
  expect(await problems()).toEqual([]);
});

test('suspended, resumed and published again: one of them, or all', async () => {
  await publish('south');
  await run(`select relay.suspend('order.placed', 'south.orders')`);
  expect(await clinic.heard(insert('north', 1), insert('south', 1))).toEqual([placed('north', 1)]);
  expect(await clinic.value(`select relay.republish('order.placed')`)).toBe('suspended, unchanged');
  expect(await clinic.value(`select relay.republish('order.placed', 'south.orders')`)).toBe('suspended');
  await run(`select relay.suspend('order.placed')`);
  expect(await clinic.heard(insert('north', 2), insert('south', 2))).toEqual([]);
  await run(`select relay.resume('order.placed', 'south.orders')`);
  expect(await clinic.heard(insert('north', 3), insert('south', 3))).toEqual([placed('south', 3)]);
  await run(`select relay.resume('order.placed')`);
  expect(await clinic.heard(insert('north', 4), insert('south', 4))).toHaveLength(2);
  for (const call of ['suspend', 'resume', 'republish']) {
    await expect(run(`select relay.${call}('order.placed', 'west.orders')`)).rejects.toMatchObject({
      message: `relay.${call}('order.placed', on_table => 'west.orders'): no such table of the event`,
      code: '42704',
    });
  }
});

test('the contract is one event with two tables, and prints the calls that make them', async () => {
  const { pool } = clinic.database;
  await publish('south', `, description => 'An order'`);
  const event = (await readContract(pool, '')).find((known) => known.event === 'order.placed')!;
  expect(event).toMatchObject({ room: '{account}', description: 'An order' });
  expect(event.recorded.map(({ table, trigger }) => [table, trigger])).toEqual([
    ['north.orders', '!order.placed/insert'],
    ['south.orders', '!order.placed/insert/2'],
  ]);
  const types = await printContract(pool, 'typescript', '');
  expect(types.match(/export type OrderPlaced = [^;]+;[^}]+}[^;]+;[^}]+}/)?.[0]).toContain('paid: boolean');
  expect(types.match(/"order\.placed": /g)).toHaveLength(1);
  const document = JSON.parse(await printContract(pool, 'asyncapi', '')) as {
    components: { messages: Record<string, { 'x-recorded': unknown[] }> };
  };
  expect(document.components.messages['order.placed']!['x-recorded']).toHaveLength(2);

  const contract = `select event, call, trigger, fires_when, payload_schema from relay.contract where event = 'order.placed' order by on_table`;
  const before = (await pool.query<{ call: string }>(contract)).rows;
  await run(`select relay.unpublish('order.placed')`);
  for (const { call } of before) await run(call);
  expect((await pool.query(contract)).rows).toEqual(before);
});

test('a schema belongs to its table, and the next table starts with the first one', async () => {
  const schema = (id: string) => `, payload_schema => '{"title": "${id}"}'`;
  await publish('north', schema('north'));
  await publish('south');
  const titles = () =>
    clinic.value(
      `select array_agg(payload_schema ->> 'title' order by on_table::text) from relay.contract where event = 'order.placed'`,
    );
  expect(await titles()).toEqual(['north', 'north']);
  await publish('south', schema('south'));
  await publish('south', `, condition => 'true'`);
  await publish('north', `, condition => 'true'`);
  expect(await titles()).toEqual(['north', 'south']);
});

test('preview() knows the table by the row', async () => {
  await publish('south');
  await run(`insert into south.orders values (7, 'c', true)`);
  expect(
    (await run(`select p.* from south.orders as o, relay.preview('order.placed', o) as p`)).rows,
  ).toEqual([
    {
      operation: 'INSERT',
      fires: true,
      account: 'south',
      payload: { id: 7, code: 'c', paid: true },
      audience: null,
    },
  ]);
  await expect(run(`select relay.preview('order.placed', d) from public.doctors as d`)).rejects.toThrow(
    'expected one of north.orders or south.orders',
  );
});

test('check() names the table, and is green again once that one is cured', async () => {
  await publish('south');
  await run(`drop trigger "!order.placed/insert/2" on south.orders`);
  expect(await problems()).toMatchObject([
    { problem: 'trigger_missing', remedy: `select relay.republish('order.placed', 'south.orders')` },
  ]);
  await run((await problems())[0]!.remedy);
  expect(await problems()).toEqual([]);

  const fails = `, payload => 'to_jsonb(1 / (new.id - 1))'`;
  await publish('north', fails);
  await publish('south', fails);
  await run(`${insert('north', 1)}; ${insert('south', 1)}`);
  const failing = async () => (await problems()).map(({ problem, object }) => `${problem} ${object}`);
  expect(await failing()).toEqual(['captures_failed north.orders', 'captures_failed south.orders']);
  await publish('north');
  expect(await failing()).toEqual(['captures_failed south.orders']);
  await run(`select relay.unpublish('order.placed', 'south.orders')`);
  expect(await failing()).toEqual([]);
});

test('a table that was dropped is named until it is taken from the event, or is there again', async () => {
  await publish('south');
  await run('drop table south.orders');
  expect(await problems()).toMatchObject([
    {
      problem: 'table_missing',
      object: 'south.orders',
      remedy: expect.stringContaining(`relay.unpublish('order.placed', 'south.orders')`),
    },
  ]);
  await run('create table south.orders (id int primary key, code text)');
  expect(await problems()).toMatchObject([{ problem: 'table_replaced' }]);
  await run((await problems())[0]!.remedy);
  expect(await clinic.heard(insert('south', 1))).toEqual([placed('south', 1)]);
  await run('drop table south.orders');
  expect(await clinic.value(`select relay.unpublish('order.placed', 'south.orders')`)).toBe(true);
  expect(await clinic.heard(insert('north', 1))).toEqual([placed('north', 1)]);
  expect(await problems()).toEqual([]);
});

describe('two tables of an event', () => {
  beforeEach(async () => {
    await run(`create table north.drafts (like north.orders)`);
    await publish('north', `, payload => 'to_jsonb(''draft''::text)'`, 'drafts');
  });
  const heard = async () =>
    (await clinic.heard(insert('north', 1, 'orders'), insert('north', 1, 'drafts'))).map(({ payload }) =>
      payload === 'draft' ? 'draft' : 'order',
    );

  test('exchange their names: what was published for a name stays with it', async () => {
    expect(
      await clinic.heard(
        `alter table north.orders rename to x; alter table north.drafts rename to orders; alter table north.x rename to drafts`,
        'select relay.notice_swaps()',
      ),
    ).toEqual(expect.arrayContaining([resync('order.placed', null, { reason: 'table_replaced' })]));
    expect((await problems()).map(({ problem, object }) => [problem, object])).toEqual([
      ['table_replaced', 'north.orders'],
      ['table_replaced', 'north.drafts'],
    ]);
    for (const { remedy } of await problems()) await run(remedy);
    expect(await problems()).toEqual([]);
    expect(await heard()).toEqual(['order', 'draft']);
  });

  test('become one: the name decides, and nothing is recorded twice', async () => {
    await run('drop table north.orders; alter table north.drafts rename to orders');
    await run('select relay.notice_swaps()');
    await run(`select relay.republish('order.placed')`);
    expect(await clinic.heard(insert('north', 1))).toEqual([placed('north', 1)]);
    expect(await problems()).toEqual([]);
  });

  test('become table and partition, or inherit: the statement goes on, check() says that rows are told twice', async () => {
    await run(`create table north.all_orders (id int, code text) partition by list (id)`);
    await publish('north', '', 'all_orders');
    await run('alter table north.all_orders attach partition north.drafts for values in (1)');
    expect(await clinic.heard(insert('north', 1, 'drafts'))).toHaveLength(2);
    const found = await problems();
    expect(found).toMatchObject([
      {
        problem: 'event_doubled',
        remedy: `select relay.unpublish('order.placed', 'north.drafts')`,
      },
    ]);
    await run(found[0]!.remedy);
    expect(await clinic.heard(insert('north', 1, 'drafts'))).toHaveLength(1);
    expect(await problems()).toEqual([]);

    await run('create table north.old_orders () inherits (north.orders)');
    await expect(publish('north', '', 'old_orders')).rejects.toMatchObject({
      message: expect.stringContaining('north.orders has the event already'),
      code: '42710',
    });
    await run(`select relay.unpublish('order.placed', 'north.orders')`);
    await publish('north', '', 'old_orders');
    await expect(publish('north')).rejects.toThrow('north.old_orders has the event already');
  });
});

test('one of them is renamed, and another of the event takes a name it had: each stays what it is', async () => {
  const tick = 'select relay.notice_swaps()';
  await publish('south');
  await run(`alter table north.orders rename to a; ${tick}`);
  await run(`alter table north.a rename to b; ${tick}`);
  await run(`alter table south.orders set schema north; alter table north.orders rename to a`);
  expect(await clinic.heard(tick, insert('north', 1, 'b'), insert('north', 1, 'a'))).toEqual([
    placed('north', 1),
    placed('south', 1),
  ]);
  await run(`select relay.republish('order.placed')`);
  expect(await clinic.heard(insert('north', 2, 'b'), insert('north', 2, 'a'))).toEqual([
    placed('north', 2),
    placed('south', 2),
  ]);
  expect(await problems()).toEqual([]);
});

test('a name that leaves no room for so many tables is refused', async () => {
  const long = `x${'y'.repeat(49)}`;
  const truncate = () => run(`select relay.publish('${long}', 'south.orders', 'TRUNCATE')`);
  const tables = (count: number) =>
    run(`
      delete from relay.catalogue where event = '${long}';
      insert into relay.catalogue (event, operation, number, on_table, table_name, level, fires_at)
      select '${long}', 'TRUNCATE', n, 'north.orders', 'north.orders', 'statement', 'statement' from generate_series(1, ${count}) as n`);
  await tables(98);
  await truncate();
  expect(await clinic.heard('truncate south.orders')).toHaveLength(1);
  await tables(99);
  await expect(truncate()).rejects.toMatchObject({ code: '42622' });
});
