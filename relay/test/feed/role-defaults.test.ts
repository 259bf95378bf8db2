// Whatever a session's defaults are in the database, a relay is ready and reads, and no application's transaction fails
// because of it.
import { Client, type Database, freshDatabase, startNode, token } from '../world.ts';

let database: Database;

beforeAll(async () => {
  database = await freshDatabase();
  await database.query(`select relay.publish('note')`);
  await database.query('create table stock as select 1 as n');
  const name = new URL(database.url).pathname.slice(1);
  const session = await database.connect();
  await session.query(`alter database ${name} set default_transaction_isolation = 'serializable'`);
  await session.query(`alter database ${name} set default_transaction_read_only = on`);
});
afterAll(() => database.close());

async function begin() {
  const session = await database.connect();
  await session.query('begin read write');
  expect((await session.query('show transaction_isolation')).rows).toEqual([
    { transaction_isolation: 'serializable' },
  ]);
  return session;
}

test('serializable and read-only', async () => {
  const relay = await startNode(database.url);
  try {
    await relay.ready();
    const client = await new Client(relay, { token: await token() }).live();
    // The first depends on the second, which commits before it. Whoever reads between the two commits, and is
    // serializable, would depend on the first: then it has to fail.
    const first = await begin();
    await first.query('select n from stock');
    const second = await begin();
    await second.query('update stock set n = 2');
    await second.query(`select relay.emit('acc-1', 'note', '"second"')`);
    await second.query('commit');
    await client.hears(1);
    await first.query(`select relay.emit('acc-1', 'note', '"first"')`);
    await first.query('commit');
    expect(await client.hears(2)).toEqual(['second', 'first']);
    client.close();
  } finally {
    await relay.close();
  }
});
