// The long scenario: writers write, clients listen, faults happen; then everything is healed, everybody hears the
// end, and what each page saw is compared with what committed.
import { setTimeout as sleep } from 'node:timers/promises';
import { until } from '../world.ts';
import { Chance } from './chance.ts';
import { Client } from './clients.ts';
import { compareLedger, compareViewing, readCommitted } from './compare.ts';
import { ACCOUNTS, BOOKS } from './database.ts';
import { Disturbances } from './disturbances.ts';
import { Lateness } from './lateness.ts';
import { Ledger, type Outcome } from './ledger.ts';
import { Link } from './links.ts';
import { watchMachine } from './machine.ts';
import { markEnd } from './marks.ts';
import type { RelayNode } from './nodes.ts';
import { OtherProcess } from './other-process.ts';
import { addComplaints, type Figure, figuresOf, type Verdict, type Witness } from './report.ts';
import { runSchedule, type Schedule } from './schedule.ts';
import type { Stage } from './stage.ts';
import { KINDS, type Viewing } from './viewing.ts';
import type { World } from './world.ts';
import { Writers } from './writers.ts';

const WRITERS = 8;
/** Events are kept for a minute; what was captured up to ten seconds before its commit is older than the position. */
const LEAST_AGE_MS = 50_000;
/** The smallest allowed, so that clients that do not read are sent away. */
const CLIENT_BUFFER_BYTES = '4160KiB';
/** More than a node of the run needs, and fewer than a fault opens. */
const FEW_DESCRIPTORS = 160;

export interface OracleOptions {
  seed: number;
  schedule: Schedule;
  /** Whether the nodes are edges. */
  hubs: boolean;
  say: (line: string) => void;
}

/** @returns the figures, and the world as it is afterwards: healed, with every page open */
export async function runOracle(
  stage: Stage,
  options: OracleOptions,
  verdict: Verdict,
): Promise<{ figures: Figure[]; world: World }> {
  const { seed, schedule, hubs, say } = options;
  const ledger = new Ledger();
  const world = await buildWorld(stage, seed, ledger, hubs);
  const { server, clients, nodes, writers } = world;
  const everyNode = [...nodes, ...(world.stream?.hubs ?? [])];
  const machine = watchMachine([...everyNode, server], world.others);

  writers.start();
  const { failed } = await runSchedule(schedule, seed, world, say);
  await writers.stop();
  say('writers stopped, waiting for the clients');
  const caughtUpMs = await waitForEnd(world, verdict);
  // What comes twice comes late.
  await sleep(1_000);
  machine.stop();

  const committed = await readCommitted(server);
  compareLedger(ledger, committed, verdict, world.undone);
  const distant = (await Promise.all(world.others.map(({ process }) => process.finish()))).flat();
  const witnesses: Witness[] = [...clients, ...distant];
  const refetches = sumRefetches(witnesses);
  const lateness = new Lateness(ledger, world.disturbances, machine);
  for (const { viewings, figures, name } of witnesses) {
    for (const viewing of viewings) {
      compareViewing(viewing, committed, ledger, verdict, world.undone);
      lateness.compare(viewing, verdict);
    }
    for (const [reason, count] of figures.resyncs) {
      const own = reason === 'topics' ? figures.changes : reason === 'retention' ? countTooOld(viewings) : 0;
      for (let i = (world.mayRefetch.get(reason) ?? 0) + own; i < count; i += 1) {
        verdict.add('resyncs', `${name} was told to refetch: ${reason}`);
      }
    }
    figures.resyncs.clear();
  }
  lateness.insist(
    schedule.rests.reduce((total, { lastsMs }) => total + lastsMs, 0),
    verdict,
  );
  for (const witness of witnesses) addComplaints(witness, verdict, new Set(world.mayRefetch.keys()));
  for (const { complaints } of everyNode) for (const text of complaints) verdict.add('complaints', text);

  const outcomes = (outcome: Outcome) =>
    ledger.transactions.filter((transaction) => transaction.outcome === outcome).length;
  const figures: Figure[] = [
    ...countFaults(schedule),
    ['  of these, other faults were in the way of', failed.length],
    ['transactions committed', outcomes('committed')],
    ['  rolled back', outcomes('rolled back')],
    ['  outcome unknown', outcomes('unknown')],
    ['  refused by the database, by code', showCounts(writers.refusals)],
    ['events', committed.size],
    ...figuresOf(witnesses),
    ['  told to refetch, as a fault allowed', refetches],
    ['  topics changed', witnesses.reduce((total, { figures }) => total + figures.changes, 0)],
    ...(await countSayings(everyNode)),
    ['caught up after the end', `${caughtUpMs} ms`],
    ...lateness.figures,
  ];
  return { figures, world };
}

/** One with few descriptors, one with little memory and few recent events, one of two processes. */
async function startNodes(stage: Stage): Promise<{ nodes: RelayNode[]; stream: null }> {
  const nodes = await Promise.all([
    stage.startNode('a', { CLIENT_BUFFER_BYTES }, { descriptors: FEW_DESCRIPTORS }),
    // Recent events that are soon too few, so that clients of this one are served from the table; and little memory.
    stage.startNode('b', {
      CLIENT_BUFFER_BYTES,
      WINDOW_EVENTS: '300',
      NODE_OPTIONS: '--max-old-space-size=256',
    }),
    stage.startNode('c', { CLIENT_BUFFER_BYTES, RELAY_PROCESSES: '2' }),
  ]);
  return { nodes, stream: null };
}

async function buildWorld(stage: Stage, seed: number, ledger: Ledger, hubs: boolean): Promise<World> {
  const { server } = stage;
  const { nodes, stream } = hubs ? await stage.startEdges({ CLIENT_BUFFER_BYTES }) : await startNodes(stage);
  const clients: Client[] = [];
  for (const [index, account] of ACCOUNTS.entries()) {
    for (const [place, kind] of KINDS.entries()) {
      if (kind === 'polling' && index > 1) continue;
      const link = await Link.to(nodes[(index + place) % nodes.length]!.port);
      clients.push(new Client(link, { account, kind, databaseUrl: server.url }));
    }
  }
  await Promise.all(clients.map((client) => client.open()));
  const others = await Promise.all(
    nodes.slice(0, 2).map(async (node, i) => {
      const plans = [ACCOUNTS[i]!, BOOKS[i]!, ACCOUNTS[4 + i]!].flatMap((account) =>
        (['browser', 'websocket'] as const).map((kind) => ({
          account,
          kind,
          port: node.port,
          name: `${kind} of ${account} in process ${i + 1}`,
        })),
      );
      return { node, process: await OtherProcess.start(plans, server.url) };
    }),
  );
  const place = { databaseUrl: () => server.url, accounts: ACCOUNTS, ledger, without: [] };
  const writers = new Writers(WRITERS, place, (name) => new Chance(seed, name));
  return {
    stage,
    server,
    nodes,
    stream,
    clients,
    others,
    writers,
    disturbances: new Disturbances(),
    ledger,
    undone: [],
    mayRefetch: new Map(),
  };
}

/** @returns after how many milliseconds the last client had heard the end */
async function waitForEnd(
  { server, nodes, stream, clients, others }: World,
  verdict: Verdict,
): Promise<number> {
  // A relay that finds the database changed makes everybody refetch: then the end would be in a list, and not heard.
  await Promise.all([...nodes, ...(stream?.hubs ?? [])].map((node) => node.ready(60_000)));
  const marks = await markEnd(server, ACCOUNTS);
  const began = Date.now();
  const everybody = [...clients, ...others.flatMap(({ process }) => process.pages)];
  const isThere = (client: (typeof everybody)[number]) => client.hasHeard(marks.get(client.account)!);
  await until('every client heard the end', () => everybody.every(isThere), 60_000).catch(() => {
    const absent = everybody.filter((client) => !isThere(client));
    const named = `${absent.length} clients, ${absent[0]?.name} among them,`;
    verdict.add('complaints', `after a minute ${named} had not heard the end`);
  });
  return Date.now() - began;
}

/** Retentions that are right: on a slow machine, a client or its node may be away for longer than events are kept. */
function countTooOld(viewings: readonly Viewing[]): number {
  const refetches = viewings.flatMap((viewing) => viewing.refetches);
  return refetches.filter(({ reason, ageMs }) => reason === 'retention' && ageMs >= LEAST_AGE_MS).length;
}

function sumRefetches(witnesses: readonly Witness[]): string {
  const counts = new Map<string, number>();
  for (const { figures } of witnesses) {
    for (const [reason, count] of figures.resyncs) counts.set(reason, (counts.get(reason) ?? 0) + count);
  }
  return showCounts(counts);
}

function showCounts(counts: ReadonlyMap<string, number>): string {
  return [...counts].map(([name, count]) => `${name}: ${count}`).join(', ') || 'none';
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
    ['edges that went over to the database', count('edge_fallback')],
    ['  came back to the stream', count('edge_streaming')],
  ];
}

function countFaults({ faults }: Schedule): Figure[] {
  const kinds = new Map<string, number>();
  for (const { kind } of faults) kinds.set(kind, (kinds.get(kind) ?? 0) + 1);
  const lines = [...kinds].sort().map(([kind, count]): Figure => [`  ${kind}`, count]);
  return [['faults', faults.length], ...lines];
}
