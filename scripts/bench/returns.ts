// Ten thousand clients on two edges of one machine: one edge is killed, and its clients go on at the other, with what
// was committed meanwhile. Once from the memory of the edge that is left, and once where that reaches back too little.
import { setTimeout as delay } from 'node:timers/promises';
import { redisIsMissing } from '../../relay/test/redis.ts';
import { type Child, startChild } from './child.ts';
import { tidy, withSession } from './cluster.ts';
import { openStage, type Stage } from './edge-stage.ts';
import type { Figure } from './figures.ts';
import { ACCOUNTS, peers } from './peers.ts';
import type { Counted, Opened } from './returning.ts';
import { authOf, type Bench } from './run.ts';

const SECTION = '10,000 clients, 2 edges';
const CLIENTS = 10_000;
/** Of clients: each may have so many sockets as the system lets it. */
const PROCESSES = 2;
const WITHIN_MS = 10_000;
/** Long after the limit: what never comes back must end too. */
const GIVE_UP_MS = 60_000;
/** An event for every account, each time. */
const MISSED = 3;
/** The least that is allowed, and less than what is missed. */
const LITTLE_MEMORY = { WINDOW_EVENTS: '100' };

interface Return {
  readonly backMs: number;
  readonly counted: readonly Counted[];
  readonly queries: number;
  readonly reads: number;
}

/** The doctors of a turn are of every account, one each. */
async function tellEverybody(databaseUrl: string, turn: number): Promise<void> {
  await withSession(databaseUrl, (session) =>
    session.query(`update public.doctors set "isBusy" = not "isBusy" where id > $1 and id <= $2`, [
      turn * ACCOUNTS,
      (turn + 1) * ACCOUNTS,
    ]),
  );
}

/** Every client is connected and has heard so many events. */
async function everybodyHas(events: number, clients: readonly Child[]): Promise<void> {
  const waiting = new AbortController();
  const late = delay(GIVE_UP_MS, null, { signal: waiting.signal, ref: false }).catch(() => null);
  const heard = Promise.all(clients.map((child) => child.ask('reach', { events })));
  const reached = await Promise.race([heard, late]);
  waiting.abort();
  if (reached !== null) return;
  const counted = await Promise.all(clients.map((child) => child.ask<Counted>('count')));
  throw new Error(
    `After ${GIVE_UP_MS} ms not all have heard ${events} events: ${counted.map((each) => JSON.stringify(each)).join(', ')}`,
  );
}

async function killOne(stage: Stage, settings: Record<string, string>): Promise<Return> {
  const edges = [await stage.startEdge(settings), await stage.startEdge(settings)] as const;
  const clients: Child[] = [];
  try {
    for (let n = 0; n < PROCESSES; n += 1) clients.push(await startChild('returning.ts', {}));
    const auths = await Promise.all(Array.from({ length: ACCOUNTS }, (_, n) => authOf('recado', n + 1)));
    const opened: Opened = { ports: edges.map(({ port }) => port), count: CLIENTS / PROCESSES, auths };
    await Promise.all(clients.map((child) => child.ask('open', opened)));
    await tellEverybody(stage.databaseUrl, 0);
    await everybodyHas(1, clients);
    const [killed, left] = edges;
    const queries = () => left.server.ask<number>('metric', 'recado_replay_queries_total');
    const reads = () => left.server.ask<number>('metric', 'recado_edge_reads_total');
    const before = { queries: await queries(), reads: await reads() };
    const began = performance.now();
    process.kill(killed.server.pid, 'SIGKILL');
    for (let turn = 1; turn <= MISSED; turn += 1) await tellEverybody(stage.databaseUrl, turn);
    await everybodyHas(1 + MISSED, clients);
    return {
      backMs: performance.now() - began,
      counted: await Promise.all(clients.map((child) => child.ask<Counted>('count'))),
      queries: (await queries()) - before.queries,
      reads: (await reads()) - before.reads,
    };
  } finally {
    await Promise.all([...clients, ...edges.map(({ server }) => server)].map((child) => child.close()));
  }
}

function figuresOf(from: string, { backMs, counted, queries, reads }: Return): Figure[] {
  const sum = (of: (each: Counted) => number) => counted.reduce((total, each) => total + of(each), 0);
  const none = { atMost: 0 };
  return [
    {
      what: `from ${from}: SIGKILL to the last of all events`,
      value: backMs,
      unit: 'ms',
      limit: { atMost: WITHIN_MS },
    },
    { what: `from ${from}: clients that came back`, value: sum(({ returns }) => returns), unit: '' },
    { what: `from ${from}: of these on their session`, value: sum(({ recovered }) => recovered), unit: '' },
    { what: `from ${from}: events heard twice`, value: sum(({ twice }) => twice), unit: '', limit: none },
    { what: `from ${from}: told to refetch`, value: sum(({ resyncs }) => resyncs), unit: '', limit: none },
    {
      what: `from ${from}: queries for what they missed`,
      value: queries,
      unit: '',
      limit: { atMost: 2 * ACCOUNTS },
    },
    { what: `from ${from}: reads of the edge itself`, value: reads, unit: '' },
  ].map((figure) => ({ section: SECTION, ...figure }));
}

export async function returns(bench: Bench): Promise<Figure[]> {
  if (redisIsMissing) {
    bench.say(
      'returns: left out, because /usr/bin/redis-server is missing: install the package redis-server.',
    );
    return [];
  }
  const databaseUrl = await bench.cluster.database(peers.recado);
  await tidy(databaseUrl, peers.recado);
  const stage = await openStage(databaseUrl);
  try {
    await stage.startHub();
    const figures: Figure[] = [];
    for (const [from, settings] of [
      ['memory', {}],
      ['the table', LITTLE_MEMORY],
    ] as const) {
      const result = await bench.calm.measure(() => killOne(stage, settings));
      bench.say(`${SECTION}, from ${from}: all back after ${Math.round(result.backMs)} ms`);
      figures.push(...figuresOf(from, result));
    }
    return figures;
  } finally {
    await stage.close();
  }
}
