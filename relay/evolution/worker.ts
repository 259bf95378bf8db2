// The worker claims rows of evolution.instances, and opens, reopens or closes their connections. It polls about once a
// second, and at once after a NOTIFY.
import { randomUUID } from 'node:crypto';
import { hostname } from 'node:os';
import type pg from 'pg';
import { startListener } from '../db/listen.ts';
import { errorText } from '../errors.ts';
import type { Log } from '../log.ts';
import { connectInstance, type InstanceConnection } from './connection.ts';
import type { Instance } from './ingest/instance.ts';
import { createStore } from './ingest/store.ts';
import { OutgoingStore } from './outgoing/outgoing.ts';
import type { Pace } from './pace.ts';

export interface EvolutionWorkerOptions {
  pool: pg.Pool;
  /** A direct connection: LISTEN hears nothing behind a transaction pooler. */
  connectionString: string;
  log: Log;
  pace?: Partial<Pace>;
}

export interface EvolutionWorker {
  /** Writes what was received, then releases its instances. Safe at any moment. */
  close(): Promise<void>;
}

const CHANNEL = 'evolution';
const POLL_MS = 1_000;
const PRUNE_MS = 3_600_000;

export async function startEvolutionWorker({
  pool,
  connectionString,
  log,
  pace,
}: EvolutionWorkerOptions): Promise<EvolutionWorker> {
  const store = createStore(pool, { id: randomUUID(), host: hostname(), pid: process.pid });
  const outgoing = new OutgoingStore(pool);
  const connections = new Map<string, InstanceConnection>();
  let closed = false;
  let isDue = false;
  let wake: () => void = () => undefined;

  const pollNow = () => {
    isDue = true;
    wake();
  };
  const listener = startListener({
    databaseUrl: connectionString,
    name: 'recado evolution listen',
    channel: CHANNEL,
    onNotify: pollNow,
    onListening: pollNow,
    log,
  });

  async function poll(): Promise<void> {
    const claimed = new Map((await store.claim()).map((instance) => [instance.id, instance]));
    for (const [id, connection] of connections) {
      const now = claimed.get(id);
      if (now !== undefined && isSame(now, connection.instance)) continue;
      connections.delete(id);
      log.say('evolution_released', { instance: connection.instance.name });
      // Not awaited: other instances must not wait until this one is closed.
      void connection.close().catch(() => undefined);
    }
    for (const [id, instance] of claimed) {
      let connection = connections.get(id);
      if (connection === undefined) {
        log.say('evolution_held', { instance: instance.name });
        connection = connectInstance({ instance, store, outgoing, log, ...(pace && { pace }) });
        connections.set(id, connection);
      }
      if (instance.syncRequest !== null) connection.sync(instance.syncRequest);
      if (instance.hasOutgoing || instance.hasReceipts) connection.send(instance);
    }
  }

  async function run(): Promise<void> {
    let failures = 0;
    let prunedAt = 0;
    while (!closed) {
      isDue = false;
      try {
        await poll();
        if (Date.now() - prunedAt > PRUNE_MS) {
          prunedAt = Date.now();
          await store.prune();
        }
        failures = 0;
      } catch (error) {
        // Connections stay open: what they receive is written when the database is back.
        failures++;
        if (!closed && (failures === 1 || failures % 60 === 0))
          log.say('evolution_turn_failed', { error: errorText(error), failures });
      }
      if (closed || isDue) continue;
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, POLL_MS);
        wake = () => {
          clearTimeout(timer);
          resolve();
        };
      });
      wake = () => undefined;
    }
  }
  const running = run();
  let closing: Promise<void> | null = null;

  return {
    close() {
      closing ??= (async () => {
        closed = true;
        wake();
        await running;
        await listener.close();
        await Promise.all(
          [...connections.values()].map((connection) => connection.close().catch(() => undefined)),
        );
        await store.leave().catch(() => undefined);
      })();
      return closing;
    },
  };
}

// The connection itself writes the other columns.
function isSame(a: Instance, b: Instance): boolean {
  return (
    a.name === b.name &&
    a.host === b.host &&
    a.apiKey === b.apiKey &&
    a.mode === b.mode &&
    a.sourceId === b.sourceId &&
    a.skip.join() === b.skip.join()
  );
}
