// The relay below a path, behind a proxy that strips the path, and behind one that does not.
import type { Relay } from '../../server/relay.ts';
import { Client, type Database, freshDatabase, startNode, token } from '../world.ts';

let database: Database;
let node: Relay;

beforeAll(async () => {
  database = await freshDatabase();
  await database.query(`select relay.publish(event => 'base.test')`);
  node = await startNode(database.url, { BASE_PATH: '/realtime/' });
});

afterAll(async () => {
  await node.close();
  await database.close();
});

const ask = (path: string, init?: RequestInit) => fetch(`http://127.0.0.1:${node.port}${path}`, init);

test.each([
  ['/realtime/socket.io', 'websocket'],
  ['/realtime/socket.io', 'polling'],
  ['/socket.io', 'websocket'],
  ['/socket.io', 'polling'],
])('a stock client at %s over %s', async (path, transport) => {
  const client = new Client(node, { token: await token() }, { path, transports: [transport as 'polling'] });
  await client.live();
  await database.query(`select relay.emit('acc-1', 'base.test', '1')`);
  expect(await client.hears(1)).toEqual([1]);
  client.close();
});

test.each(['', '/realtime'])('the other routes, below "%s"', async (base) => {
  const statuses: Record<string, number> = {};
  for (const path of ['/healthz', '/readyz', '/events', '/metrics', '/', '/console/main.js', '/nothing'])
    statuses[path] = (await ask(base + path)).status;
  expect(statuses).toEqual({
    '/healthz': 200,
    '/readyz': 200,
    '/events': 401,
    '/metrics': 403,
    '/': 200,
    '/console/main.js': 200,
    '/nothing': 404,
  });
});

test('a path that only begins with the same letters is another one', async () => {
  expect((await ask('/realtimes/readyz')).status).toBe(404);
  expect((await ask('/realtime')).status).toBe(404);
});

test('the console asks for nothing outside of the path', async () => {
  const page = await (await ask('/realtime/')).text();
  const links = [...page.matchAll(/(?:href|src)="([^"#]+)"/g)].map(([, link]) => link!);
  expect(links.length).toBeGreaterThan(3);
  for (const link of links) expect(new URL(link, 'http://relay/realtime/').pathname).toMatch(/^\/realtime\//);
  for (const name of ['main', 'session', 'operations/operations', 'contract/contract', 'clinic/timeline']) {
    const script = await ask(`/realtime/console/${name}.js`);
    expect(script.status).toBe(200);
    expect(await script.text()).not.toMatch(/['"`]\/(console|demo|socket\.io)/);
  }
});
