// From COMMIT to the client's handler: at 100 events a second, and beside writers at full speed.

import type { Probe, Probed } from './clients.ts';
import { tidy, withSession } from './cluster.ts';
import { type Figure, median, percentile } from './figures.ts';
import { write } from './load.ts';
import { ACCOUNTS, DOCTORS, type PeerName, peers } from './peers.ts';
import { authOf, type Bench, inOrder, openForEveryAccount, type Served, serve } from './run.ts';

type Serving = Exclude<PeerName, 'none' | 'outbox' | 'muted' | 'ws' | 'wire'>;

/** The account that is listened to; its doctors are written one after the other. */
const ACCOUNT = 7;
const doctors = Array.from({ length: DOCTORS }, (_, n) => n + 1).filter(
  (n) => 1 + (n % ACCOUNTS) === ACCOUNT,
);

async function probe(bench: Bench, served: Served, name: Serving, perSecond: number, seconds: number) {
  const given: Probe = {
    port: served.port,
    auth: await authOf(name, ACCOUNT),
    databaseUrl: await bench.cluster.database(peers[name]),
    afterwards: peers[name].afterwards?.replace('orders.account.1"', `orders.account.${ACCOUNT}"`) ?? null,
    doctors,
    perSecond,
    seconds,
  };
  return served.clients.ask<Probed>('probe', given);
}

interface Percentiles {
  readonly p50: number[];
  readonly p99: number[];
}

async function quietOnce(bench: Bench, name: Serving): Promise<{ p50: number; p99: number }> {
  await tidy(await bench.cluster.database(peers[name]), peers[name]);
  const served = await serve(bench, name);
  try {
    await probe(bench, served, name, 100, 1);
    const { latencies, sent } = await probe(bench, served, name, 100, bench.seconds(5));
    if (latencies.length < sent) throw new Error(`${name}: ${sent} commits, ${latencies.length} events`);
    return { p50: percentile(latencies, 50), p99: percentile(latencies, 99) };
  } finally {
    await served.close();
  }
}

async function quiet(bench: Bench): Promise<Figure[]> {
  const section = 'latency, 100/s';
  const names: Serving[] = ['recado', 'textbook', 'cursor', 'emitter'];
  const results = new Map<Serving, Percentiles>(names.map((name) => [name, { p50: [], p99: [] }]));
  for (let round = 0; round < bench.rounds; round += 1) {
    for (const name of inOrder(names, round)) {
      const { p50, p99 } = await bench.calm.measure(() => quietOnce(bench, name));
      results.get(name)!.p50.push(p50);
      results.get(name)!.p99.push(p99);
      bench.say(
        `${section} ${round + 1}/${bench.rounds}: ${name}: p50 ${p50.toFixed(2)} ms, p99 ${p99.toFixed(2)} ms`,
      );
    }
  }
  const of = (name: Serving) => results.get(name)!;
  return [
    ...names.flatMap((name): Figure[] => [
      {
        section,
        what: `${peers[name].label}, p50`,
        value: median(of(name).p50),
        rounds: of(name).p50,
        unit: 'ms',
        ...(name === 'recado' && { limit: { atMost: 2 } }),
      },
      {
        section,
        what: `${peers[name].label}, p99`,
        value: median(of(name).p99),
        rounds: of(name).p99,
        unit: 'ms',
        ...(name === 'recado' && { limit: { atMost: 10 } }),
      },
    ]),
    {
      section,
      what: 'p50, recado − textbook',
      value: median(of('recado').p50.map((value, n) => value - of('textbook').p50[n]!)),
      unit: 'ms',
      limit: { atMost: 1.5 },
    },
  ];
}

interface UnderLoad {
  readonly p99: number;
  readonly missing: number;
  readonly gateClosed: number;
  readonly perSecond: number;
}

async function underLoad(bench: Bench): Promise<UnderLoad> {
  const databaseUrl = await bench.cluster.database(peers.recado);
  await tidy(databaseUrl, peers.recado);
  const served = await serve(bench, 'recado');
  try {
    await openForEveryAccount(served, 'recado');
    const seconds = bench.seconds(6);
    const load = write({ databaseUrl, writers: 32, seconds, afterwards: null });
    const [{ latencies, sent }, loaded, gateClosed] = await Promise.all([
      probe(bench, served, 'recado', 40, seconds - 1),
      load,
      // Two thirds into the run.
      new Promise((resolve) => setTimeout(resolve, (seconds * 2_000) / 3)).then(() =>
        served.server.ask<number>('gauge', 'recado_gate_closed'),
      ),
    ]);
    const expected = loaded.commits + sent;
    await served.clients.ask('reach', { total: expected, withinMs: 5_000 });
    const { events, lost } = await served.clients.ask<{ events: number; lost: number }>('count');
    if (lost > 0) bench.say(`latency under load: the server closed ${lost} connections`);
    return {
      p99: percentile(latencies, 99),
      // Also more than expected is wrong: something arrived twice.
      missing: Math.abs(expected - events) + (sent - latencies.length),
      gateClosed,
      perSecond: loaded.perSecond,
    };
  } finally {
    await served.close();
  }
}

export async function latency(bench: Bench): Promise<Figure[]> {
  const figures = await quiet(bench);
  const section = 'latency, full speed';
  const results: UnderLoad[] = [];
  let missing = 0;
  for (let round = 0; round < bench.rounds; round += 1) {
    const result = await bench.calm.measure(async () => {
      const attempt = await underLoad(bench);
      // A disturbed attempt may be slow; it may not lose anything.
      missing += attempt.missing;
      return attempt;
    });
    results.push(result);
    bench.say(
      `${section} ${round + 1}/${bench.rounds}: ${Math.round(result.perSecond)} commits/s, p99 ${result.p99.toFixed(1)} ms, ${result.missing} missing, gate ${result.gateClosed === 1 ? 'closed' : 'open'}`,
    );
  }
  await withSession(await bench.cluster.database(peers.recado), (session) =>
    session.query("begin; set local relay.removing = 'on'; truncate relay.events; commit"),
  );
  return [
    ...figures,
    {
      section,
      what: 'recado, p99',
      value: median(results.map(({ p99 }) => p99)),
      rounds: results.map(({ p99 }) => p99),
      unit: 'ms',
      limit: { atMost: 100 },
    },
    {
      section,
      what: 'events lost or twice, all attempts',
      value: missing,
      unit: '',
      limit: { atMost: 0 },
    },
    {
      section,
      what: 'rounds with the gate closed',
      value: results.filter(({ gateClosed }) => gateClosed === 1).length,
      unit: '',
      limit: { atLeast: results.length },
    },
  ];
}
