// One set of processes behind one port, for all tests of a file.
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
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

const EVENT = 'processes.test';
export const PROCESSES = 3;

export let database: Database;
export let first: ChildProcess;
export let gone: Promise<unknown[]>;
export let port: number;
export let clients: Client[];
export let told: number;
export let stopping: AbortController[];
export const log: string[] = [];

/** A process that stops for a moment once it has answered, as on a busy machine. */
const SLOW_AFTER_ANSWER = `
  import { ServerResponse } from 'node:http';
  const { end } = ServerResponse.prototype;
  ServerResponse.prototype.end = function (...args) {
    const ended = end.apply(this, args);
    if (this.req.url.includes('polling')) Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 50);
    return ended;
  };`;

beforeAll(async () => {
  database = await freshDatabase();
  await database.query('select relay.publish(event => $1)', [EVENT]);
  port = await deadPort();
  start();
}, 60_000);

export function start(): void {
  first = spawn(process.execPath, [join(packageRoot, 'dist/relay/main.js'), 'relay'], {
    env: {
      ...process.env,
      DATABASE_URL: database.url,
      JWT_SECRET: SECRET,
      OPERATOR_TOKEN,
      HOST: '127.0.0.1',
      PORT: String(port),
      RELAY_PROCESSES: String(PROCESSES),
      NODE_OPTIONS: `--import data:text/javascript,${encodeURIComponent(SLOW_AFTER_ANSWER)}`,
    },
    stdio: ['ignore', 'pipe', 'ignore'],
  });
  createInterface({ input: first.stdout! }).on('line', (line) => log.push(line));
  gone = once(first, 'exit');
}

beforeEach(async () => {
  clients = [];
  told = 0;
  stopping = [];
  await until('all processes are ready', async () => (await ask('/readyz')).status === 200, 60_000);
}, 70_000);

afterEach(() => {
  for (const client of clients) client.close();
  for (const stop of stopping) stop.abort();
});

afterAll(async () => {
  if (first.exitCode === null && first.signalCode === null) first.kill('SIGTERM');
  await gone;
  await database.close();
});

/** 503 too where nobody answers, for a moment, as a load balancer would have it. */
export async function ask(path: string): Promise<{ status: number; text: string }> {
  try {
    const response = await fetch(`http://127.0.0.1:${port}${path}`, {
      headers: OPERATOR,
      signal: AbortSignal.timeout(5_000),
    });
    return { status: response.status, text: await response.text() };
  } catch {
    return { status: 503, text: '' };
  }
}

export async function tell(): Promise<void> {
  await database.query(
    'insert into relay.events (account_id, event, payload) values ($1, $2, to_jsonb($3::int))',
    ['acc-1', EVENT, told],
  );
  told += 1;
}

export function everything(): number[] {
  return Array.from({ length: told }, (_, n) => n);
}

/** Clients as an application makes them: some with websocket alone, some with the stock polling start. */
export async function connect(count: number): Promise<void> {
  const auth = { token: await token() };
  for (let n = 0; n < count; n += 1) {
    clients.push(new Client(port, auth, n % 2 === 0 ? {} : { transports: ['polling', 'websocket'] }));
  }
  await Promise.all(clients.map((client) => client.live()));
}

/** Asks until it is told: no answer is not zero. */
export async function metric(name: string): Promise<number> {
  const line = await until(`${name} is told`, async () => {
    const { text } = await ask('/metrics');
    return text.split('\n').find((candidate) => candidate.startsWith(`${name} `));
  });
  return Number(line.split(' ')[1]);
}

/** Pids of the workers, from the system: they are the children of the first process. */
export async function workers(): Promise<number[]> {
  const found: number[] = [];
  for (const entry of await readdir('/proc')) {
    if (!/^\d+$/.test(entry)) continue;
    const status = await readFile(`/proc/${entry}/stat`, 'utf8').catch(() => '');
    // After the name, which is in parentheses: state, parent.
    if (Number(status.slice(status.lastIndexOf(')') + 2).split(' ')[1]) === first.pid)
      found.push(Number(entry));
  }
  return found;
}
