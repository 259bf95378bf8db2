// One account writes a million events in one transaction, beside a hundred accounts that go on. What it costs the others.
// It ends with 1 where a bound is broken: the others' p99 and every greeting under a second, memory under 400 MiB, the
// large account complete and in order within three minutes.
//
//   npm run build && npx tsx scripts/bench/large.ts [events]
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import { io, type Socket } from 'socket.io-client';
import { signToken } from '../../relay/auth/sign.ts';
import { startEmbedded } from '../../relay/db/embedded.ts';
import { migrate } from '../../relay/install/migrate.ts';
import { createLog } from '../../relay/log.ts';
import { packageRoot } from '../../relay/package.ts';

const EVENTS = Number(process.argv[2] ?? 1_000_000);
const ACCOUNTS = 100;
const PER_SECOND = 20;
const MOST_MS = 1_000;
const MOST_MIB = 400;
const COMPLETE_WITHIN_MS = 180_000;
const SECRET = 'a secret of the benchmark, of 32 bytes at least';
const say = (line: string) => process.stdout.write(`${line}\n`);

function percentile(values: number[], part: number): number {
  return values.sort((a, b) => a - b)[Math.min(values.length - 1, Math.floor(values.length * part))] ?? 0;
}

async function connect(port: number, account: string): Promise<{ socket: Socket; greeted: number }> {
  const token = await signToken({ secret: SECRET, accountId: account, claim: 'accountId', expiresIn: 3_600 });
  const began = performance.now();
  const socket = io(`http://127.0.0.1:${port}`, {
    transports: ['websocket'],
    auth: { token },
    forceNew: true,
  });
  await new Promise<void>((resolve) => socket.once('relay:ready', () => resolve()));
  return { socket, greeted: performance.now() - began };
}

async function residentMiB(node: ChildProcess): Promise<number> {
  const status = await readFile(`/proc/${node.pid}/status`, 'utf8');
  return Number(/VmRSS:\s+(\d+)/.exec(status)?.[1]) / 1024;
}

const dataDir = mkdtempSync(join(tmpdir(), 'recado-large-'));
const postgres = await startEmbedded({ dataDir, settings: { fsync: 'off' } });
await migrate({ databaseUrl: postgres.url, log: createLog('warn', false) });
const pool = new pg.Pool({ connectionString: postgres.url, max: 4 });
await pool.query(`select relay.publish('tick'), relay.publish('bulk')`);
const port = 20_000 + (process.pid % 20_000);
const node = spawn(process.execPath, ['dist/relay/main.js', 'relay'], {
  cwd: packageRoot,
  env: {
    ...process.env,
    DATABASE_URL: postgres.url,
    JWT_SECRET: SECRET,
    PORT: String(port),
    HOST: '127.0.0.1',
    LOG_LEVEL: 'warn',
  },
  stdio: ['ignore', 'inherit', 'inherit'],
});
try {
  for (;;) {
    const isReady = await fetch(`http://127.0.0.1:${port}/readyz`).then(
      ({ ok }) => ok,
      () => false,
    );
    if (isReady) break;
    await sleep(50);
  }
  const latencies: number[] = [];
  const sockets: Socket[] = [];
  for (let n = 0; n < ACCOUNTS; n += 1) {
    const { socket } = await connect(port, `small-${n}`);
    socket.on('tick', (at: number) => latencies.push(Date.now() - at));
    sockets.push(socket);
  }
  const large = (await connect(port, 'large')).socket;
  sockets.push(large);
  let next = 1;
  let disorder = 0;
  const complete = new Promise<void>((resolve) =>
    large.on('bulk', (n: number) => {
      if (n !== next) disorder += 1;
      next = n + 1;
      if (n === EVENTS) resolve();
    }),
  );
  let ticks = 0;
  let done = false;
  const ticking = (async () => {
    while (!done) {
      await pool.query('select relay.emit($1, $2, to_jsonb($3::bigint))', [
        `small-${ticks % ACCOUNTS}`,
        'tick',
        Date.now(),
      ]);
      ticks += 1;
      await sleep(1_000 / PER_SECOND);
    }
  })();
  const greetings: number[] = [];
  let peak = 0;
  const visiting = (async () => {
    while (!done) {
      const { socket, greeted } = await connect(port, `visitor-${greetings.length}`);
      greetings.push(greeted);
      socket.close();
      peak = Math.max(peak, await residentMiB(node));
      await sleep(250);
    }
  })();
  await sleep(2_000);
  const idle = await residentMiB(node);
  const began = performance.now();
  await pool.query(
    `insert into relay.events (account_id, event, payload) select 'large', 'bulk', to_jsonb(n) from generate_series(1, $1::int) as n`,
    [EVENTS],
  );
  const committed = performance.now();
  const impatience = new AbortController();
  await Promise.race([
    complete,
    sleep(COMPLETE_WITHIN_MS, undefined, { signal: impatience.signal }).then(() => {
      throw new Error(`Not complete within ${COMPLETE_WITHIN_MS} ms: ${next - 1} of ${EVENTS} heard.`);
    }),
  ]);
  impatience.abort();
  const heard = performance.now();
  await sleep(2_000);
  done = true;
  await Promise.all([ticking, visiting]);
  say(`events of the large transaction      ${EVENTS}`);
  say(`its commit took                      ${((committed - began) / 1000).toFixed(1)} s`);
  say(
    `heard by its account after that      ${((heard - committed) / 1000).toFixed(1)} s, out of order ${disorder}`,
  );
  say(`events of the others                 ${latencies.length} of ${ticks}`);
  say(
    `their latency p50, p99, longest      ${percentile(latencies, 0.5)}, ${percentile(latencies, 0.99)}, ${percentile(latencies, 1)} ms`,
  );
  say(
    `new clients greeted, p50 and longest ${percentile(greetings, 0.5).toFixed(0)}, ${percentile(greetings, 1).toFixed(0)} ms`,
  );
  say(`memory of the node, idle and peak    ${idle.toFixed(0)}, ${peak.toFixed(0)} MiB`);
  const broken = [
    percentile(latencies, 0.99) >= MOST_MS && "the others' p99",
    latencies.length < ticks && 'events of the others are missing',
    percentile(greetings, 1) >= MOST_MS && 'greetings',
    peak >= MOST_MIB && 'memory',
    disorder > 0 && 'order',
  ].filter(Boolean);
  if (broken.length > 0) {
    say(`bounds that are broken: ${broken.join(', ')}`);
    process.exitCode = 1;
  }
  for (const socket of sockets) socket.close();
} finally {
  const ended = once(node, 'exit');
  node.kill('SIGTERM');
  await ended;
  await pool.end();
  await postgres.stop('immediate');
  rmSync(dataDir, { recursive: true, force: true });
}
