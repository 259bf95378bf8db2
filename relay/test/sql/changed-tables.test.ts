// What migrations do to a captured table: another one in its place, another name, another type, heirs, DROP TABLE.
import { resync } from '../clinic.ts';
import { clinic, codes, created, problems, publish } from './orders.ts';

describe('the table is another one', () => {
  beforeEach(async () => {
    await created();
    await clinic.writer.query('truncate relay.events');
  });
  const insert = (id: number) => `insert into public.orders values (${id}, 'a', 'c${id}')`;
  const replaced = resync('o.created', null, { reason: 'table_replaced' });

  test.each([
    [
      'swapped',
      `create table public.orders_new (like public.orders including all);
       begin; alter table public.orders rename to orders_old; alter table public.orders_new rename to orders; commit`,
    ],
    [
      'dropped and made again',
      `drop table public.orders; create table public.orders (id int primary key, account text, code text)`,
    ],
  ])('%s: told once, named by check(), attached by republish()', async (_, change) => {
    await clinic.writer.query(change);
    expect(await clinic.heard('select relay.notice_swaps()', 'select relay.notice_swaps()')).toEqual([
      replaced,
    ]);
    expect(await clinic.heard(insert(1))).toEqual([]);
    const found = await problems();
    expect(found).toMatchObject([
      { problem: 'table_replaced', remedy: `select relay.republish('o.created')` },
    ]);
    expect(await clinic.heard(found[0]!.remedy)).toEqual([replaced]);
    expect(await clinic.heard(insert(2))).toMatchObject([{ event: 'o.created', payload: 'c2' }]);
    expect(await codes()).toEqual([]);
    expect(await clinic.heard('select relay.notice_swaps()')).toEqual([]);
  });

  test('swapped: publishing it again attaches it too, and the old one is let go', async () => {
    await clinic.writer.query(`
      create table public.orders_new (like public.orders including all);
      alter table public.orders rename to orders_old; alter table public.orders_new rename to orders`);
    expect(
      await clinic.heard(
        `select relay.publish('o.created', 'public.orders', 'INSERT', account => 'new.account')`,
      ),
    ).toEqual([replaced]);
    expect(await clinic.heard(insert(1).replace('orders', 'orders_old'))).toEqual([]);
    expect(await clinic.heard(insert(1))).toHaveLength(1);
  });

  test('renamed: it goes on, and check() knows it for that', async () => {
    await clinic.writer.query('alter table public.orders rename to purchases');
    expect(
      await clinic.heard('select relay.notice_swaps()', insert(1).replace('orders', 'purchases')),
    ).toEqual([{ event: 'o.created', account: 'a', payload: 'c1' }]);
    expect(await codes()).toEqual(['table_renamed']);
    await clinic.writer.query(`select relay.republish('o.created')`);
    expect(await codes()).toEqual([]);
    // Afterwards the old name is free for something else.
    await clinic.writer.query('create table public.orders (id int)');
    expect(await codes()).toEqual([]);
  });

  test('renamed first, and swapped under its new name, which is renamed too: the live one is found', async () => {
    const tick = 'select relay.notice_swaps()';
    expect(await clinic.heard('alter table public.orders rename to purchases', tick)).toEqual([]);
    const swap = [
      'create table public.purchases_new (like public.purchases including all)',
      'alter table public.purchases rename to purchases_old',
      tick,
      'alter table public.purchases_new rename to purchases',
    ];
    expect(await clinic.heard(...swap, tick, tick)).toEqual([replaced]);
    expect(await clinic.heard('alter table public.purchases rename to sales', tick)).toEqual([]);
    expect(await codes()).toEqual(['table_replaced']);
    await clinic.writer.query(`select relay.republish('o.created')`);
    expect(await clinic.heard(insert(1).replace('orders', 'sales'))).toHaveLength(1);
    expect(await codes()).toEqual([]);
  });

  test('dropped: check() reports it as missing', async () => {
    await clinic.writer.query('drop table public.orders');
    expect(await codes()).toEqual(['table_missing']);
  });
});

test.each([
  ['INSERT', 'row'],
  ['UPDATE', 'row'],
  ['DELETE', 'row'],
  ['UPDATE', 'statement'],
  ['INSERT', 'row at commit'],
])('a column is retyped: sessions of a pool go on with %s, level %s', async (operation, level) => {
  const row = operation === 'DELETE' ? 'old' : 'new';
  await clinic.writer.query('alter table public.orders add n int default 1');
  await publish(`'o', 'public.orders', '${operation}', account => '${row}.account', condition => '${row}.n < 100',
    payload => 'to_jsonb(${row}) - ''data''', level => '${level.split(' ')[0]}'${level.includes('commit') ? `, at => 'commit'` : ''}`);
  const write = (id: number) =>
    operation === 'INSERT'
      ? `insert into public.orders (id, account, n) values (${id}, 'a', ${id})`
      : operation === 'UPDATE'
        ? `insert into public.orders (id, account, n) values (${id}, 'a', 1); update public.orders set n = id where id = ${id}`
        : `insert into public.orders (id, account, n) values (${id}, 'a', ${id}); delete from public.orders where id = ${id}`;
  expect(await clinic.heard(write(1))).toHaveLength(1);
  await clinic.database.pool.query('alter table public.orders alter n type bigint');
  const heard = await clinic.heard(write(2), write(3), write(200));
  expect(heard).toEqual(
    [2, 3].map((n) => ({ event: 'o', account: 'a', payload: { id: n, account: 'a', code: null, n } })),
  );
});

test('a column is retyped to what an expression cannot take: its account refetches, and no other', async () => {
  await clinic.writer.query('alter table public.orders add n int default 1');
  await publish(`'o', 'public.orders', 'INSERT', account => 'new.account', payload => 'to_jsonb(new.n + 1)'`);
  expect(await clinic.heard(`insert into public.orders values (1, 'a')`)).toHaveLength(1);
  await clinic.database.pool.query('alter table public.orders alter n drop default, alter n type text');
  expect(await clinic.heard(`insert into public.orders values (2, 'a')`)).toEqual([
    resync('o', 'a', { reason: 'capture_failed', sqlstate: '42883' }),
  ]);
});

test('tables that inherit are captured; one that comes later is named', async () => {
  await clinic.writer.query('create table public.orders_abroad (country text) inherits (public.orders)');
  await created();
  await publish(`'o.created', 'public.orders', 'TRUNCATE'`);
  expect(await clinic.heard(`insert into public.orders_abroad values (1, 'a', 'c')`)).toEqual([
    { event: 'o.created', account: 'a', payload: 'c' },
  ]);
  await clinic.writer.query('create table public.orders_far () inherits (public.orders_abroad)');
  expect([...new Set(await codes())]).toEqual(['child_uncaptured']);
  await clinic.writer.query(`select relay.republish('o.created')`);
  expect(await codes()).toEqual([]);
  expect(await clinic.heard(`insert into public.orders_far values (2, 'a', 'd')`)).toHaveLength(1);
  expect(await clinic.heard('truncate public.orders_far')).toEqual([
    resync('o.created', null, { reason: 'truncated' }),
  ]);
});
