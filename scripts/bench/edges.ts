// Hub and edges: what they cost the database beside a node that reads it itself, how much later events come, what one
// edge holds, and how soon a second hub goes on when the first is killed.
import { setTimeout as delay } from 'node:timers/promises';
import pg from 'pg';
import { redisIsMissing } from '../../relay/test/redis.ts';
import { startChild, type Usage } from './child.ts';
import type { Probed } from './clients.ts';
import { tidy, withSession } from './cluster.ts';
import { measureCpu } from './cpu.ts';
import { type Node, openStage, type Stage } from './edge-stage.ts';
import { ACCOUNT, CLIENTS, commit, measure, TOGETHER } from './fanout.ts';
import { type Figure, median, medianRatio, percentile } from './figures.ts';
import { probe } from './latency.ts';
import { ACCOUNTS, DOCTORS, peers } from './peers.ts';
import { authOf, type Bench, inOrder, openForEveryAccount, type Served } from './run.ts';

const SECTION = 'edges';
const RATES = [200, 2_000] as const;
/** How many edges run at a time. */
const SIZES = [1, 4, 16] as const;
const MOST = Math.max(...SIZES);
const CLIENTS_EACH = 10;
/** Of a writer that commits one event at a time. */
const MOST_OF_A_WRITER = 250;
const SETTLE_MS = 1_000;
/** What the first lines of the section on latency are measured with. */
const PROBE = { perSecond: 100, writers: 1 };
const IDLE_CLIENTS = 4_000;

/** Commits one event at a time, on a beat. The disk does not decide how many: commits do not wait for it. */
async function write(databaseUrl: string, perSecond: number, seconds: number): Promise<number> {
  const writers = Math.ceil(perSecond / MOST_OF_A_WRITER);
  const each = (perSecond / writers) * seconds;
  const pauseMs = (1_000 * writers) / perSecond;
  const sessions = Array.from({ length: writers }, () => new pg.Client({ connectionString: databaseUrl }));
  await Promise.all(sessions.map((session) => session.connect()));
  const began = performance.now();
  await Promise.all(
    sessions.map(async (session, writer) => {
      await session.query('set synchronous_commit = off');
      for (let n = 0; n < each; n += 1) {
        const pause = began + (n + writer / writers) * pauseMs - performance.now();
        if (pause > 0) await delay(pause);
        await session.query({
          name: 'write',
          text: 'update public.doctors set "isBusy" = not "isBusy" where id = $1',
          values: [1 + Math.floor(Math.random() * DOCTORS)],
        });
      }
      await session.end();
    }),
  );
  return (writers * each) / ((performance.now() - began) / 1_000);
}

interface Cost {
  readonly database: number;
  /** Of the processes given, in their order. */
  readonly processes: readonly number[];
  readonly redis: number;
  readonly perSecond: number;
}

/** Percentages of one core while so many events a second are committed. */
async function costOf(stage: Stage, pids: readonly number[], rate: number, seconds: number): Promise<Cost> {
  const writing = write(stage.databaseUrl, rate, seconds + (2 * SETTLE_MS) / 1_000);
  await delay(SETTLE_MS);
  const used = await measureCpu(stage.databaseUrl, [stage.redis.pid, ...pids], seconds);
  const [redis = 0, ...processes] = used.processes;
  return { database: used.database, processes, redis, perSecond: await writing };
}

function sayCost(bench: Bench, who: string, { database, processes, redis, perSecond }: Cost): void {
  const each = processes.map((share) => share.toFixed(1)).join(', ');
  bench.say(
    `${SECTION}: ${who}, ${Math.round(perSecond)} events/s: database ${database.toFixed(1)} % of a core, Redis ${redis.toFixed(1)} %, processes ${each} %`,
  );
}

async function costOfDirect(bench: Bench, stage: Stage, direct: Node): Promise<Figure[]> {
  const figures: Figure[] = [];
  for (const rate of RATES) {
    const database: number[] = [];
    for (let round = 0; round < bench.rounds; round += 1) {
      const cost = await bench.calm.measure(() => costOf(stage, [direct.server.pid], rate, bench.seconds(4)));
      sayCost(bench, 'a direct node', cost);
      database.push(cost.database);
    }
    figures.push(share(`${rate} events/s: database, a direct node`, database));
  }
  return figures;
}

async function costOfEdges(bench: Bench, stage: Stage, hub: number, first: Node): Promise<Figure[]> {
  const costs = new Map<string, Cost[]>();
  for (let round = 0; round < bench.rounds; round += 1) {
    const others: Node[] = [];
    for (const size of SIZES) {
      while (others.length < size - 1) {
        const edge = await stage.startEdge();
        await stage.connect(edge, CLIENTS_EACH);
        others.push(edge);
      }
      const pids = [hub, ...[first, ...others].map(({ server }) => server.pid)];
      for (const rate of RATES) {
        const cost = await bench.calm.measure(() => costOf(stage, pids, rate, bench.seconds(4)));
        costs.set(`${size} ${rate}`, [...(costs.get(`${size} ${rate}`) ?? []), cost]);
        sayCost(bench, `hub and ${size} ${size === 1 ? 'edge' : 'edges'}`, cost);
      }
    }
    await Promise.all(others.map(({ server }) => server.close()));
  }
  return RATES.flatMap((rate) => figuresOf(rate, (size) => costs.get(`${size} ${rate}`)!));
}

function figuresOf(rate: number, costsOf: (size: number) => readonly Cost[]): Figure[] {
  const of = (size: number, figure: (cost: Cost) => number) => costsOf(size).map(figure);
  const figures = SIZES.flatMap((size) => [
    share(
      `${rate} events/s: database, hub and ${size} ${size === 1 ? 'edge' : 'edges'}`,
      of(size, ({ database }) => database),
    ),
    share(
      `${rate} events/s: the hub, with ${size}`,
      of(size, ({ processes }) => processes[0]!),
    ),
    share(
      `${rate} events/s: Redis, with ${size}`,
      of(size, ({ redis }) => redis),
    ),
    share(
      `${rate} events/s: an edge, of ${size}`,
      of(size, ({ processes }) => median(processes.slice(1))),
    ),
  ]);
  const database = ({ database }: Cost) => database;
  return [
    ...figures,
    {
      section: SECTION,
      what: `${rate} events/s: database, ${MOST} edges ÷ 1`,
      value: medianRatio(of(MOST, database), of(1, database)),
      unit: '',
      limit: { atMost: 1.1 },
    },
  ];
}

function share(what: string, rounds: readonly number[]): Figure {
  return { section: SECTION, what, value: median(rounds), rounds, unit: '% of a core' };
}

async function delayOfStream(bench: Bench, stage: Stage, direct: Node, edge: Node): Promise<Figure[]> {
  const p50s = { direct: [] as number[], edge: [] as number[] };
  const once = async ({ port }: Node): Promise<number> => {
    const served = { clients: stage.clients, port };
    await probe(bench, served, 'recado', PROBE, 1);
    const { latencies, sent }: Probed = await probe(bench, served, 'recado', PROBE, bench.seconds(3));
    if (latencies.length < sent) throw new Error(`${sent} commits, ${latencies.length} events`);
    return percentile(latencies, 50);
  };
  for (let round = 0; round < bench.rounds; round += 1) {
    for (const name of inOrder(['direct', 'edge'] as const, round)) {
      const p50 = await bench.calm.measure(() => once(name === 'direct' ? direct : edge));
      p50s[name].push(p50);
      bench.say(`${SECTION} ${round + 1}/${bench.rounds}: ${name}: p50 ${p50.toFixed(2)} ms`);
    }
  }
  const what = 'COMMIT to client at 100/s, p50';
  return [
    {
      section: SECTION,
      what: `${what}, a direct node`,
      value: median(p50s.direct),
      rounds: p50s.direct,
      unit: 'ms',
    },
    { section: SECTION, what: `${what}, an edge`, value: median(p50s.edge), rounds: p50s.edge, unit: 'ms' },
    {
      section: SECTION,
      what: `${what}, an edge − a direct node`,
      value: median(p50s.edge.map((value, round) => value - p50s.direct[round]!)),
      unit: 'ms',
      limit: { atMost: 1.5 },
    },
  ];
}

/** The hub that appends is killed, and an event committed at once. @returns the hub that appends now */
async function takeover(
  bench: Bench,
  stage: Stage,
  first: number,
): Promise<{ figures: Figure[]; hub: number }> {
  let hub = first;
  const rounds: number[] = [];
  for (let round = 0; round < bench.rounds; round += 1) {
    const second = await stage.startHub();
    // Until it has heard the first one.
    await delay(2 * SETTLE_MS);
    const { events } = await stage.clients.ask<{ events: number }>('count');
    const took = await withSession(stage.databaseUrl, async (session) => {
      const began = performance.now();
      process.kill(hub, 'SIGKILL');
      await commit(session, 1);
      await stage.clients.ask('reach', { total: events + 1, withinMs: 10_000 });
      return performance.now() - began;
    });
    hub = second.pid;
    rounds.push(took);
    bench.say(`${SECTION} ${round + 1}/${bench.rounds}: the second hub goes on after ${Math.round(took)} ms`);
  }
  const what = 'SIGKILL of the hub to the next event, the slowest';
  const figure = { section: SECTION, what, value: Math.max(...rounds), rounds, unit: 'ms' };
  return { figures: [{ ...figure, limit: { atMost: 2_000 } }], hub };
}

/** What one edge holds: connections that only listen, then a room in which everybody hears everything. */
async function capacity(bench: Bench, stage: Stage): Promise<Figure[]> {
  const { server, port } = await stage.startEdge();
  const clients = await startChild('clients.ts', {});
  const served: Served = { server, port, clients, close: () => clients.close() };
  try {
    await openForEveryAccount(served, 'recado');
    const before = await server.ask<Usage>('usageAfterCollection');
    for (let opened = 0; opened < IDLE_CLIENTS; opened += ACCOUNTS)
      await openForEveryAccount(served, 'recado');
    const after = await server.ask<Usage>('usageAfterCollection');
    await clients.ask('close');
    const auths = [await authOf('recado', ACCOUNT)];
    await clients.ask('open', { port, protocol: 'socket.io', count: CLIENTS, auths });
    const { cpuPerDelivery, deliveriesPerSecond } = await withSession(stage.databaseUrl, (session) =>
      measure(served, (times) => commit(session, times), TOGETHER, bench.seconds(3)),
    );
    const mib = (bytes: number) => bytes / 2 ** 20;
    return [
      { what: `an edge with ${ACCOUNTS} connections: memory`, value: mib(before.memory), unit: 'MiB' },
      {
        what: 'an edge: memory',
        value: (after.memory - before.memory) / 1024 / IDLE_CLIENTS,
        unit: 'KiB/connection',
      },
      {
        what: `an edge: CPU, ten events together for ${CLIENTS} clients`,
        value: cpuPerDelivery,
        unit: 'µs/delivery',
      },
      {
        what: 'an edge beside its clients and the database',
        value: deliveriesPerSecond,
        unit: 'deliveries/s',
      },
      {
        what: 'an edge with a core of its own (from its CPU)',
        value: 1e6 / cpuPerDelivery,
        unit: 'deliveries/s',
      },
    ].map((figure) => ({ section: SECTION, ...figure }));
  } finally {
    await served.close();
    await server.close();
  }
}

export async function edges(bench: Bench): Promise<Figure[]> {
  if (redisIsMissing) {
    bench.say('edges: left out, because /usr/bin/redis-server is missing: install the package redis-server.');
    return [];
  }
  const databaseUrl = await bench.cluster.database(peers.recado);
  await tidy(databaseUrl, peers.recado);
  const stage = await openStage(databaseUrl);
  try {
    const direct = await stage.startDirect();
    await stage.connect(direct, CLIENTS_EACH);
    const figures = await costOfDirect(bench, stage, direct);
    const first = await stage.startHub();
    const edge = await stage.startEdge();
    figures.push(...(await delayOfStream(bench, stage, direct, edge)));
    await direct.server.close();
    await stage.connect(edge, CLIENTS_EACH);
    const { figures: takeovers, hub } = await takeover(bench, stage, first.pid);
    figures.push(...takeovers, ...(await capacity(bench, stage)));
    figures.push(...(await costOfEdges(bench, stage, hub, edge)));
    return figures;
  } finally {
    await stage.close();
  }
}
