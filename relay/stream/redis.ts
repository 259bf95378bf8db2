// A connection to Redis (6.2 or newer) or Valkey that comes back by itself.
//
// One key holds the stream of an installation, so a cluster needs no more than one of its nodes.
import { once } from 'node:events';
import { createClient } from '@redis/client';
import { errorText, RecadoError } from '../errors.ts';
import type { Log } from '../log.ts';

export interface StreamAddress {
  /** redis:// or rediss:// (TLS), with user and password. */
  url: string;
  /** Names the installation, so that two databases may share a Redis. */
  installation: string;
}

export type StreamClient = ReturnType<typeof newClient>;

export const keyOf = ({ installation }: StreamAddress) => `recado:{${installation}}`;
/** On which edges ask for a read. */
export const askChannelOf = (address: StreamAddress) => `${keyOf(address)}:ask`;

const CONNECT_WITHIN_MS = 2_000;
/** A connection on which nothing came for so long is half-open. */
const SILENT_MS = 5_000;
const PING_EVERY_MS = 1_500;
const LONGEST_PAUSE_MS = 2_000;

function newClient({ url }: StreamAddress, name: string) {
  return createClient({
    url,
    name,
    // What cannot be sent now is wrong later: entries are dropped or made anew.
    disableOfflineQueue: true,
    pingInterval: PING_EVERY_MS,
    disableClientInfo: true,
    maintNotifications: 'disabled',
    socket: {
      connectTimeout: CONNECT_WITHIN_MS,
      socketTimeout: SILENT_MS,
      reconnectStrategy: (retries) =>
        Math.min(LONGEST_PAUSE_MS, 50 * 2 ** Math.min(retries, 6)) * (0.5 + Math.random() / 2),
    },
  });
}

export class StreamConnection {
  readonly #client: StreamClient;
  #error = '';
  #closed = false;

  /** Connects, and does so again for as long as it takes. */
  constructor(address: StreamAddress, name: string, log: Log) {
    this.#client = newClient(address, name);
    let broken = false;
    this.#client.on('error', (error: unknown) => {
      this.#error = errorText(error);
      if (!broken && !this.#closed) log.say('stream_connection_lost', { name, error: this.#error });
      broken = true;
    });
    this.#client.on('ready', () => {
      if (broken) log.say('stream_connection_back', { name });
      broken = false;
    });
    this.#client.connect().catch(() => undefined);
  }

  get isReady(): boolean {
    return this.#client.isReady;
  }

  /** @throws RecadoError `stream_unreachable` */
  async ready(): Promise<StreamClient> {
    if (this.#closed) throw this.#unreachable();
    if (this.#client.isReady) return this.#client;
    try {
      await once(this.#client, 'ready', { signal: AbortSignal.timeout(CONNECT_WITHIN_MS) });
    } catch {
      throw this.#unreachable();
    }
    return this.#client;
  }

  /** What is under way fails. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#client.destroy();
  }

  #unreachable(): RecadoError {
    return new RecadoError(
      'stream_unreachable',
      `Redis does not answer at the address in STREAM_URL (${this.#error || 'no connection yet'}): check host, port, user and password, and that it runs.`,
    );
  }
}
