// The database goes away while clients poll through the shipped load balancer: no node is ready, and they stay.
import { existsSync } from 'node:fs';
import type { Relay } from '../../server/relay.ts';
import { Link } from '../faults/links.ts';
import {
  Client,
  type Database,
  deadPort,
  freshDatabase,
  startNode,
  through,
  token,
  until,
} from '../world.ts';
import { type Balancer, HAPROXY, startBalancer } from './compose.ts';

const EVENT = 'away.test';
let database: Database;
let link: Link;
let nodes: Relay[] = [];
let balancer: Balancer | undefined;
let client: Client | undefined;

beforeAll(async () => {
  database = await freshDatabase();
  await database.query('select relay.publish(event => $1)', [EVENT]);
  link = await Link.to(Number(new URL(database.url).port));
  nodes = await Promise.all(
    [0, 1].map(() => startNode(through(link, database.url), { TRUSTED_PROXIES: '1' })),
  );
  await Promise.all(nodes.map((node) => node.ready()));
});

afterAll(async () => {
  client?.close();
  await balancer?.close();
  await Promise.all(nodes.map((node) => node.close()));
  link.close();
  await database.close();
});

// In CI it is installed.
const haproxyIsMissing = !existsSync(HAPROXY) && process.env.RECADO_CI === undefined;

(haproxyIsMissing ? test.skip : test)('clients that poll stay, and hear on when it is back', async () => {
  const { port } = new URL(database.url);
  balancer = await startBalancer({ 'relay-1': nodes[0]!.port, 'relay-2': nodes[1]!.port });
  const url = `http://127.0.0.1:${balancer.port}`;
  client = await new Client(balancer.port, { token: await token() }, { transports: ['polling'] }).live();

  link.point(await deadPort());
  link.cut();
  const isOut = (name: string) => balancer!.log().includes(`Server relays/${name} is DOWN`);
  await until('no node is ready', () => isOut('relay-1') && isOut('relay-2'), 20_000);

  expect((await fetch(`${url}/healthz`)).status).toBe(200);
  // A request of the session, and its answer.
  const answer: unknown = await client.socket.timeout(10_000).emitWithAck('auth:refresh', await token());
  expect(answer).toMatchObject({ ok: true });

  link.point(Number(port));
  await database.query(`select relay.emit('acc-1', $1, '"back"')`, [EVENT]);
  expect(await client.hears(1)).toEqual(['back']);
  expect(client.disconnects).toEqual([]);
});
