// The long scenario: writers write, clients listen, faults happen; then everything is healed, everybody hears the
// end, and what each page saw is compared with what committed.
import { setTimeout as sleep } from 'node:timers/promises';
import { until } from '../world.ts';
import { Chance } from './chance.ts';
import { Client, KINDS } from './clients.ts';
import { type Fault, runSchedule, type World } from './faults.ts';
import { Ledger, type Outcome } from './ledger.ts';
import { Link } from './links.ts';
import { markEnd } from './marks.ts';
import type { RelayNode } from './nodes.ts';
import {
  compareLedger,
  compareViewing,
  type Figure,
  figuresOf,
  readCommitted,
  type Verdict,
} from './report.ts';
import { ACCOUNTS } from './server.ts';
import type { Stage } from './stage.ts';
import { Writers } from './writers.ts';

const WRITERS = 8;
/** The smallest allowed, so that clients that do not read are sent away. */
const CLIENT_BUFFER_BYTES = '4160KiB';

export interface OracleOptions {
  seed: number;
  seconds: number;
  schedule: readonly Fault[];
  say: (line: string) => void;
}

/** @returns the figures, and the world as it is afterwards: healed, with every page open */
export async function runOracle(
  stage: Stage,
  options: OracleOptions,
  verdict: Verdict,
): Promise<{ figures: Figure[]; world: World }> {
  const { seed, seconds, schedule, say } = options;
  const ledger = new Ledger();
  const world = await buildWorld(stage, seed, ledger);
  const { server, clients, nodes, writers } = world;

  writers.start();
  const began = Date.now();
  await runSchedule(schedule, seed, world, say);
  await sleep(Math.max(0, began + seconds * 1_000 - Date.now()));
  await writers.stop();
  say('writers stopped, waiting for the clients');
  const caughtUpMs = await waitForEnd(world, verdict);
  // What comes twice comes late.
  await sleep(1_000);

  const committed = await readCommitted(server, verdict);
  compareLedger(ledger, committed, verdict);
  for (const { viewings, figures, name } of clients) {
    for (const viewing of viewings) compareViewing(viewing, committed, ledger, verdict);
    for (const [reason, count] of figures.resyncs) {
      for (let i = 0; i < count; i += 1) verdict.add('resyncs', `${name} was told to refetch: ${reason}`);
    }
    figures.resyncs.clear();
  }
  for (const { complaints } of nodes) for (const text of complaints) verdict.add('complaints', text);

  const outcomes = (outcome: Outcome) =>
    ledger.transactions.filter((transaction) => transaction.outcome === outcome).length;
  const figures: Figure[] = [
    ...countFaults(schedule),
    ['transactions committed', outcomes('committed')],
    ['  rolled back', outcomes('rolled back')],
    ['  outcome unknown', outcomes('unknown')],
    ['events', committed.size],
    ...figuresOf(clients),
    ...(await countSayings(nodes)),
    ['caught up after the end', `${caughtUpMs} ms`],
  ];
  return { figures, world };
}

async function buildWorld(stage: Stage, seed: number, ledger: Ledger): Promise<World> {
  const { server } = stage;
  const nodes = await Promise.all([
    stage.startNode('a', { CLIENT_BUFFER_BYTES }),
    // A window that is soon too small, so that clients of this one are served from the table.
    stage.startNode('b', { CLIENT_BUFFER_BYTES, WINDOW_EVENTS: '300' }),
  ]);
  const clients: Client[] = [];
  for (const [index, account] of ACCOUNTS.entries()) {
    for (const [place, kind] of KINDS.entries()) {
      if (kind === 'polling' && index > 1) continue;
      const link = await Link.to(nodes[(index + place) % nodes.length]!.port);
      clients.push(new Client(account, kind, link, server));
    }
  }
  await Promise.all(clients.map((client) => client.open()));
  const writers = new Writers(WRITERS, server.url, ACCOUNTS, ledger, (name) => new Chance(seed, name));
  return { server, nodes, clients, writers };
}

/** @returns after how many milliseconds the last client had heard the end */
async function waitForEnd({ server, clients }: World, verdict: Verdict): Promise<number> {
  const marks = await markEnd(server, ACCOUNTS);
  const began = Date.now();
  const isThere = (client: Client) => client.hasHeard(marks.get(client.account)!);
  await until('every client heard the end', () => clients.every(isThere), 60_000).catch(() => {
    const absent = clients.filter((client) => !isThere(client));
    const named = `${absent.length} clients, ${absent[0]?.name} among them,`;
    verdict.add('complaints', `after a minute ${named} had not heard the end`);
  });
  return Date.now() - began;
}

/** What the relays met with, as their logs have it: proof that the faults were felt. */
async function countSayings(nodes: readonly RelayNode[]): Promise<Figure[]> {
  const logs = await Promise.all(nodes.map((node) => node.sayings()));
  const count = (saying: string) => logs.reduce((total, sayings) => total + (sayings.get(saying) ?? 0), 0);
  return [
    ['relays started', count('process_starting')],
    ['  lost their database', count('feed_failed')],
    ['  closed the gate', count('gate_changed closed')],
    ['  ended a frozen holder of it', count('gate_holder_ended')],
    ['  sent a slow client away', count('socket_too_slow')],
    ['  put a client off', count('handshake_deferred')],
  ];
}

function countFaults(schedule: readonly Fault[]): Figure[] {
  const kinds = new Map<string, number>();
  for (const { kind } of schedule) kinds.set(kind, (kinds.get(kind) ?? 0) + 1);
  const lines = [...kinds].sort().map(([kind, count]): Figure => [`  ${kind}`, count]);
  return [['faults', schedule.length], ...lines];
}
