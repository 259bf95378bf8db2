// SIGKILL in the middle of a burst, and Evolution restarted meanwhile: afterwards everything is there, once.
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { type EvolutionServer, startEvolutionServer } from '../../evolution/demo/server.ts';
import { until } from '../world.ts';
import { endSessionsOfTheKilled, startWorld, type World } from './world.ts';

const BURST = 10_000;

let world: World;
let evolution: EvolutionServer;
const children: ChildProcess[] = [];
let output = '';

beforeAll(async () => {
  world = await startWorld();
  evolution = await startEvolutionServer();
});
afterAll(async () => {
  const ended = children
    .filter(({ exitCode, signalCode }) => exitCode === null && signalCode === null)
    .map((child) => once(child, 'exit'));
  for (const child of children) child.kill('SIGKILL');
  await Promise.all(ended);
  await evolution.close();
  await endSessionsOfTheKilled(world);
  await world.close();
});

function startWorker(): ChildProcess {
  const root = join(import.meta.dirname, '..', '..', '..');
  const child = spawn(
    process.execPath,
    ['--import', 'tsx', join(root, 'relay/test/evolution/process.ts'), world.url],
    { cwd: root, stdio: ['ignore', 'pipe', 'pipe'] },
  );
  child.stdout?.on('data', (data) => {
    output += String(data);
  });
  child.stderr?.on('data', (data) => {
    output += String(data);
  });
  children.push(child);
  return child;
}

const count = async () =>
  (await world.rows<{ n: number }>('select count(*)::int as n from evolution.messages'))[0]!.n;
const status = async () =>
  (await world.rows<{ status: string }>('select status from evolution.instances'))[0]!.status;

test('10,000 messages, a killed worker, a restarted server', async () => {
  const fake = evolution.add('demo');
  const first = startWorker();
  await world.rows(
    'insert into evolution.instances (name, "tenantId", host, "apiKey") values ($1, $2, $3, $4)',
    ['demo', 't', evolution.url, fake.token],
  );
  await until('it waits for the server', async () => (await status()) === 'waiting', 90_000);
  fake.emit('connection.update', { instance: 'demo', state: 'open' });
  await until('it is connected', async () => (await status()) === 'connected', 90_000);

  const lock = await world.pool.connect();
  const now = Math.floor(Date.now() / 1000);
  for (let i = 0; i < BURST; i++) {
    fake.message({
      jid: `55119${String(90_000_000 + (i % 200))}@s.whatsapp.net`,
      text: `mensagem ${i}`,
      pushName: `Pessoa ${i % 200}`,
      messageTimestamp: now + Math.floor(i / 100),
    });
    if (i % 250 === 0) await new Promise((resolve) => setImmediate(resolve));
    if (i === 1_500) {
      await until('a message is stored', async () => (await count()) > 0, 90_000);
      // From here on the worker writes nothing.
      await lock.query('begin; lock table evolution.messages in exclusive mode');
    }
    if (i === 3_000) {
      first.kill('SIGKILL');
      await once(first, 'exit');
      await lock.query('commit');
      expect(await count()).toBeLessThan(3_001);
    }
    if (i === 6_000) await evolution.restart(50);
  }
  lock.release();
  startWorker();
  await until('the burst is stored', async () => (await count()) >= BURST, 90_000);
  fake.message({ text: 'depois de tudo', jid: '5511900000001@s.whatsapp.net' });
  await until('the message after it is stored', async () => (await count()) > BURST, 90_000);

  expect(await count()).toBe(BURST + 1);
  const [once_] = await world.rows(
    `select count(*)::int as events, count(distinct payload -> 'message' ->> 'whatsappMessageId')::int as messages from relay.events where event = 'chat:message'`,
  );
  expect(once_).toEqual({ events: BURST + 1, messages: BURST + 1 });
  const chats = await world.rows<{ unreadCount: number }>(
    `select distinct "unreadCount" from evolution.chats where "contactName" like 'Pessoa %'`,
  );
  expect(chats).toEqual([{ unreadCount: BURST / 200 }]);
  expect(output).not.toContain(fake.token);
}, 240_000);
