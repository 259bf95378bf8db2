// A node that is told to end, behind the shipped load balancer: its clients are at the other one with their first attempt.
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { packageRoot } from '../../package.ts';
import {
  Client,
  type Database,
  deadPort,
  freshDatabase,
  OPERATOR,
  OPERATOR_TOKEN,
  SECRET,
  token,
  until,
} from '../world.ts';
import { type Balancer, HAPROXY, startBalancer } from './compose.ts';

const nodes: ChildProcess[] = [];
const ports: Record<string, number> = {};
let database: Database;
let balancer: Balancer | undefined;
let clients: Client[] = [];

async function startNode(name: string): Promise<ChildProcess> {
  const port = await deadPort();
  ports[name] = port;
  const env = {
    ...{ ...process.env, DATABASE_URL: database.url, JWT_SECRET: SECRET, OPERATOR_TOKEN },
    ...{ HOST: '127.0.0.1', PORT: String(port), TRUSTED_PROXIES: '1' },
  };
  const node = spawn(process.execPath, [join(packageRoot, 'dist/relay/main.js'), 'relay'], {
    env,
    stdio: 'ignore',
  });
  nodes.push(node);
  const ready = async () => (await fetch(`http://127.0.0.1:${port}/readyz`).catch(() => null))?.ok;
  await until(`${name} is ready`, ready, 60_000);
  return node;
}

async function socketsOf(name: string): Promise<number> {
  const response = await fetch(`http://127.0.0.1:${ports[name]}/metrics`, { headers: OPERATOR });
  return Number(/^recado_sockets (\d+)$/m.exec(await response.text())?.[1]);
}

beforeAll(async () => {
  database = await freshDatabase();
});

afterAll(async () => {
  for (const client of clients) client.close();
  await balancer?.close();
  for (const node of nodes) if (node.exitCode === null) node.kill('SIGKILL');
  await database.close();
});

// In CI it is installed.
const haproxyIsMissing = !existsSync(HAPROXY) && process.env.RECADO_CI === undefined;

(haproxyIsMissing ? test.skip : test)(
  'the clients of a node that gets SIGTERM are at the other one with their first attempt',
  async () => {
    const first = await startNode('relay-1');
    await startNode('relay-2');
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
    const ended = once(first, 'exit');
    first.kill('SIGTERM');
    expect(await ended).toEqual([0, null]);
    const everybody = async () => (await socketsOf('relay-2')) === 40 && away.length === left.size;
    await until('all are at the other one', everybody, 60_000);
    expect(left.size).toBeGreaterThan(5);
    // TELL=1 says how long the slowest took.
    if (process.env.TELL !== undefined)
      process.stderr.write(`${left.size} moved, the slowest in ${Math.max(...away).toFixed(0)} ms\n`);
    for (const client of clients) expect(client.refusals).toEqual([]);
  },
  120_000,
);
