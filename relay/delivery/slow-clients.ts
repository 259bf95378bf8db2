// Clients that were closed because they did not read: counted, logged, and remembered for an hour, so that an operator
// sees who they are.
import type { Log } from '../log.ts';
import type { Metrics } from '../metrics.ts';

/** The clients of an account at one address. */
export interface SlowClient {
  /** null if no token was verified yet. */
  readonly account: string | null;
  readonly address: string;
  /** How often they were closed. */
  readonly times: number;
  /** When the last one was closed, in ms since 1970. */
  readonly lastAt: number;
  /** What that one had not read. */
  readonly bytes: number;
}

const REMEMBERED_MS = 60 * 60_000;
const MOST_REMEMBERED = 100;
const MOST_TOLD = 5;

export class SlowClients {
  readonly #log: Log;
  readonly #metrics: Metrics;
  /** The last closed one last. */
  readonly #remembered = new Map<string, SlowClient>();

  constructor(log: Log, metrics: Metrics) {
    this.#log = log;
    this.#metrics = metrics;
  }

  note(client: Pick<SlowClient, 'account' | 'address' | 'bytes'> & { socket?: string }): void {
    this.#metrics.slowConsumers.inc();
    this.#log.say('socket_too_slow', client);
    const { account, address, bytes } = client;
    const key = keyOf(client);
    const times = (this.#remembered.get(key)?.times ?? 0) + 1;
    this.#remembered.delete(key);
    this.#remembered.set(key, { account, address, times, lastAt: Date.now(), bytes });
    const [first] = this.#remembered.keys();
    if (first !== undefined && this.#remembered.size > MOST_REMEMBERED) this.#remembered.delete(first);
  }

  recent(now: number): SlowClient[] {
    return [...this.#remembered.values()].filter(({ lastAt }) => now - lastAt < REMEMBERED_MS);
  }
}

/** Of several processes: those that were closed most often. */
export function slowestClients(clients: readonly SlowClient[]): SlowClient[] {
  const merged = new Map<string, SlowClient>();
  for (const client of clients) {
    const other = merged.get(keyOf(client));
    const latest = other && other.lastAt > client.lastAt ? other : client;
    merged.set(keyOf(client), { ...latest, times: client.times + (other?.times ?? 0) });
  }
  return [...merged.values()].sort((a, b) => b.times - a.times || b.lastAt - a.lastAt).slice(0, MOST_TOLD);
}

function keyOf({ account, address }: Pick<SlowClient, 'account' | 'address'>): string {
  return JSON.stringify([account, address]);
}
