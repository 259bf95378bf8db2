// What a node reads at its start is bounded by what it is as JSON, not by what is stored: 600 MiB take seven there.
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { packageRoot } from '../../package.ts';
import { Client, deadPort, freshDatabase, SECRET, token, until } from '../world.ts';

const LARGEST = 4 * 1024 * 1024;
const EVENTS = 150;
const HEAP_MIB = 512;

let node: ChildProcess | undefined;
let gone: Promise<unknown[]>;

afterEach(async () => {
  if (node?.exitCode === null && node.signalCode === null) node.kill('SIGTERM');
  await gone;
});

test('more large events than the heap holds, all of them compressed: a node starts and serves', async () => {
  const database = await freshDatabase();
  await database.query(`select relay.publish('note')`);
  // One is compressed, the others are copies of it as it is stored.
  await database.query(
    `insert into relay.events (account_id, event, payload) values ('acc-1', 'note', to_jsonb(repeat('x', $1::int - 100)))`,
    [LARGEST],
  );
  await database.query(
    `insert into relay.events (account_id, event, payload)
     select account_id, event, payload from relay.events, generate_series(2, $1::int)`,
    [EVENTS],
  );
  const [stored] = await database.query<{ bytes: number }>(
    'select sum(pg_column_size(payload))::int as bytes from relay.events',
  );
  expect(stored!.bytes).toBeLessThan(16 * 1024 * 1024);
  expect(EVENTS * (LARGEST - 100)).toBeGreaterThan(HEAP_MIB * 1024 * 1024);

  const port = await deadPort();
  node = spawn(process.execPath, [join(packageRoot, 'dist/relay/main.js'), 'relay'], {
    env: {
      PATH: process.env.PATH,
      NODE_OPTIONS: `--max-old-space-size=${HEAP_MIB}`,
      DATABASE_URL: database.url,
      JWT_SECRET: SECRET,
      HOST: '127.0.0.1',
      PORT: String(port),
    },
    stdio: 'ignore',
  });
  gone = once(node, 'exit');
  const isReady = () =>
    fetch(`http://127.0.0.1:${port}/readyz`).then(
      ({ ok }) => ok,
      () => false,
    );
  const ended = gone.then(([code, signal]) => {
    throw new Error(`The node ended with ${String(signal ?? code)} before it was ready.`);
  });
  await Promise.race([until('the node is ready', isReady, 60_000), ended]);
  ended.catch(() => undefined);

  const client = await new Client(port, { token: await token() }).live();
  await database.query(`select relay.emit('acc-1', 'note', '"served"')`);
  await until('the client hears what comes next', () => client.payloads.includes('served'));
  client.close();
  node.kill('SIGTERM');
  await gone;
  await database.close();
}, 120_000);
