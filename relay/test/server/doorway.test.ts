// What a client can do to the process that hands out connections (RELAY_PROCESSES), and to a worker that is handed one.
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import { connect, type Socket } from 'node:net';
import { join } from 'node:path';
import { packageRoot } from '../../package.ts';
import { openPolling } from '../transport/hostile.ts';
import { Client, type Database, deadPort, freshDatabase, SECRET, token, until } from '../world.ts';

/** Connections without a token that one address may have at a time, in each process. */
const MOST = 200;

/** Makes a worker close its channel before it exits, as each does for a moment when it ends. */
const CLOSES_ITS_CHANNEL = `
  import cluster from 'node:cluster';
  process.on('SIGWINCH', () => {
    if (!cluster.worker) return;
    cluster.worker.exitedAfterDisconnect = true;
    process.disconnect();
  });`;

let database: Database;
let first: ChildProcess;
let port: number;
const sockets: Socket[] = [];

beforeAll(async () => {
  database = await freshDatabase();
  port = await deadPort();
  first = spawn(process.execPath, [join(packageRoot, 'dist/relay/main.js'), 'relay'], {
    env: {
      ...process.env,
      DATABASE_URL: database.url,
      JWT_SECRET: SECRET,
      HOST: '127.0.0.1',
      PORT: String(port),
      RELAY_PROCESSES: '2',
      CONNECTIONS_PER_ADDRESS: String(MOST),
      NODE_OPTIONS: `--import data:text/javascript,${encodeURIComponent(CLOSES_ITS_CHANNEL)}`,
    },
    stdio: 'ignore',
  });
  const ready = () =>
    fetch(`http://127.0.0.1:${port}/readyz`).then(
      ({ ok }) => ok,
      () => false,
    );
  await until('both are ready', ready, 60_000);
}, 70_000);

afterAll(async () => {
  for (const socket of sockets) socket.destroy();
  if (first.exitCode === null) {
    first.kill('SIGTERM');
    await once(first, 'exit');
  }
  await database.close();
});

function open(head = ''): Socket {
  const socket = connect(port, '127.0.0.1');
  socket.setNoDelay(true);
  socket.on('error', () => undefined);
  socket.resume();
  if (head !== '') socket.write(head);
  sockets.push(socket);
  return socket;
}

async function megabytes(): Promise<number> {
  const status = await readFile(`/proc/${first.pid}/status`, 'utf8');
  return Number(/VmRSS:\s+(\d+)/.exec(status)![1]) / 1024;
}

test.each(['Content-Length: 10000000000', 'Transfer-Encoding: chunked'])(
  'a body without end (%s) is cut off, and not kept',
  async (header) => {
    const before = await megabytes();
    const chunk = Buffer.alloc(64 * 1024, 'fff\r\n');
    for (let n = 0; n < 8; n += 1) {
      const socket = open(
        `POST /socket.io/?EIO=4&transport=polling HTTP/1.1\r\nHost: x\r\n${header}\r\n\r\n`,
      );
      let written = 0;
      while (!socket.closed && written < 100e6) {
        written += chunk.length;
        if (socket.write(chunk)) continue;
        await new Promise((resolve) => socket.once('drain', resolve).once('close', resolve));
      }
      await until('it is closed', () => socket.closed);
    }
    expect((await megabytes()) - before).toBeLessThan(100);
  },
  60_000,
);

test('what says nothing, or stops in its headers or its body, is closed', async () => {
  // Of a session that is there: its body is read.
  const { pathname, search } = new URL(await openPolling(port));
  const post = `POST ${pathname}${search} HTTP/1.1\r\nHost: x\r\nContent-Length: 60000\r\n`;
  const slow = [
    open(),
    open('GET /healthz HTTP/1.1\r\nHost: x\r\n'),
    open(post),
    open(`${post}\r\nhalf a body`),
  ];
  const dripping = setInterval(() => {
    slow[1]!.write('A: b\r\n');
    slow[2]!.write('A: b\r\n');
    slow[3]!.write('x');
  }, 1_000);
  try {
    await until('they are closed', () => slow.every(({ closed }) => closed), 50_000);
  } finally {
    clearInterval(dripping);
  }
}, 60_000);

test.each([
  'GET /events HTTP/1.1\r\n',
  'GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n',
])('a long-lived request with a body is closed, as the first process would keep it: %j', async (head) => {
  const socket = open(`${head}Host: x\r\nContent-Length: 0\r\n\r\n`);
  await until('it is closed', () => socket.closed);
});

test('requests in many pieces, many at a time, are answered once each', async () => {
  const answers = Array.from({ length: 100 }, async () => {
    const socket = open();
    let answer = '';
    socket.on('data', (data) => {
      answer += data;
    });
    for (const piece of ['GET /hea', 'lthz HTTP/1.1\r\n', 'Host: x\r\n', '\r\n']) {
      socket.write(piece);
      await new Promise(setImmediate);
    }
    await once(socket, 'close');
    return answer.slice(0, 12);
  });
  expect(new Set(await Promise.all(answers))).toEqual(new Set(['HTTP/1.1 200']));
});

test('requests with a body leave nothing behind: one address may send as many as it likes', async () => {
  const url = `http://127.0.0.1:${port}/socket.io/?EIO=4&transport=polling&sid=unknown`;
  let sent = 0;
  const statuses = new Set<number>();
  const send = async () => {
    while (sent < 3 * MOST) {
      sent += 1;
      statuses.add((await fetch(url, { method: 'POST', body: '2' })).status);
    }
  };
  await Promise.all(Array.from({ length: 10 }, send));
  expect([...statuses]).toEqual([400]);
});

test('honest clients are still served, over either transport', async () => {
  for (const transports of [['polling'], ['websocket'], ['polling', 'websocket']]) {
    const client = new Client(port, { token: await token() }, { transports });
    await client.live();
    client.close();
  }
});

test('the first process survives a client that leaves mid-request when no worker can be reached', async () => {
  const { pathname, search } = new URL(await openPolling(port));
  const leaving = open(`POST ${pathname}${search} HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n`);
  await once(leaving, 'connect');
  // Answered behind it.
  expect((await fetch(`http://127.0.0.1:${port}/healthz`)).status).toBe(200);
  const pids = (await readFile(`/proc/${first.pid}/task/${first.pid}/children`, 'utf8')).trim().split(' ');
  for (const pid of pids) process.kill(Number(pid), 'SIGWINCH');
  const isClosed = () =>
    fetch(`http://127.0.0.1:${port}/healthz`, { signal: AbortSignal.timeout(200) }).then(
      () => false,
      () => true,
    );
  await until('no worker can be reached', isClosed);
  leaving.resetAndDestroy();
  // The first process hears of it before it takes the next connection.
  await isClosed();
  await new Promise(setImmediate);
  expect([first.exitCode, first.signalCode]).toEqual([null, null]);
});
