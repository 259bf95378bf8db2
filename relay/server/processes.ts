// Several relay processes behind one port (RELAY_PROCESSES). The first process listens, and hands each connection to a
// worker. The stock client begins with HTTP long-polling, whose requests must all reach the worker that has the
// session: the sticky library does that. The first process also reads the database, or a stream, for all workers.
import cluster, { type Worker } from 'node:cluster';
import type { Server as HttpServer } from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';
import sticky from '@socket.io/sticky';
import { AggregatorRegistry } from 'prom-client';
import type { Server } from 'socket.io';
import type { Settings } from '../config/settings.ts';
import type { Trace } from '../delivery/recent-emits.ts';
import type { SlowClients } from '../delivery/slow-clients.ts';
import { type Listening, listen } from '../http/listen.ts';
import type { AllProcesses, WorkerState } from '../http/reply.ts';
import type { Log } from '../log.ts';
import { createMetrics, type Metrics } from '../metrics.ts';
import { Refusals } from '../transport/limits/refusals.ts';
import { TicketBox, type Tickets } from '../transport/tickets.ts';
import { answerFirstProcess, askWhoEmitted, askWhoIsSlow } from './ask-workers.ts';
import { closeUndelivered, createDoorway, endStandIns, watchDoorway } from './doorway.ts';
import { announceEarly } from './early-sessions.ts';
import { startSharedReader } from './shared-reader.ts';

interface Question {
  recado: 'question';
  id: number;
  about: 'metrics' | 'workers' | 'emitted' | 'slowest' | 'keep ticket' | 'take ticket';
  /** A token and its account, a ticket, or the id of an event. */
  details: string[];
}

interface Answer {
  recado: 'answer';
  id: number;
  /** Empty if there is no answer, such as for an unknown ticket. */
  text: string;
}

interface Report {
  recado: 'state';
  state: WorkerState;
}

/** Sent by a worker once none of its clients polls, so none opens new connections. */
interface Vacated {
  recado: 'vacated';
}

type Message = Question | Answer | Report | Vacated;

const REPORT_EVERY_MS = 500;
const ANSWER_WITHIN_MS = 3_000;
/** Pause before a dead worker is replaced, so that one that dies at once does not restart in a tight loop. */
const RESTART_AFTER_MS = 1_000;
const CLOSE_WITHIN_MS = 3_300;

export const isWorker = cluster.isWorker;

/**
 * Listens, and starts the workers with this process's arguments and environment. A worker that ends is replaced.
 * @throws RecadoError `port_in_use`, `listen_failed`
 */
export async function startProcesses(
  databaseUrl: string,
  { http, relay, stream }: Pick<Settings, 'http' | 'relay' | 'stream'>,
  log: Log,
): Promise<Listening & { drain(): Promise<void>; close(): Promise<void> }> {
  const server = createDoorway();
  const states = new Map<number, WorkerState>();
  // A connection handed to a worker that has not joined is lost, and a stock client waits 20 s for an answer. Closing
  // the connection makes it retry at once.
  server.on('connection', (socket) => {
    if (states.size === 0) socket.destroy();
  });
  // The library's type asks for an HTTP server, but it only listens for connections.
  sticky.setupMaster(server as HttpServer, { loadBalancingMethod: 'least-connection' });
  // The first process logs its refusals; no metrics include them.
  watchDoorway(server, http, new Refusals(log, createMetrics()));
  const listening = await listen(server, http);
  const reader = await startSharedReader(databaseUrl, { relay, stream }, log);
  const aggregator = new AggregatorRegistry();
  let closing = false;
  const vacated = new Set<number>();
  /** Closes the port once no worker has polling clients: their requests come through it. */
  const closePort = () => {
    if (closing && [...states.keys()].every((id) => vacated.has(id))) server.close();
  };

  cluster.setupPrimary({ serialization: 'advanced' });
  cluster.on('message', (worker, message: unknown) => {
    if (!isMessage(message)) return;
    if (message.recado === 'state') {
      if (!states.has(worker.id)) countConnections(worker, 0);
      states.set(worker.id, message.state);
    }
    if (message.recado === 'question') void reply(worker, message);
    if (message.recado === 'vacated') {
      vacated.add(worker.id);
      closePort();
    }
  });
  cluster.on('exit', (worker, code, signal) => {
    states.delete(worker.id);
    closeUndelivered(worker);
    closePort();
    if (closing) return;
    log.say('worker_ended', { pid: worker.process.pid ?? 0, how: signal ?? `exit code ${code}` });
    setTimeout(() => {
      if (!closing) startWorker();
    }, RESTART_AFTER_MS);
  });
  for (let i = 0; i < relay.processes; i += 1) startWorker();

  async function metricsOfAll(): Promise<string> {
    const texts = [aggregator.clusterMetrics(), reader.metrics()];
    const answers = await Promise.all(
      texts.map((text) => text.catch((error: unknown) => `# ${String(error)}\n`)),
    );
    return `${answers.map((text) => text.trimEnd()).join('\n\n')}\n`;
  }

  function stateOfAll(): Awaited<ReturnType<AllProcesses['workers']>> {
    const workers = [...states.values()].map((state) => ({
      ...state,
      listening: state.listening && reader.listening,
    }));
    return { expected: relay.processes, workers };
  }

  const tickets = new TicketBox();
  async function find({ about, details: [first = '', second = ''] }: Question): Promise<string> {
    switch (about) {
      case 'metrics':
        return metricsOfAll();
      case 'workers':
        return JSON.stringify(stateOfAll());
      case 'emitted':
        return JSON.stringify(await askWhoEmitted(first));
      case 'slowest':
        return JSON.stringify(await askWhoIsSlow());
      case 'keep ticket':
        return (await tickets.keep(first, second)) ?? '';
      case 'take ticket':
        return (await tickets.take(first)) ?? '';
    }
  }

  async function reply(worker: Worker, question: Question): Promise<void> {
    const { id } = question;
    const text = await find(question);
    if (worker.isConnected()) worker.send({ recado: 'answer', id, text } satisfies Answer);
  }

  return {
    ...listening,
    async drain() {
      closing = true;
      await endWorkers('SIGTERM', http.drainSeconds * 1_000 + CLOSE_WITHIN_MS);
    },
    async close() {
      closing = true;
      server.close();
      // Last, because the workers take their entries from the reader until they end.
      await endWorkers('SIGINT', CLOSE_WITHIN_MS);
      await Promise.race([reader.close(), sleep(CLOSE_WITHIN_MS, undefined, { ref: false })]);
    },
  };
}

/** @param signal SIGTERM lets the workers drain, SIGINT does not */
async function endWorkers(signal: 'SIGTERM' | 'SIGINT', withinMs: number): Promise<void> {
  const all = Object.values(cluster.workers ?? {}).filter((worker) => worker !== undefined);
  const workers = all.filter((worker) => !worker.isDead());
  const ended = workers.map((worker) => new Promise<void>((resolve) => worker.once('exit', () => resolve())));
  for (const worker of workers) worker.process.kill(signal);
  const late = setTimeout(() => {
    for (const worker of workers) worker.process.kill('SIGKILL');
  }, withinMs);
  await Promise.all(ended);
  clearTimeout(late);
}

/** Counts infinitely many connections for a worker until it has joined, so that it is handed none. */
function startWorker(): void {
  const worker = cluster.fork();
  worker.on('error', (error: NodeJS.ErrnoException) => {
    // The sticky library tells a worker that a client left, even one whose channel is closed because it ends.
    if (error.code !== 'ERR_IPC_CHANNEL_CLOSED' && error.code !== 'EPIPE') throw error;
  });
  countConnections(worker, Number.POSITIVE_INFINITY);
}

/** Sets the sticky library's count: the worker with the fewest clients gets the next connection. */
function countConnections(worker: Worker, clientsCount: number): void {
  Object.assign(worker, { clientsCount });
}

export interface WorkerOptions {
  server: HttpServer;
  io: Pick<Server, 'engine'>;
  metrics: Metrics;
  trace: Trace;
  slowClients: SlowClients;
  state: () => Omit<WorkerState, 'pid'>;
}

/** The worker's side: takes the connections handed to it, and asks the first process about all workers. */
export function joinAsWorker({ server, io, metrics, state, ...memory }: WorkerOptions): AllProcesses & {
  readonly tickets: Tickets;
  vacate(): void;
  close(): void;
  leave(): void;
} {
  // A browser could send another session's requests over a connection that is kept alive.
  server.maxRequestsPerSocket = 1;
  // Node starts the time-outs of headers and requests when a server listens, which this one never does.
  server.emit('listening');
  // The library reads these two fields of Socket.IO's server.
  sticky.setupWorker({ httpServer: server, engine: announceEarly(io.engine) } as unknown as Server);
  endStandIns(server);
  // The constructor registers the listener with which a worker answers the first process.
  new AggregatorRegistry();
  AggregatorRegistry.setRegistries([metrics.registry]);

  let asked = 0;
  const waiting = new Map<number, (text: string) => void>();
  const onMessage = (message: unknown) => {
    if (isMessage(message) && message.recado === 'answer') waiting.get(message.id)?.(message.text);
  };
  process.on('message', onMessage);
  const stopAnswering = answerFirstProcess(memory);
  const report = () => {
    if (!process.connected) return;
    process.send?.({ recado: 'state', state: { pid: process.pid, ...state() } } satisfies Report);
  };
  const reporting = setInterval(report, REPORT_EVERY_MS);
  report();

  async function ask(about: Question['about'], ...details: string[]): Promise<string> {
    asked += 1;
    const id = asked;
    let timer: NodeJS.Timeout | undefined;
    try {
      return await new Promise<string>((resolve, reject) => {
        waiting.set(id, resolve);
        timer = setTimeout(() => reject(new Error('the first process did not answer')), ANSWER_WITHIN_MS);
        process.send?.({ recado: 'question', id, about, details } satisfies Question);
      });
    } finally {
      clearTimeout(timer);
      waiting.delete(id);
    }
  }

  return {
    metrics: () => ask('metrics'),
    // The first process keeps the tickets, since the next connection may reach any worker.
    tickets: {
      keep: async (token, account) => (await ask('keep ticket', token, account)) || null,
      take: async (ticket) => (await ask('take ticket', ticket)) || null,
    },
    async workers() {
      return JSON.parse(await ask('workers'));
    },
    async emitted(event) {
      return JSON.parse(await ask('emitted', event.toString()));
    },
    async slowest() {
      return JSON.parse(await ask('slowest'));
    },
    /** Tells the first process that no client of this worker polls any more. */
    vacate() {
      if (process.connected) process.send?.({ recado: 'vacated' } satisfies Vacated);
    },
    close() {
      clearInterval(reporting);
      process.off('message', onMessage);
      stopAnswering();
    },
    /** Comes last: the channel to the first process would keep this process alive until it is killed. */
    leave() {
      cluster.worker?.disconnect();
    },
  };
}

function isMessage(message: unknown): message is Message {
  return typeof message === 'object' && message !== null && 'recado' in message;
}
