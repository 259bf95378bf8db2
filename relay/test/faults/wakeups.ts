// Nobody waits for a safety read: here it comes once a minute, so an event that nobody notified of is seen to be late.
// The hard case is a writer who looked at the gate while it was closed, and commits when it is open again.
import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import { until } from '../world.ts';
import { Client } from './clients.ts';
import { Link } from './links.ts';
import { type Machine, watchMachine } from './machine.ts';
import { markEnd } from './marks.ts';
import type { RelayNode } from './nodes.ts';
import type { Figure, Verdict } from './report.ts';
import type { Server } from './server.ts';
import type { Stage } from './stage.ts';

const ROUNDS = 3;
/** Unless the machine explains it. */
const LATE_MS = 1_000;
const ACCOUNT = '1';

export async function runWakeups(stage: Stage, verdict: Verdict): Promise<Figure[]> {
  const { server } = stage;
  const environment = { SAFETY_READ_MS: '60000' };
  const nodes = [await stage.startNode('c', environment), await stage.startNode('d', environment)];
  const machine = watchMachine([server, ...nodes]);
  const clients: Client[] = [];
  for (const node of nodes) {
    const client = new Client(await Link.to(node.port), {
      account: ACCOUNT,
      kind: 'websocket',
      databaseUrl: server.url,
      name: `client of relay ${node.name}`,
    });
    clients.push(client);
    await client.open();
  }
  let slowest = 0;
  for (let round = 1; round <= ROUNDS; round += 1) {
    const burst = startBurst(server);
    await until('the gate is closed', () => isClosed(nodes), 20_000);
    const held = await holdEvent(server, round);
    await burst.stop();
    await until('the gate is open', async () => !(await isClosed(nodes)), 20_000);
    await sleep(200);
    const before = clients.map(({ seenCount }) => seenCount);
    await held.commit();
    slowest = Math.max(
      slowest,
      await measure(clients, before, machine, verdict, 'of a writer who saw the gate closed'),
    );
    // The pace is over; from now on commits notify.
    await sleep(500);
    const quiet = clients.map(({ seenCount }) => seenCount);
    await markEnd(server, [ACCOUNT]);
    slowest = Math.max(
      slowest,
      await measure(clients, quiet, machine, verdict, 'after the gate was opened again'),
    );
  }
  for (const client of clients) client.close();
  machine.stop();
  return [
    ['rounds of the gate', ROUNDS],
    ['slowest of them', `${slowest} ms`],
  ];
}

/** @returns milliseconds until every client had heard one event more */
async function measure(
  clients: Client[],
  before: number[],
  machine: Machine,
  verdict: Verdict,
  which: string,
): Promise<number> {
  const began = Date.now();
  const heard = (client: Client) => client.seenCount > before[clients.indexOf(client)]!;
  await until('the event is heard', () => clients.every(heard), 10_000).catch(() => undefined);
  const heardAt = Date.now();
  const ms = heardAt - began;
  if (ms <= LATE_MS) return ms;
  await until('what the machine took is known', () => machine.knownUntil >= heardAt);
  const lost = machine.lostBetween(began, heardAt);
  if (ms - lost > LATE_MS) {
    const late = clients.filter((client) => !heard(client)).map(({ name }) => name);
    verdict.add(
      'late',
      `an event ${which} took more than ${ms} ms; the machine explains ${Math.round(lost)} of them${late.length > 0 ? `: ${late.join(', ')}` : ''}`,
    );
  }
  return ms;
}

async function isClosed(nodes: RelayNode[]): Promise<boolean> {
  const gates = await Promise.all(nodes.map((node) => node.metric('recado_gate_closed')));
  return gates.includes(1);
}

/** Short commits, as many as the machine can. They are another account's: nobody hears them. */
function startBurst(server: Server): { stop(): Promise<void> } {
  let stopping = false;
  const writers = Array.from({ length: 8 }, () =>
    server.use(async (session) => {
      while (!stopping) await session.query("select relay.emit('of nobody', 'app.said')");
    }),
  );
  return {
    async stop() {
      stopping = true;
      await Promise.all(writers);
    },
  };
}

async function holdEvent(server: Server, round: number): Promise<{ commit(): Promise<void> }> {
  const session = new pg.Client({ connectionString: server.url });
  await session.connect();
  await session.query('begin');
  await session.query(
    `select relay.emit($1, 'app.said', jsonb_build_object('row', $2::int, 'version', 1, 'stamp', 0))`,
    [ACCOUNT, 1_999_900 + round],
  );
  return {
    async commit() {
      await session.query('commit');
      await session.end();
    },
  };
}
