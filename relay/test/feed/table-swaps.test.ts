// A relay notices by itself that a watched table was swapped: every account is told, once, by whichever node sees it.
import type { Relay } from '../../server/relay.ts';
import { Client, type Database, freshDatabase, startNode, token, until } from '../world.ts';

let database: Database;
let nodes: Relay[];
const clients: Client[] = [];

beforeAll(async () => {
  database = await freshDatabase();
  await database.query('create table public.orders (id int primary key, account text)');
  await database.query(
    `select relay.publish('order', 'public.orders', 'INSERT', account => 'new.account', payload => 'to_jsonb(new.id)')`,
  );
  nodes = [await startNode(database.url), await startNode(database.url)];
  for (const [n, node] of nodes.entries()) {
    clients.push(await new Client(node, { token: await token(`acc-${n}`) }).live());
  }
});
afterAll(async () => {
  for (const client of clients) client.close();
  await Promise.all(nodes.map((node) => node.close()));
  await database.close();
});

test('swapped: every account refetches; attached again: once more, and events go on', async () => {
  await database.query(`
    create table public.orders_new (like public.orders including all);
    alter table public.orders rename to orders_old;
    alter table public.orders_new rename to orders`);
  const told = (times: number) =>
    until(`all are told ${times} times`, () => clients.every((c) => c.of('relay:resync').length === times));
  await told(1);
  await database.query(`select relay.republish('order')`);
  await told(2);
  await database.query(`insert into public.orders values (1, 'acc-0'), (2, 'acc-1')`);
  for (const [n, client] of clients.entries()) {
    expect(await client.hears(1)).toEqual([n + 1]);
    expect(client.of('relay:resync')).toEqual(
      Array.from({ length: 2 }, () => ({ reason: 'table_replaced', event: 'order' })),
    );
  }
});
