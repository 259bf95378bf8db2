// From COMMIT to the client's handler, at rates at which the machine is not what is measured.
import type { Probe, Probed } from './clients.ts';
import { tidy } from './cluster.ts';
import { type Figure, median, medianRatio, percentile } from './figures.ts';
import { ACCOUNTS, DOCTORS, type PeerName, peers } from './peers.ts';
import { authOf, type Bench, inOrder, type Served, serve } from './run.ts';

type Serving = Exclude<PeerName, 'none' | 'outbox' | 'muted' | 'ws' | 'wire'>;

interface Rate {
  readonly perSecond: number;
  readonly writers: number;
  readonly names: readonly Serving[];
  /** What recado must show: percentiles in ms, and as a multiple of the textbook's. */
  readonly limits: { readonly p99?: number; readonly p50Ratio?: number; readonly p99Ratio?: number };
}

const RATES: readonly Rate[] = [
  {
    perSecond: 100,
    writers: 1,
    names: ['recado', 'textbook', 'cursor', 'emitter'],
    limits: { p99: 10, p50Ratio: 1.7 },
  },
  { perSecond: 1_000, writers: 16, names: ['recado', 'textbook'], limits: {} },
  { perSecond: 2_000, writers: 16, names: ['recado', 'textbook'], limits: { p99Ratio: 3 } },
  { perSecond: 3_000, writers: 16, names: ['recado'], limits: { p99: 30 } },
];

/** The account that is listened to; its doctors are written one after the other. */
const ACCOUNT = 7;
const doctors = Array.from({ length: DOCTORS }, (_, n) => n + 1).filter(
  (n) => 1 + (n % ACCOUNTS) === ACCOUNT,
);

/** Who commits and who listens are in the clients' process. */
export async function probe(
  bench: Bench,
  { clients, port }: Pick<Served, 'clients' | 'port'>,
  name: Serving,
  { perSecond, writers }: Pick<Rate, 'perSecond' | 'writers'>,
  seconds: number,
): Promise<Probed> {
  const given: Probe = {
    port,
    auth: await authOf(name, ACCOUNT),
    databaseUrl: await bench.cluster.database(peers[name]),
    afterwards: peers[name].afterwards?.replace('orders.account.1"', `orders.account.${ACCOUNT}"`) ?? null,
    doctors,
    perSecond,
    seconds,
    writers,
  };
  return clients.ask<Probed>('probe', given);
}

interface Measured {
  readonly p50: number;
  readonly p99: number;
  readonly perSecond: number;
  readonly missing: number;
}

async function once(bench: Bench, name: Serving, rate: Rate): Promise<Measured> {
  const databaseUrl = await bench.cluster.database(peers[name]);
  await tidy(databaseUrl, peers[name]);
  const served = await serve(bench, name);
  try {
    await probe(bench, served, name, rate, 1);
    const seconds = bench.seconds(5);
    const { latencies, sent } = await probe(bench, served, name, rate, seconds);
    return {
      p50: percentile(latencies, 50),
      p99: percentile(latencies, 99),
      perSecond: sent / seconds,
      missing: sent - latencies.length,
    };
  } finally {
    await served.close();
  }
}

async function atRate(bench: Bench, rate: Rate): Promise<Figure[]> {
  const { names, limits } = rate;
  const section = `latency, ${rate.perSecond.toLocaleString('en-US')}/s`;
  const results = new Map<Serving, Measured[]>(names.map((name) => [name, []]));
  let missing = 0;
  for (let round = 0; round < bench.rounds; round += 1) {
    for (const name of inOrder(names, round)) {
      const result = await bench.calm.measure(async () => {
        const attempt = await once(bench, name, rate);
        // A disturbed attempt may be slow; it may not lose anything.
        missing += attempt.missing;
        return attempt;
      });
      results.get(name)!.push(result);
      bench.say(
        `${section} ${round + 1}/${bench.rounds}: ${name}: p50 ${result.p50.toFixed(2)} ms, p99 ${result.p99.toFixed(2)} ms, ${Math.round(result.perSecond)} commits/s, ${result.missing} missing`,
      );
    }
  }
  const rounds = (name: Serving, of: 'p50' | 'p99') => results.get(name)!.map((result) => result[of]);
  const figure = (name: Serving, of: 'p50' | 'p99'): Figure => ({
    section,
    what: `${peers[name].label}, ${of}`,
    value: median(rounds(name, of)),
    rounds: rounds(name, of),
    unit: 'ms',
    ...(name === 'recado' && of === 'p99' && limits.p99 !== undefined && { limit: { atMost: limits.p99 } }),
  });
  const ratio = (of: 'p50' | 'p99', atMost: number | undefined): Figure => ({
    section,
    what: `${of}, recado ÷ textbook`,
    value: medianRatio(rounds('recado', of), rounds('textbook', of)),
    unit: '',
    ...(atMost !== undefined && { limit: { atMost } }),
  });
  return [
    ...names.flatMap((name) => [figure(name, 'p50'), figure(name, 'p99')]),
    ...(names.includes('textbook') ? [ratio('p50', limits.p50Ratio), ratio('p99', limits.p99Ratio)] : []),
    { section, what: 'events lost, all attempts', value: missing, unit: '', limit: { atMost: 0 } },
  ];
}

export async function latency(bench: Bench): Promise<Figure[]> {
  const figures: Figure[] = [];
  for (const rate of RATES) figures.push(...(await atRate(bench, rate)));
  return figures;
}
