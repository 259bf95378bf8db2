// Which of several processes emitted an event: the first process asks all its workers.
import cluster from 'node:cluster';
import type { Emitted, EmittedBy } from '../delivery/recent-emits.ts';

interface Asked {
  recado: 'emitted?';
  id: number;
  event: string;
}

interface Told {
  recado: 'emitted';
  id: number;
  emitted: Emitted | null;
}

/** A worker that takes longer is frozen, and somebody waits. */
const ANSWER_WITHIN_MS = 1_000;

let asked = 0;

/** The first process's side. */
export async function askWorkers(event: string): Promise<EmittedBy> {
  const workers = Object.values(cluster.workers ?? {}).filter((worker) => worker?.isConnected());
  asked += 1;
  const question: Asked = { recado: 'emitted?', id: asked, event };
  const answers = new Map<number, Emitted | null>();
  let timer: NodeJS.Timeout | undefined;
  let onMessage: (worker: { id: number }, message: unknown) => void = () => undefined;
  await new Promise<void>((resolve) => {
    onMessage = (worker, message) => {
      if (!isTold(message) || message.id !== question.id) return;
      answers.set(worker.id, message.emitted);
      if (answers.size === workers.length) resolve();
    };
    cluster.on('message', onMessage);
    timer = setTimeout(resolve, ANSWER_WITHIN_MS);
    if (workers.length === 0) resolve();
    for (const worker of workers) worker?.send(question);
  });
  clearTimeout(timer);
  cluster.off('message', onMessage);
  const emitted = [...answers.values()].filter((each) => each !== null);
  return { emitted, silent: workers.length - answers.size };
}

/** A worker's side. @returns ends it */
export function answerFirstProcess(find: (event: bigint) => Emitted | null): () => void {
  const onMessage = (message: unknown) => {
    if (!isAsked(message)) return;
    const { id, event } = message;
    process.send?.({ recado: 'emitted', id, emitted: find(BigInt(event)) } satisfies Told);
  };
  process.on('message', onMessage);
  return () => process.off('message', onMessage);
}

function isAsked(message: unknown): message is Asked {
  return (
    typeof message === 'object' && message !== null && 'recado' in message && message.recado === 'emitted?'
  );
}

function isTold(message: unknown): message is Told {
  return (
    typeof message === 'object' && message !== null && 'recado' in message && message.recado === 'emitted'
  );
}
