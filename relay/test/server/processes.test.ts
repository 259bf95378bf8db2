// Several processes behind one port: stock clients of both transports, one set of metrics, one state of health, and
// workers that come and go.
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdir, readFile } from 'node:fs/promises';
import { connect as openConnection, type Socket } from 'node:net';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { packageRoot } from '../../package.ts';
import { recado } from '../commands/recado.ts';
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
const PROCESSES = 3;

let database: Database;
let first: ChildProcess;
let gone: Promise<unknown[]>;
let port: number;
let clients: Client[];
let told: number;
let stopping: AbortController[];
const log: string[] = [];

/** A process that stops for a moment once it has answered, as on a busy machine. */
const SLOW_AFTER_ANSWER = `
  import { ServerResponse } from 'node:http';
  const { end } = ServerResponse.prototype;
  ServerResponse.prototype.end = function (...args) {
    const ended = end.apply(this, args);
    if (this.req.url.includes('polling')) Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 50);
    return ended;
  };`;

// One set of processes for all tests; the last one ends it.
beforeAll(async () => {
  database = await freshDatabase();
  await database.query('select relay.publish(event => $1)', [EVENT]);
  port = await deadPort();
  start();
}, 60_000);

function start(): void {
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
async function ask(path: string): Promise<{ status: number; text: string }> {
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

async function tell(): Promise<void> {
  await database.query(
    'insert into relay.events (account_id, event, payload) values ($1, $2, to_jsonb($3::int))',
    ['acc-1', EVENT, told],
  );
  told += 1;
}

function everything(): number[] {
  return Array.from({ length: told }, (_, n) => n);
}

/** Clients as an application makes them: some with websocket alone, some with the stock polling start. */
async function connect(count: number): Promise<void> {
  const auth = { token: await token() };
  for (let n = 0; n < count; n += 1) {
    clients.push(new Client(port, auth, n % 2 === 0 ? {} : { transports: ['polling', 'websocket'] }));
  }
  await Promise.all(clients.map((client) => client.live()));
}

function send(text: string): Socket {
  const socket = openConnection(port, '127.0.0.1', () => socket.write(text));
  socket.on('error', () => undefined);
  return socket.resume();
}

async function metric(name: string): Promise<number> {
  const { text } = await ask('/metrics');
  const line = text.split('\n').find((candidate) => candidate.startsWith(`${name} `));
  return Number(line?.split(' ')[1] ?? 0);
}

/** Pids of the workers, from the system: they are the children of the first process. */
async function workers(): Promise<number[]> {
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

test('clients of both transports connect to either process, and hear everything in order', async () => {
  await connect(12);
  await tell();
  for (const client of clients) await client.hears(told);
  const upgraded = () => clients.every(({ socket }) => socket.io.engine.transport.name === 'websocket');
  await until('those that began with polling are upgraded', upgraded);
  for (let n = 0; n < 20; n += 1) await tell();
  for (const client of clients) expect(await client.hears(told)).toEqual(everything());
  // Both have clients: with one only, the sums below would say nothing.
  expect(await workers()).toHaveLength(PROCESSES);
});

test('a client that stays with polling reaches its process with every request', async () => {
  clients = [new Client(port, { token: await token() }, { transports: ['polling'] })];
  await connect(0);
  for (let n = 0; n < 20; n += 1) await tell();
  expect(await clients[0]!.hears(told)).toEqual(everything());
  expect(clients[0]!.disconnects).toEqual([]);
});

test('clients that begin with polling at the same moment all find their sessions again', async () => {
  const opening = `http://127.0.0.1:${port}/socket.io/?EIO=4&transport=polling`;
  const answers = Array.from({ length: 4 * PROCESSES }, async () => {
    const { sid } = JSON.parse((await (await fetch(opening)).text()).slice(1)) as { sid: string };
    return (await fetch(`${opening}&sid=${sid}`, { method: 'POST', body: '1' })).text();
  });
  expect(await Promise.all(answers)).toEqual(answers.map(() => 'ok'));
});

test('a ticket of one process is good in all of them, once', async () => {
  const authorization = `Bearer ${await token()}`;
  for (let n = 0; n < 2 * PROCESSES; n += 1) {
    const events = `http://127.0.0.1:${port}/events`;
    const given = await fetch(`${events}/ticket`, { method: 'POST', headers: { authorization } });
    const { ticket } = (await given.json()) as { ticket: string };
    const stop = new AbortController();
    // Held open, so that the next connection leads to another process.
    const stream = await fetch(`${events}?ticket=${ticket}`, { signal: stop.signal });
    const again = await fetch(`${events}?ticket=${ticket}`);
    expect([given.status, stream.status, again.status]).toEqual([201, 200, 401]);
    stopping.push(stop);
  }
});

test('metrics are those of all processes together, whoever answers', async () => {
  await connect(8);
  const before = await metric('recado_deliveries_total');
  await tell();
  for (const client of clients) await client.hears(told);
  for (let asked = 0; asked < 4; asked += 1) {
    await until('the sockets are summed', async () => (await metric('recado_sockets')) === 8);
    await until('all listen', async () => (await metric('recado_listening')) === 1);
    expect(await metric('nodejs_eventloop_lag_p99_seconds')).toBeGreaterThan(0);
    await until(
      'the deliveries are summed',
      async () => (await metric('recado_deliveries_total')) === before + 8,
    );
  }
});

test('trace asks all processes, whichever answers', async () => {
  await connect(8);
  await until('the clients of earlier tests are gone', async () => (await metric('recado_sockets')) === 8);
  await tell();
  const events = await database.query<{ id: string }>('select max(id)::text as id from relay.events');
  const env = { DATABASE_URL: database.url, OPERATOR_TOKEN, PORT: String(port) };
  const emitted = async () => {
    const { stdout } = await recado(['trace', events[0]!.id], env);
    return [...stdout.matchAll(/^emitted .* (\d+) live sockets .*process (\d+)\)$/gm)];
  };
  await until('all have emitted it', async () => (await emitted()).length === PROCESSES);
  const lines = await emitted();
  expect(lines.map(([, , pid]) => Number(pid)).sort()).toEqual((await workers()).sort());
  expect(lines.reduce((sum, [, sockets]) => sum + Number(sockets), 0)).toBe(8);
});

test('SIGUSR2 switches all processes to debug, and back', async () => {
  const said = (what: string) => log.filter((line) => line.includes(what)).length;
  await connect(PROCESSES);
  expect(said('"client_came"')).toBe(0);
  first.kill('SIGUSR2');
  const debugging = async () => {
    await connect(1);
    return said('"client_came"') >= PROCESSES;
  };
  await until('clients are said', debugging);
  first.kill('SIGUSR2');
  await until('the level is back', () => said('"lowest":"info"') === 1);
});

test('the first process reads the database for all', async () => {
  await connect(6);
  await tell();
  for (const client of clients) await client.hears(told);
  const readers = await database.query(
    `select application_name as name, count(*)::int as sessions from pg_stat_activity
      where datname = current_database() and application_name in ('recado feed', 'recado wakeup') group by 1 order by 1`,
  );
  expect(readers).toEqual([
    { name: 'recado feed', sessions: 1 },
    { name: 'recado wakeup', sessions: 1 },
  ]);
  await until('all take what it reads', async () => (await metric('recado_edge_streaming')) === 1);
});

test('while the first process is frozen the workers read the database', async () => {
  const auth = { token: await token() };
  for (let n = 0; n < 6; n += 1) clients.push(new Client(port, auth));
  await connect(0);
  first.kill('SIGSTOP');
  try {
    await tell();
    for (const client of clients) expect(await client.hears(told)).toEqual(everything());
  } finally {
    first.kill('SIGCONT');
  }
  await until('they take what it reads', async () => (await metric('recado_edge_streaming')) === 1);
  await tell();
  for (const client of clients) expect(await client.hears(told)).toEqual(everything());
  for (const client of clients) expect(client.of('relay:resync')).toEqual([]);
});

test('a worker that is killed is replaced, and its clients go on where they were', async () => {
  await connect(8);
  await tell();
  for (const client of clients) await client.hears(told);
  const before = await workers();
  process.kill(before[0]!, 'SIGKILL');
  await tell();
  await until('all processes are ready again', async () => {
    const now = await workers();
    return now.length === PROCESSES && !now.includes(before[0]!) && (await ask('/readyz')).status === 200;
  });
  await tell();
  await until('those it had are back', () => clients.every(({ socket }) => socket.connected));
  for (const client of clients) expect(await client.hears(told)).toEqual(everything());
  const returned = clients.filter(({ connects }) => connects.length > 1);
  expect(returned.length).toBeGreaterThan(0);
  for (const { connects } of returned) expect(connects.at(-1)!.recovered).toBe(true);
  for (const client of clients) expect(client.of('relay:resync')).toEqual([]);
});

test('a restart: no client is taken before a process can have it, so all are back without a time-out', async () => {
  await connect(30);
  await tell();
  for (const client of clients) await client.hears(told);
  first.kill('SIGTERM');
  await gone;
  await tell();
  start();
  await until('all are back', () => clients.every(({ socket }) => socket.connected), 60_000);
  const attempts = clients.flatMap(({ refusals }) => refusals.map(({ message }) => message));
  expect(attempts.filter((message) => message === 'timeout')).toEqual([]);
  for (const client of clients) expect(await client.hears(told)).toEqual(everything());
  for (const client of clients) expect(client.of('relay:resync')).toEqual([]);
}, 90_000);

test('readiness is that of all: it is refused while one process is missing', async () => {
  const before = await workers();
  process.kill(before[0]!, 'SIGKILL');
  await until('it is refused', async () => (await ask('/readyz')).status === 503);
  await until('it is granted', async () => (await ask('/readyz')).status === 200, 60_000);
});

test('a connection on its way to a worker that ends is closed', async () => {
  const pids = await workers();
  // None of them takes what it is handed.
  for (const pid of pids) process.kill(pid, 'SIGSTOP');
  const requests = Array.from({ length: 2 * PROCESSES }, () =>
    send('GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n'),
  );
  await until('all are sent', () => requests.every(({ bytesWritten }) => bytesWritten > 0));
  // The first process refuses this one itself, after it has read the others.
  const refused = send('GET /events HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n');
  await until('they are handed over', () => refused.closed);
  for (const pid of pids) process.kill(pid, 'SIGKILL');
  await until('they are closed', () => requests.every(({ closed }) => closed));
});

test('SIGTERM ends the first process and its workers, with exit code 0', async () => {
  await connect(4);
  const pids = await workers();
  first.kill('SIGTERM');
  expect(await gone).toEqual([0, null]);
  for (const pid of pids) expect(() => process.kill(pid, 0)).toThrow('ESRCH');
});
