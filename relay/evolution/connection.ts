// One instance: subscribe, connect, catch up, listen. After a failure it starts over, until the worker closes it.
import { setTimeout as delay } from 'node:timers/promises';
import { errorText } from '../errors.ts';
import type { Log } from '../log.ts';
import { createApi } from './api/api.ts';
import { EvolutionError } from './api/request.ts';
import { type EvolutionSocket, openSocket } from './api/socket.ts';
import { createGaps } from './ingest/gaps.ts';
import type { ConnectionStatus, Instance } from './ingest/instance.ts';
import type { Store } from './ingest/store.ts';
import { createWriteQueue } from './ingest/write-queue.ts';
import type { OutgoingStore } from './outgoing/outgoing.ts';
import { createSender } from './outgoing/sender.ts';
import { PACE, type Pace } from './pace.ts';
import { createReader } from './reader.ts';

export interface InstanceConnection {
  /** The row from which the connection was made. */
  readonly instance: Instance;
  /** Reads everything over REST and writes the outcome to the request. */
  sync(request: string): void;
  /** Sends the messages that wait, and tells WhatsApp which chats the team has read. */
  send(may: Pick<Instance, 'maySend' | 'mayMarkRead' | 'sendsPerMinute'>): void;
  close(): Promise<void>;
}

export interface ConnectInstanceOptions {
  instance: Instance;
  store: Store;
  outgoing: OutgoingStore;
  log: Log;
  pace?: Partial<Pace>;
}

export function connectInstance(options: ConnectInstanceOptions): InstanceConnection {
  const { instance: row, store, outgoing, log, pace: given } = options;
  const pace = { ...PACE, ...given };
  const instance = { ...row };
  // Closing has two steps: hang up (receive no more), then abort (write no more).
  const hangUp = new AbortController();
  const abort = new AbortController();
  const { signal } = abort;
  const api = createApi({
    host: instance.host,
    instance: instance.name,
    apiKey: instance.apiKey,
    signal,
    timeoutMs: pace.requestMs,
  });
  let status: ConnectionStatus | null = null;
  let said: Promise<void> = Promise.resolve();
  let syncing: string | null = null;

  const sender = createSender({
    instance,
    api,
    store,
    outgoing,
    unsureMs: pace.unsureMs,
    log,
    signal: hangUp.signal,
  });
  const nextReading = createGaps({
    read: () => reader.readNext(),
    isRefused(error) {
      log.say('evolution_catch_up_failed', { instance: instance.name, error: errorText(error) });
      return error instanceof EvolutionError && error.code !== 'evolution_unreachable';
    },
    pause: (failures) => pause(backoff(failures)),
    signal: hangUp.signal,
  });
  const queue = createWriteQueue({ instance, store, log, signal, overflowed: () => void readGap() });
  const reader = createReader({ instance, api, store, queue, log, pace, signal });

  /** Writes the status to the log and to the row. Writes run in their order, so the newest status stays. */
  function say(next: ConnectionStatus, reason: string | null = null): Promise<void> {
    if (hangUp.signal.aborted) return said;
    if (next !== status)
      log.say('evolution_status', { instance: instance.name, status: next, reason: reason ?? '' });
    status = next;
    said = said.then(() => store.setStatus(instance, next, reason)).catch(failedToWrite);
    return said;
  }

  function failedToWrite(error: unknown): void {
    if (!signal.aborted)
      log.say('evolution_write_failed', { instance: instance.name, error: errorText(error), failures: 1 });
  }

  /** Catches up. Events wait for it, for a limited time: a first reading may take minutes. */
  function readGap(): Promise<void> {
    const gap = nextReading();
    queue.waitFor(gap);
    return gap;
  }

  function backoff(failures: number): number {
    return (
      Math.min(pace.slowestMs, pace.retryMs * 2 ** Math.min(failures - 1, 12)) * (0.5 + Math.random() / 2)
    );
  }

  async function pause(ms: number): Promise<void> {
    await delay(ms, undefined, { signal: hangUp.signal }).catch(() => undefined);
  }

  /** Listens until the connection is lost; resolves with the reason. */
  async function listen(subscription: string): Promise<string> {
    const socket = openSocket({
      host: instance.host,
      instance: instance.name,
      apiKey: instance.apiKey,
      mode: instance.mode,
      timeoutMs: pace.requestMs,
      namespaceMs: pace.namespaceMs,
      signal: hangUp.signal,
      connected(namespace) {
        if (namespace === 'own' || instance.mode === 'global') void say('connected');
        else if (status !== 'connected') void say('waiting', WAITING);
        // The event that created the namespace was emitted before anyone could listen.
        void readGap();
      },
      waiting() {
        if (status !== 'connected') void say('waiting', WAITING);
      },
      heard(event, payload, namespace) {
        const isOurs = queue.receive(event, payload, namespace);
        if (isOurs && namespace === 'root' && status !== 'connected') void say('connected');
      },
    });
    const over = new AbortController();
    void every(pace.safetyMs, over.signal, () => void readGap());
    void every(pace.lookMs, over.signal, () => look(subscription, socket));
    const reason = await socket.lost;
    over.abort();
    return reason;
  }

  /** Checks that the server still emits what was subscribed, and subscribes again if not. */
  async function look(subscription: string, socket: EvolutionSocket): Promise<void> {
    try {
      if ((await api.subscription()) === subscription) return;
      log.say('evolution_subscribed_again', { instance: instance.name });
      // Events that the server did not emit are read before new ones are written.
      const gap = api.subscribe().then(readGap);
      queue.waitFor(gap);
      await gap;
    } catch (error) {
      // The instance is gone or its key changed: the next attempt to subscribe writes that to the row.
      const isRefusal = error instanceof EvolutionError && error.code !== 'evolution_unreachable';
      if (isRefusal) socket.letGo(error.message);
    }
  }

  async function run(): Promise<void> {
    await store.requeueSyncs(instance).catch(failedToWrite);
    for (let failures = 0; !hangUp.signal.aborted; ) {
      const began = Date.now();
      try {
        if (failures === 0) await say('connecting');
        if (await api.subscribe()) {
          const reason = await listen(await api.subscription());
          if (hangUp.signal.aborted) return;
          failures = Date.now() - began > 10_000 ? 1 : failures + 1;
          await say('unreachable', `the connection was lost: ${reason}`);
          await pause(backoff(failures));
        } else {
          await say('polling', 'websockets are switched off on the server (WEBSOCKET_ENABLED)');
          await readGap();
          failures = 1;
          await pause(pace.pollMs);
        }
      } catch (error) {
        if (hangUp.signal.aborted) return;
        const code = error instanceof EvolutionError ? error.code : 'evolution_unreachable';
        await say(STATUS_OF[code], errorText(error));
        failures++;
        await pause(
          code === 'evolution_unreachable' ? backoff(failures) : pace.refusedMs * (0.5 + Math.random() / 2),
        );
      }
    }
  }

  async function sync(request: string): Promise<void> {
    if (!(await store.startSync(request))) return;
    try {
      const { created, updated } = await reader.readAll();
      await store.finishSync(request, { created: created.size, updated: updated.size });
    } catch (error) {
      if (signal.aborted) return;
      const code = error instanceof EvolutionError ? error.code : 'sync_failed';
      await store.finishSync(request, { code, error: errorText(error) });
    }
  }

  const running = run().catch(failedToWrite);

  return {
    instance: row,
    sync(request) {
      if (syncing === request) return;
      syncing = request;
      void sync(request)
        .catch(failedToWrite)
        .finally(() => {
          syncing = null;
        });
    },
    send: (may) => sender.wake(may),
    async close() {
      hangUp.abort();
      // Time to write what was received. The rest is read again at the next catch-up.
      const done = Promise.all([queue.drained(), sender.idle()]);
      await Promise.race([done, delay(3_000, undefined, { signal })]);
      abort.abort();
      queue.close();
      await running;
      await said;
      await reader.idle();
      await store.setDisconnected(instance).catch(() => undefined);
    },
  };
}

/** Runs repeatedly until the signal, with a pause before each run. */
async function every(ms: number, signal: AbortSignal, run: () => void | Promise<void>): Promise<void> {
  while (!signal.aborted) {
    await delay(ms, undefined, { signal }).catch(() => undefined);
    if (!signal.aborted) await run();
  }
}

const WAITING = 'the namespace appears with the first event the server emits since its start';

const STATUS_OF: Record<EvolutionError['code'], ConnectionStatus> = {
  evolution_unauthorized: 'unauthorized',
  evolution_not_found: 'not_found',
  evolution_refused: 'refused',
  evolution_unreachable: 'unreachable',
};
