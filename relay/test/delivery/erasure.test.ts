// relay.forget(): what an event said is gone from the table and from the memory of every node, and who comes back is
// told to refetch.
import type { Relay } from '../../server/relay.ts';
import { Client, type Database, freshDatabase, metric, startNode, token, until } from '../world.ts';

let database: Database;
let nodes: Relay[];
const clients: Client[] = [];

beforeAll(async () => {
  database = await freshDatabase();
  await database.query(`select relay.publish('note')`);
  nodes = [await startNode(database.url), await startNode(database.url)];
  await Promise.all(nodes.map((node) => node.ready()));
});
afterEach(() => {
  for (const client of clients.splice(0)) client.close();
});
afterAll(async () => {
  await Promise.all(nodes.map((node) => node.close()));
  await database.close();
});

async function connect(node: Relay, account: string, position?: unknown): Promise<Client> {
  const client = new Client(node, {
    token: await token(account),
    ...(position !== undefined && { position }),
  });
  clients.push(client);
  return client.live();
}

const emit = (account: string, payload: unknown) =>
  database.query(`select relay.emit($1, 'note', $2)`, [account, JSON.stringify(payload)]);

test('an account is forgotten, by every node and by the table; others are not', async () => {
  const [live, other] = [await connect(nodes[0]!, 'erased'), await connect(nodes[1]!, 'kept')];
  const liveOnSecond = await connect(nodes[1]!, 'erased');
  const start = live.heard[0]!.position;
  const startOfOther = other.heard[0]!.position;
  for (const name of ['Ana', 'Bia']) {
    await emit('erased', { name });
    await emit('kept', { name });
  }
  await live.hears(2);
  await other.hears(2);
  const [{ forgotten } = { forgotten: '' }] = await database.query<{ forgotten: string }>(
    `select relay.forget('erased') as forgotten`,
  );
  expect(forgotten).toBe('2');
  await until('who is connected refetches', () => live.of('relay:resync').length === 1);
  expect(live.of('relay:resync')).toEqual([{ reason: 'forgotten' }]);
  await emit('erased', { name: 'Carla' });
  await live.hears(3);
  await liveOnSecond.hears(3);

  const queries = () => Promise.all(nodes.map((node) => metric(node, 'replayQueries')));
  const before = await queries();
  for (const node of nodes) {
    const back = await connect(node, 'erased', start);
    expect(await back.hears(1)).toEqual([{ name: 'Carla' }]);
    expect(back.of('relay:resync')).toEqual([{ reason: 'forgotten' }]);
    const ofOther = await connect(node, 'kept', startOfOther);
    expect(await ofOther.hears(2)).toEqual([{ name: 'Ana' }, { name: 'Bia' }]);
    expect(ofOther.of('relay:resync')).toEqual([]);
  }
  // From memory.
  expect(await queries()).toEqual(before);
  const left = await database.query(
    `select payload from relay.events where account_id = 'erased' order by id`,
  );
  expect(left.map(({ payload }) => payload)).toEqual([
    { reason: 'forgotten' },
    { reason: 'forgotten' },
    { reason: 'forgotten' },
    { name: 'Carla' },
  ]);
});

test('an event that is committed together with the erasure is not forgotten', async () => {
  const live = await connect(nodes[0]!, 'together');
  const start = live.heard[0]!.position;
  await emit('together', { name: 'Ana' });
  await live.hears(1);
  await database.query(
    `select relay.forget('together'), relay.emit('together', 'note', jsonb_build_object('name', 'Bia'))`,
  );
  await live.hears(2);
  const back = await connect(nodes[0]!, 'together', start);
  expect(await back.hears(1)).toEqual([{ name: 'Bia' }]);
  expect(back.of('relay:resync')).toEqual([{ reason: 'forgotten' }]);
});

test("one row's events are forgotten, and those of other rows are kept", async () => {
  await emit('rows', { id: 7, name: 'Ana' });
  await emit('rows', { id: 8, name: 'Bia' });
  const forgotten = await database.query(`select relay.forget('rows', '{"id": 7}') as n`);
  expect(forgotten).toEqual([{ n: '1' }]);
  expect(
    await database.query(`select payload from relay.events where account_id = 'rows' order by id`),
  ).toEqual([
    { payload: { reason: 'forgotten' } },
    { payload: { id: 8, name: 'Bia' } },
    { payload: { reason: 'forgotten' } },
  ]);
});
