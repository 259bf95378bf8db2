// The rows of evolution.instances decide: each turn the worker asks the database what it holds and opens, reopens
// or closes connections accordingly. A turn is about a second, or at once when the doorbell rings.
import { randomUUID } from 'node:crypto';
import { hostname } from 'node:os';
import type pg from 'pg';
import pgListen from 'pg-listen';
import { describe } from '../errors.ts';
import type { Log } from '../log.ts';
import { type Connection, openConnection, type Pace } from './connection.ts';
import { createStore, type Instance } from './store.ts';

export interface EvolutionWorkerOptions {
  pool: pg.Pool;
  /** A direct connection: LISTEN is deaf behind a transaction pooler. */
  connectionString: string;
  log: Log;
  pace?: Partial<Pace>;
}

export interface EvolutionWorker {
  /** Writes what was heard, then gives up its instances; safe at any moment. */
  close(): Promise<void>;
}

const CHANNEL = 'evolution';
const TURN_MS = 1_000;
const PRUNE_MS = 3_600_000;

export async function startEvolutionWorker({
  pool,
  connectionString,
  log,
  pace,
}: EvolutionWorkerOptions): Promise<EvolutionWorker> {
  const store = createStore(pool, { id: randomUUID(), host: hostname(), pid: process.pid });
  const connections = new Map<string, Connection>();
  let closed = false;
  let rung = false;
  let wake: () => void = () => undefined;

  const ring = () => {
    rung = true;
    wake();
  };
  const doorbell = listen(connectionString, ring, log);

  async function turn(): Promise<void> {
    const held = new Map((await store.claim()).map((instance) => [instance.id, instance]));
    for (const [id, connection] of connections) {
      const now = held.get(id);
      if (now !== undefined && isSame(now, connection.instance)) continue;
      connections.delete(id);
      log.say('evolution_released', { instance: connection.instance.name });
      // Not waited for: another instance must not wait for this one to end.
      void connection.close().catch(() => undefined);
    }
    for (const [id, instance] of held) {
      let connection = connections.get(id);
      if (connection === undefined) {
        log.say('evolution_held', { instance: instance.name });
        connection = openConnection({ instance, store, log, ...(pace && { pace }) });
        connections.set(id, connection);
      }
      if (instance.syncRequest !== null) connection.sync(instance.syncRequest);
    }
  }

  async function run(): Promise<void> {
    let failures = 0;
    let prunedAt = 0;
    while (!closed) {
      rung = false;
      try {
        await turn();
        if (Date.now() - prunedAt > PRUNE_MS) {
          prunedAt = Date.now();
          await store.prune();
        }
        failures = 0;
      } catch (error) {
        // Connections stay: what they hear waits for the database to come back.
        failures++;
        if (!closed && (failures === 1 || failures % 60 === 0))
          log.say('evolution_turn_failed', { error: describe(error), failures });
      }
      if (closed || rung) continue;
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, TURN_MS);
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
        await doorbell.close();
        await Promise.all(
          [...connections.values()].map((connection) => connection.close().catch(() => undefined)),
        );
        await store.leave().catch(() => undefined);
      })();
      return closing;
    },
  };
}

// What a connection is made from; the rest of the row is what it reports.
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

function listen(connectionString: string, ring: () => void, log: Log): { close(): Promise<void> } {
  let closed = false;
  const subscriber = pgListen.default<Record<string, string>>(
    {
      connectionString,
      application_name: 'recado evolution doorbell',
      keepAlive: true,
      connectionTimeoutMillis: 5_000,
      query_timeout: 1_000,
    },
    {
      paranoidChecking: 2_000,
      // 0 is for ever; the default gives up after three seconds and stays deaf.
      retryTimeout: 0,
      retryInterval: (attempt) => {
        if (closed) throw new Error('closed while reconnecting');
        return Math.min(5_000, 100 * 2 ** Math.min(attempt, 6)) * (0.5 + Math.random() / 2);
      },
      parse: (text: string) => text,
    },
  );
  const failed = (error: unknown) => {
    if (!closed) log.say('wakeup_failed', { error: describe(error) });
  };
  subscriber.notifications.on(CHANNEL, ring);
  subscriber.events.on('connected', () => {
    if (closed) void subscriber.close().catch(() => undefined);
    else ring();
  });
  subscriber.events.on('error', failed);
  subscriber.listenTo(CHANNEL)?.then(ring, failed);
  subscriber.connect().catch(failed);
  return {
    async close() {
      closed = true;
      await subscriber.close().catch(() => undefined);
    },
  };
}
