// The first process asks its workers what they remember of the events they emitted, and of slow clients.
import cluster from 'node:cluster';
import type { Emitted, EmittedBy, Slow, Trace } from '../delivery/recent-emits.ts';
import type { SlowClient, SlowClients } from '../delivery/slow-clients.ts';
import type { Slowness } from '../http/reply.ts';

type Asked = { recado: 'remember?'; id: number } & (
  | { about: 'emitted'; event: string }
  | { about: 'slowest' }
);

interface Told {
  recado: 'remember';
  id: number;
  emitted: Emitted | null;
  slowest: Slow[];
  slowClients: SlowClient[];
}

/** A worker that takes longer is frozen, and somebody waits. */
const ANSWER_WITHIN_MS = 1_000;

let asked = 0;

/** Who emitted an event. */
export async function askWhoEmitted(event: string): Promise<EmittedBy> {
  const { told, silent } = await askWorkers({ about: 'emitted', event });
  return { emitted: told.map(({ emitted }) => emitted).filter((each) => each !== null), silent };
}

export async function askWhoIsSlow(): Promise<Slowness> {
  const { told } = await askWorkers({ about: 'slowest' });
  return {
    rooms: told.flatMap(({ slowest }) => slowest),
    clients: told.flatMap(({ slowClients }) => slowClients),
  };
}

async function askWorkers(
  about: { about: 'emitted'; event: string } | { about: 'slowest' },
): Promise<{ told: Told[]; silent: number }> {
  const workers = Object.values(cluster.workers ?? {}).filter((worker) => worker?.isConnected());
  asked += 1;
  const question: Asked = { recado: 'remember?', id: asked, ...about };
  const told = new Map<number, Told>();
  let timer: NodeJS.Timeout | undefined;
  let onMessage: (worker: { id: number }, message: unknown) => void = () => undefined;
  await new Promise<void>((resolve) => {
    onMessage = (worker, message) => {
      if (!isTold(message) || message.id !== question.id) return;
      told.set(worker.id, message);
      if (told.size === workers.length) resolve();
    };
    cluster.on('message', onMessage);
    timer = setTimeout(resolve, ANSWER_WITHIN_MS);
    if (workers.length === 0) resolve();
    // One that ends at this moment does not answer.
    for (const worker of workers) worker?.send(question, () => undefined);
  });
  clearTimeout(timer);
  cluster.off('message', onMessage);
  return { told: [...told.values()], silent: workers.length - told.size };
}

/** A worker's side. @returns ends it */
export function answerFirstProcess({
  trace,
  slowClients,
}: {
  trace: Trace;
  slowClients: SlowClients;
}): () => void {
  const onMessage = (message: unknown) => {
    if (!isAsked(message)) return;
    process.send?.({
      recado: 'remember',
      id: message.id,
      emitted: message.about === 'emitted' ? trace.find(BigInt(message.event)) : null,
      slowest: message.about === 'slowest' ? trace.slowest(Date.now()) : [],
      slowClients: message.about === 'slowest' ? slowClients.recent(Date.now()) : [],
    } satisfies Told);
  };
  process.on('message', onMessage);
  return () => process.off('message', onMessage);
}

function isAsked(message: unknown): message is Asked {
  return kindOf(message) === 'remember?';
}

function isTold(message: unknown): message is Told {
  return kindOf(message) === 'remember';
}

function kindOf(message: unknown): unknown {
  return typeof message === 'object' && message !== null && 'recado' in message ? message.recado : null;
}
