// SIGTERM, with real processes: not ready at once, clients sent away one after another, and an end.
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { connect as openConnection } from 'node:net';
import { join } from 'node:path';
import { packageRoot } from '../../package.ts';
import { sendAway } from '../../transport/drain.ts';
import { Client, type Database, deadPort, freshDatabase, SECRET, token, until } from '../world.ts';

const EVENT = 'drain.test';

let database: Database;
let clients: Client[] = [];
const processes: ChildProcess[] = [];

beforeAll(async () => {
  database = await freshDatabase();
  await database.query('select relay.publish(event => $1)', [EVENT]);
});

afterEach(() => {
  for (const client of clients) client.close();
});

afterAll(async () => {
  for (const child of processes) if (child.exitCode === null) child.kill('SIGKILL');
  await database.close();
});

async function start(env: Record<string, string>): Promise<{ child: ChildProcess; port: number }> {
  const port = await deadPort();
  const child = spawn(process.execPath, [join(packageRoot, 'dist/relay/main.js'), 'relay'], {
    env: {
      ...process.env,
      ...{ DATABASE_URL: database.url, JWT_SECRET: SECRET, HOST: '127.0.0.1', PORT: String(port) },
      ...env,
    },
    stdio: 'ignore',
  });
  processes.push(child);
  await until('it is ready', async () => (await statusOf(port)) === 200, 60_000);
  return { child, port };
}

async function statusOf(port: number): Promise<number> {
  return fetch(`http://127.0.0.1:${port}/readyz`, { headers: { connection: 'close' } }).then(
    ({ status }) => status,
    () => 0,
  );
}

/** Whether nobody listens, which is another thing than a connection that is closed at once. */
function isRefused(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = openConnection(port, '127.0.0.1', () => {
      resolve(false);
      socket.destroy();
    });
    socket.on('error', (error: NodeJS.ErrnoException) => resolve(error.code === 'ECONNREFUSED'));
  });
}

/** They do not come back, so that what is counted is who was sent away. */
async function connect(port: number, transports: ('polling' | 'websocket')[]): Promise<void> {
  const auth = { token: await token() };
  clients = transports.map((transport) => new Client(port, auth, { transports: [transport] }));
  await Promise.all(clients.map((client) => client.live()));
  for (const { socket } of clients) socket.io.reconnection(false);
}

/** A client of GET /events. */
async function openStream(
  port: number,
): Promise<{ hears(text: string): Promise<unknown>; readonly ended: boolean }> {
  const response = await fetch(`http://127.0.0.1:${port}/events`, {
    headers: { authorization: `Bearer ${await token()}` },
  });
  let heard = '';
  let ended = false;
  void (async () => {
    for await (const chunk of response.body!) heard += Buffer.from(chunk).toString();
    ended = true;
  })();
  return {
    hears: (text) => until(`a stream hears ${text}`, () => heard.includes(text)),
    get ended() {
      return ended;
    },
  };
}

const connected = () => clients.filter(({ socket }) => socket.connected);
const times = <T>(count: number, value: T): T[] => Array.from({ length: count }, () => value);

describe.each(['1', '2'])('SIGTERM with RELAY_PROCESSES=%s', (RELAY_PROCESSES) => {
  test('makes it unready at once: new clients are refused, and connected ones still hear events', async () => {
    const { child, port } = await start({ RELAY_PROCESSES, DRAIN_SECONDS: '120' });
    const ended = once(child, 'exit');
    await connect(port, [...times(20, 'polling' as const), ...times(20, 'websocket' as const)]);
    const stream = await openStream(port);
    child.kill('SIGTERM');
    await until('it is not ready', async () => (await statusOf(port)) === 503);
    const late = new Client(port, { token: await token() }, { transports: ['polling'], reconnection: false });
    await until('a newcomer is refused', () => late.refusals.length > 0);
    await until('the first are gone', () => connected().length < 40);
    const staying = connected();
    expect(staying.length).toBeGreaterThan(20);

    await database.query(`select relay.emit('acc-1', $1, '"still"')`, [EVENT]);
    for (const client of staying.slice(-3)) expect(await client.hears(1)).toEqual(['still']);
    // With two processes the stream may be alone in its process, and is then closed first.
    if (RELAY_PROCESSES === '1') await stream.hears('still');

    // A second signal waits for nobody.
    child.kill('SIGINT');
    expect(await ended).toEqual([0, null]);
    await until('all are gone', () => connected().length === 0 && stream.ended);
    // Not 'io server disconnect', after which a client would stay away. A poll may find the port closed.
    for (const client of clients) expect(client.disconnects.at(-1)).toMatch(/^transport (close|error)$/);
  }, 120_000);

  test('the port is closed as soon as nobody polls', async () => {
    const { child, port } = await start({ RELAY_PROCESSES, DRAIN_SECONDS: '120' });
    const ended = once(child, 'exit');
    await connect(port, ['websocket', 'polling', ...times(28, 'websocket' as const)]);

    child.kill('SIGTERM');
    await until('the port is closed', () => isRefused(port), 60_000);
    await until('the one that polls is gone', () => clients[1]!.socket.disconnected);
    expect(connected().length).toBeGreaterThan(15);
    child.kill('SIGINT');
    expect(await ended).toEqual([0, null]);
  }, 120_000);
});

test('by default a node with 40 clients ends by itself, and they are told to come back', async () => {
  const { child, port } = await start({});
  const ended = once(child, 'exit');
  await connect(port, [...times(20, 'polling' as const), ...times(20, 'websocket' as const)]);
  child.kill('SIGTERM');
  expect(await ended).toEqual([0, null]);
  await until('all are gone', () => connected().length === 0);
  for (const client of clients) expect(client.disconnects.at(-1)).toBe('transport close');
}, 120_000);

describe('sendAway', () => {
  interface Client {
    readonly name: string;
    readonly polls: boolean;
    close(): void;
  }
  const gone: string[] = [];
  let open: Client[] = [];
  const arrive = (name: string, polls: boolean) => {
    const client = {
      name,
      polls,
      close() {
        open = open.filter((other) => other !== client);
        gone.push(name);
      },
    };
    open.push(client);
  };

  beforeEach(() => {
    gone.length = 0;
    open = [];
  });

  test('never sends more than the share of the time that has passed, and those that poll first', async () => {
    for (let n = 0; n < 50; n += 1) arrive(n < 25 ? 'websocket' : 'polling', n >= 25);
    // Each look takes 20 ms, whatever the machine does meanwhile.
    let passed = 0;
    const { now } = performance;
    performance.now = () => passed;
    const counts: [number, number][] = [];
    const look = () => {
      counts.push([50 - open.length, passed]);
      passed += 20;
      return open;
    };
    try {
      await sendAway(look, 200, () => gone.push('port'));
    } finally {
      performance.now = now;
    }
    for (const [count, after] of counts) expect(count).toBeLessThanOrEqual((50 * after) / 200 + 1);
    expect(gone.filter((name) => name !== 'port')).toEqual([
      ...times(25, 'polling'),
      ...times(25, 'websocket'),
    ]);
    expect(gone.indexOf('port')).toBeGreaterThan(gone.lastIndexOf('polling'));
  });

  test('with no time at all, everybody at once', async () => {
    for (let n = 0; n < 50; n += 1) arrive('websocket', false);
    const done = sendAway(
      () => open,
      0,
      () => gone.push('port'),
    );
    expect(gone).toEqual(['port', ...times(50, 'websocket')]);
    await done;
  });

  test('waits for nobody where nobody is', async () => {
    await sendAway(
      () => [],
      3_600_000,
      () => gone.push('port'),
    );
    expect(gone).toEqual(['port']);
  });
});
