// One room with a thousand clients: what a delivery costs the server, and how fast ten events that were committed
// together get out. Recado's batches come out of Postgres, the libraries' out of a call in their own process, and those of
// the native peers, where the machine has them, from a publisher.
import type pg from 'pg';
import { type Child, startChild, type Usage } from './child.ts';
import { tidy, withSession } from './cluster.ts';
import { type Figure, median, medianRatio } from './figures.ts';
import { findNatives, labelOfNative, type NativeName, startNative } from './natives.ts';
import { EVENT, peers } from './peers.ts';
import { authOf, type Bench, inOrder, type Served, serve } from './run.ts';

export const CLIENTS = 1_000;
export const ACCOUNT = 1;
export const TOGETHER = 10;
type Library = 'recado' | 'textbook' | 'ws' | 'wire';
type Fanning = Library | NativeName;
const LIBRARIES: readonly Library[] = ['recado', 'textbook', 'ws', 'wire'];

const LABELS: Record<Library, string> = {
  recado: 'recado',
  textbook: 'stock io.to().emit',
  ws: 'raw ws, a send per event (d)',
  wire: 'no library: a prebuilt frame, a write per event',
};
const isLibrary = (name: Fanning): name is Library => name in LABELS;
const labelOf = (name: Fanning) => (isLibrary(name) ? LABELS[name] : labelOfNative(name));

/** About 300 bytes of JSON. */
export const PAYLOAD = {
  id: 123,
  accountId: ACCOUNT,
  name: 'Dra. Beatriz Nogueira de Albuquerque',
  isBusy: true,
  createdAt: '2025-01-23T09:15:00.000Z',
  updatedAt: '2025-01-23T09:15:00.000Z',
  deletedAt: null,
  notes: 'Atende às segundas e quartas pela manhã; sala 4, segundo andar. Retornos só com hora marcada.',
};

export interface Rate {
  readonly deliveriesPerSecond: number;
  /** Microseconds of the server's CPU. */
  readonly cpuPerDelivery: number;
}

type Emit = (times: number) => unknown;

/** @param emit sends so many events to every client */
export async function measure(served: Served, emit: Emit, times: number, seconds: number): Promise<Rate> {
  const cpu = async () => (await served.server.ask<Usage>('usage')).cpu;
  return measureRate({ clients: served.clients, cpu }, emit, times, seconds);
}

/** @param measured the process of the clients, and the microseconds of CPU that the server has used */
async function measureRate(
  { clients, cpu }: { clients: Child; cpu: () => Promise<number> },
  emit: Emit,
  times: number,
  seconds: number,
): Promise<Rate> {
  let { events: total } = await clients.ask<{ events: number }>('count');
  // Two batches are on their way at any moment: one being sent, and the next one behind it.
  let before: Promise<boolean> = Promise.resolve(true);
  const turn = async () => {
    total += CLIENTS * times;
    const reached = clients.ask<boolean>('reach', { total, withinMs: 10_000 });
    await emit(times);
    if (!(await before)) throw new Error('A batch did not arrive everywhere within 10 seconds.');
    before = reached;
  };
  const settle = async () => {
    await before;
    before = Promise.resolve(true);
  };
  for (let warmUp = 0; warmUp < 20; warmUp += 1) await turn();
  await settle();
  const used = await cpu();
  const first = total;
  const began = performance.now();
  while (performance.now() - began < seconds * 1_000) await turn();
  await settle();
  const took = performance.now() - began;
  const after = await cpu();
  const deliveries = total - first;
  return {
    deliveriesPerSecond: (deliveries / took) * 1_000,
    cpuPerDelivery: (after - used) / deliveries,
  };
}

interface Rates {
  readonly single: Rate;
  readonly ten: Rate;
}

async function measureNative(bench: Bench, name: NativeName): Promise<Rates> {
  const native = await startNative(name);
  const clients = await startChild('clients.ts', {});
  try {
    const { port, protocol, cpu } = native;
    await clients.ask('open', { port, protocol, count: CLIENTS, auths: [null] });
    const message = Buffer.from(`42${JSON.stringify([EVENT, PAYLOAD])}`);
    const emit: Emit = (times) => native.publish(message, times);
    const seconds = bench.seconds(3);
    return {
      single: await measureRate({ clients, cpu }, emit, 1, seconds),
      ten: await measureRate({ clients, cpu }, emit, TOGETHER, seconds),
    };
  } finally {
    await clients.close();
    await native.close();
  }
}

async function measureLibrary(bench: Bench, name: Library): Promise<Rates> {
  const databaseUrl = await bench.cluster.database(peers.recado);
  if (name === 'recado') await tidy(databaseUrl, peers.recado);
  const served = await serve(bench, name);
  try {
    await served.clients.ask('open', {
      port: served.port,
      protocol: name === 'ws' || name === 'wire' ? 'ws' : 'socket.io',
      count: CLIENTS,
      auths: [await authOf(name, ACCOUNT)],
    });
    return await withSession(databaseUrl, async (session) => {
      const emit: Emit =
        name === 'recado'
          ? (times) => commit(session, times)
          : (times) => served.server.ask('emit', { account: ACCOUNT, event: EVENT, payload: PAYLOAD, times });
      const seconds = bench.seconds(3);
      return {
        single: await measure(served, emit, 1, seconds),
        ten: await measure(served, emit, TOGETHER, seconds),
      };
    });
  } finally {
    await served.close();
  }
}

export async function commit(session: pg.Client, times: number): Promise<void> {
  await session.query({
    name: 'commit',
    text: `insert into relay.events (account_id, event, payload)
           select $1, $2, $3::jsonb from generate_series(1, $4::int)`,
    values: [String(ACCOUNT), EVENT, JSON.stringify(PAYLOAD), times],
  });
}

export async function fanout(bench: Bench): Promise<Figure[]> {
  const names: readonly Fanning[] = [...LIBRARIES, ...findNatives()];
  const single = new Map<Fanning, Rate[]>(names.map((name) => [name, []]));
  const ten = new Map<Fanning, Rate[]>(names.map((name) => [name, []]));
  for (let round = 0; round < bench.rounds; round += 1) {
    for (const name of inOrder(names, round)) {
      const result = await bench.calm.measure(() =>
        isLibrary(name) ? measureLibrary(bench, name) : measureNative(bench, name),
      );
      single.get(name)!.push(result.single);
      ten.get(name)!.push(result.ten);
      bench.say(
        `fan-out ${round + 1}/${bench.rounds}: ${labelOf(name)}: one event ${result.single.cpuPerDelivery.toFixed(1)} µs of CPU a delivery; ten together ${Math.round(result.ten.deliveriesPerSecond)} deliveries/s`,
      );
    }
  }
  const section = 'fan-out, 1,000 clients';
  const cpu = (name: Fanning) => single.get(name)!.map(({ cpuPerDelivery }) => cpuPerDelivery);
  const rate = (name: Fanning) => ten.get(name)!.map(({ deliveriesPerSecond }) => deliveriesPerSecond);
  return [
    ...names.map(
      (name): Figure => ({
        section,
        what: `one event: server CPU, ${labelOf(name)}`,
        value: median(cpu(name)),
        rounds: cpu(name),
        unit: 'µs/delivery',
      }),
    ),
    {
      section,
      what: 'one event: server CPU, recado ÷ stock',
      value: medianRatio(cpu('recado'), cpu('textbook')),
      unit: '',
      limit: { atMost: 0.8 },
    },
    ...names.map(
      (name): Figure => ({
        section,
        what: `ten in a batch: ${labelOf(name)}`,
        value: median(rate(name)),
        rounds: rate(name),
        unit: 'deliveries/s',
        bar: name,
      }),
    ),
    {
      section,
      what: 'ten in a batch: recado ÷ stock',
      value: medianRatio(rate('recado'), rate('textbook')),
      unit: '',
      limit: { atLeast: 6 },
    },
    {
      section,
      what: 'ten in a batch: recado ÷ raw ws',
      value: medianRatio(rate('recado'), rate('ws')),
      unit: '',
      limit: { atLeast: 5 },
    },
  ];
}
