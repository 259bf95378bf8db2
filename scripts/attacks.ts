// npm run attacks: a bystander beside each attack that one client can make.
//
//   npm run attacks                                   each for 20 s, on one process and on three
//   npm run attacks -- --seconds 5 --only pings --processes 1
//
// The bystander is another account at another address, since connections without a token are limited for an address:
// live events at 20 a second, and a client that is cut off and resumes each second. Its 99th percentile, its slowest
// resume and the memory of the relay's processes above idle are printed. Attackers are processes of their own.
// Everything stays on this machine; exit code 1: a limit was missed.
import { type ChildProcess, fork, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdir, readFile } from 'node:fs/promises';
import { connect } from 'node:net';
import { setPriority } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { packageRoot } from '../relay/package.ts';
import { frame, openPolling, PING, RawSocket } from '../relay/test/transport/hostile.ts';
import { Client, deadPort, openDatabase, SECRET, token, until } from '../relay/test/world.ts';
import { openCluster } from './bench/cluster.ts';
import { peers } from './bench/peers.ts';

const say = (line: string) => process.stdout.write(`${line}\n`);
const LIMITS = { p99: 250, resume: 1_000, mebibytes: 200 };
const EVENT = 'attacks.bystander';
const HISTORY = 20_000;
const elsewhere = { transports: ['websocket'], localAddress: '127.0.0.2' };

const send = (raw: RawSocket, text: string, times: number) => raw.send(...Array(times).fill(text));
const opened = async (port: number) => {
  const raw = await RawSocket.open(port);
  await until('the session is open', () => raw.texts.length > 0 || raw.closed);
  return raw;
};

/** Each is begun again and again, several at a time. */
const ATTACKS: Record<string, { at: number; run: (port: number) => Promise<unknown> }> = {
  'CONNECTs in one request': {
    at: 4,
    async run(port) {
      await fetch(await openPolling(port), { method: 'POST', body: Array(21_000).fill('40').join('\x1e') });
    },
  },
  'CONNECTs over websockets': {
    at: 4,
    async run(port) {
      const raw = await opened(port);
      for (let n = 0; n < 20 && !raw.closed; n += 1) send(raw, `40/n${n},`, 1_000);
      await until('it is ended', () => raw.closed);
    },
  },
  'pings whose pongs are not read': {
    at: 8,
    async run(port) {
      const raw = await opened(port);
      raw.network.pause();
      const pings = Buffer.concat(Array(1_000).fill(frame(PING, Buffer.alloc(125))));
      for (let n = 0; n < 500 && !raw.closed; n += 1) {
        raw.network.write(pings);
        await delay(1);
      }
      raw.network.destroy();
    },
  },
  'auth:refresh': {
    at: 4,
    async run(port) {
      const raw = await opened(port);
      raw.send(`40${JSON.stringify({ token: await token('attacker') })}`);
      const refresh = `420["auth:refresh",${JSON.stringify(await token('attacker'))}]`;
      for (let n = 0; n < 50 && !raw.closed; n += 1) {
        send(raw, refresh, 100);
        await delay(10);
      }
      raw.network.destroy();
    },
  },
  replays: {
    at: 8,
    async run(port) {
      const client = new Client(port, { token: await token('attacker'), position }, { reconnection: false });
      await Promise.race([client.live().catch(() => undefined), delay(2_000)]);
      await delay(200);
      client.close();
    },
  },
  'bodies without end': {
    at: 8,
    async run(port) {
      const { pathname, search } = new URL(await openPolling(port));
      const socket = connect(port, '127.0.0.1').on('error', () => undefined);
      socket.write(`POST ${pathname}${search} HTTP/1.1\r\nHost: x\r\nContent-Length: 9999999999\r\n\r\n`);
      const chunk = Buffer.alloc(64 * 1024, 'x');
      socket.setMaxListeners(0);
      while (!socket.closed) {
        if (!socket.write(chunk)) await new Promise((go) => socket.once('drain', go).once('close', go));
      }
    },
  },
  'half headers': {
    at: 150,
    async run(port) {
      const socket = connect(port, '127.0.0.1').on('error', () => undefined);
      while (!socket.closed) {
        socket.write(socket.bytesWritten === 0 ? 'GET / HTTP/1.1\r\n' : 'A: b\r\n');
        await delay(1_000);
      }
    },
  },
  'forged tokens': {
    at: 16,
    async run(port) {
      const raw = await opened(port);
      raw.send(`40${JSON.stringify({ token: `${await token('attacker')}x` })}`);
      await until('it is answered', () => raw.texts.length > 1 || raw.closed);
      raw.network.destroy();
    },
  },
  'long positions': {
    at: 8,
    async run(port) {
      const auth = { token: await token('attacker'), position: `${position}${',1'.repeat(7_000)}` };
      const raw = await opened(port);
      raw.send(`40${JSON.stringify(auth)}`);
      await until('it is answered', () => raw.texts.length > 1 || raw.closed);
      raw.network.destroy();
    },
  },
};

const { values } = parseArgs({
  options: {
    seconds: { type: 'string', default: '20' },
    only: { type: 'string' },
    processes: { type: 'string', default: '1,3' },
    attack: { type: 'string' },
    port: { type: 'string' },
    position: { type: 'string', default: '' },
  },
});
const position = values.position;

async function attack(name: string, port: number): Promise<never> {
  setPriority(10);
  process.on('unhandledRejection', () => undefined);
  const { at, run } = ATTACKS[name]!;
  await Promise.all(
    Array.from({ length: at }, async () => {
      for (;;) await run(port).catch(() => delay(20));
    }),
  );
  throw new Error('an attack ends with its process');
}

async function startRelay(url: string, processes: string): Promise<{ relay: ChildProcess; port: number }> {
  const port = await deadPort();
  const relay = spawn(process.execPath, [join(packageRoot, 'dist/relay/main.js'), 'relay'], {
    env: {
      ...process.env,
      DATABASE_URL: url,
      JWT_SECRET: SECRET,
      HOST: '127.0.0.1',
      PORT: String(port),
      RELAY_PROCESSES: processes,
      LOG_LEVEL: 'error',
    },
    stdio: 'ignore',
  });
  const ready = () =>
    fetch(`http://127.0.0.1:${port}/readyz`).then(
      ({ ok }) => ok,
      () => false,
    );
  await until('the relay is ready', ready, 60_000);
  return { relay, port };
}

/** Of a process and its children. */
async function mebibytes(pid: number): Promise<number> {
  let kilobytes = 0;
  for (const entry of await readdir('/proc')) {
    if (!/^\d+$/.test(entry)) continue;
    const status = await readFile(`/proc/${entry}/status`, 'utf8').catch(() => '');
    const of = (name: string) => Number(new RegExp(`^${name}:\\s+(\\d+)`, 'm').exec(status)?.[1] ?? 0);
    if (of('Pid') === pid || of('PPid') === pid) kilobytes += of('VmRSS');
  }
  return kilobytes / 1_024;
}

async function main(): Promise<void> {
  const seconds = Number(values.seconds);
  const names = Object.keys(ATTACKS).filter((name) => !values.only || name.includes(values.only));
  const cluster = await openCluster(process.env.DATABASE_URL);
  const database = openDatabase(await cluster.database(peers.recado));
  let missed = 0;
  try {
    await database.query('select relay.publish(event => $1)', [EVENT]);
    say(`${cluster.about}; ${seconds} s each; limits: ${JSON.stringify(LIMITS)}\n`);
    for (const processes of values.processes.split(',')) {
      for (const name of ['nothing', ...names]) {
        const { relay, port } = await startRelay(database.url, processes);
        const reader = await new Client(port, { token: await token('attacker') }).live();
        const from = reader.offset!;
        reader.close();
        await database.query(
          'insert into relay.events (account_id, event, payload) select $1, $2, to_jsonb(n) from generate_series(1, $3::int) as n',
          ['attacker', EVENT, HISTORY],
        );
        const bystander = { token: await token('bystander') };
        const live = await new Client(port, bystander, elsewhere).live();
        const resuming = await new Client(port, bystander, elsewhere).live();
        const late: number[] = [];
        const resumes: number[] = [];
        live.socket.on(EVENT, (at: number) => late.push(performance.now() - at));
        await delay(2_000);
        const idle = await mebibytes(relay.pid!);
        const attacker =
          name === 'nothing'
            ? null
            : fork(import.meta.filename, ['--attack', name, '--port', String(port), '--position', from]);
        let most = 0;
        const until = performance.now() + seconds * 1_000;
        let cutAt: number | null = null;
        resuming.socket.on('connect', () => {
          if (cutAt !== null) resumes.push(performance.now() - cutAt);
          cutAt = null;
        });
        for (let tick = 0; performance.now() < until; tick += 1) {
          void database.query(
            'insert into relay.events (account_id, event, payload) values ($1, $2, to_jsonb($3::float8))',
            ['bystander', EVENT, performance.now()],
          );
          if (tick % 20 === 0) most = Math.max(most, await mebibytes(relay.pid!));
          if (tick % 20 === 10 && cutAt === null) {
            cutAt = performance.now();
            resuming.cut();
          }
          await delay(50);
        }
        if (cutAt !== null) resumes.push(performance.now() - cutAt);
        if (attacker) {
          attacker.kill('SIGKILL');
          await once(attacker, 'exit');
        }
        live.close();
        resuming.close();
        const ended = once(relay, 'exit');
        relay.kill('SIGTERM');
        await ended;
        late.sort((a, b) => a - b);
        const p99 = late[Math.floor(late.length * 0.99)] ?? Number.POSITIVE_INFINITY;
        const slowest = Math.max(...resumes);
        const isMet = p99 < LIMITS.p99 && slowest < LIMITS.resume && most - idle < LIMITS.mebibytes;
        if (!isMet) missed += 1;
        say(
          `${processes} process${processes === '1' ? '' : 'es'}  ${name.padEnd(32)} events ${String(late.length).padStart(4)}  p99 ${p99.toFixed(0).padStart(5)} ms  slowest resume ${slowest.toFixed(0).padStart(5)} ms (of ${resumes.length})  memory +${(most - idle).toFixed(0).padStart(4)} MiB${isMet ? '' : '  MISSED'}`,
        );
      }
    }
  } finally {
    await database.close();
    await cluster.close();
  }
  process.exitCode = missed > 0 ? 1 : 0;
}

await (values.attack === undefined ? main() : attack(values.attack, Number(values.port)));
