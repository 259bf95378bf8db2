// A node that is told to end, behind the shipped load balancer: its clients are at the other one with their first attempt.
import { existsSync } from 'node:fs';
import { Process } from '../server/process.ts';
import { Client, type Database, freshDatabase, OPERATOR_TOKEN, SECRET, token, until } from '../world.ts';
import { type Balancer, HAPROXY, startBalancer } from './compose.ts';

const nodes: Process[] = [];
const ports: Record<string, number> = {};
let database: Database;
let balancer: Balancer | undefined;
let clients: Client[] = [];

async function startNode(name: string): Promise<Process> {
  const env = { DATABASE_URL: database.url, JWT_SECRET: SECRET, OPERATOR_TOKEN, TRUSTED_PROXIES: '1' };
  const node = await Process.start('relay', env);
  ports[name] = node.port;
  nodes.push(node);
  return node;
}

beforeAll(async () => {
  database = await freshDatabase();
});

afterAll(async () => {
  for (const client of clients) client.close();
  await balancer?.close();
  await Promise.all(nodes.map((node) => node.end('SIGKILL')));
  await database.close();
});

// In CI it is installed.
const haproxyIsMissing = !existsSync(HAPROXY) && process.env.RECADO_CI === undefined;

(haproxyIsMissing ? test.skip : test)(
  'the clients of a node that gets SIGTERM are at the other one with their first attempt',
  async () => {
    const first = await startNode('relay-1');
    const second = await startNode('relay-2');
    balancer = await startBalancer(ports);
    const auth = { token: await token() };
    clients = Array.from(
      { length: 40 },
      (_, n) =>
        // With the delays of a stock client.
        new Client(balancer!.port, auth, {
          transports: ([['polling', 'websocket'], ['websocket'], ['polling']] as const)[n % 3]!.slice(),
          reconnectionDelay: 1_000,
          reconnectionDelayMax: 5_000,
        }),
    );
    const left = new Map<Client, number>();
    const away: number[] = [];
    await Promise.all(clients.map((client) => client.live()));
    for (const client of clients) {
      client.socket.on('disconnect', () => left.set(client, performance.now()));
      client.socket.on('connect', () => away.push(performance.now() - (left.get(client) ?? 0)));
    }
    expect(await first.end('SIGTERM')).toBe(0);
    const everybody = async () => (await second.metric('recado_sockets')) === 40 && away.length === left.size;
    await until('all are at the other one', everybody, 60_000);
    expect(left.size).toBeGreaterThan(5);
    // TELL=1 says how long the slowest took.
    if (process.env.TELL !== undefined)
      process.stderr.write(`${left.size} moved, the slowest in ${Math.max(...away).toFixed(0)} ms\n`);
    for (const client of clients) expect(client.refusals).toEqual([]);
  },
  120_000,
);
