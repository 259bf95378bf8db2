// A connection to Redis (6.2 or newer) or Valkey that reconnects by itself.
//
// One key holds the stream of an installation, so one node of a cluster is enough: the one to which MOVED redirects.
import { once } from 'node:events';
import { createClient } from '@redis/client';
import { within } from '../bounded.ts';
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
/** The channel on which edges ask for a read. */
export const askChannelOf = (address: StreamAddress) => `${keyOf(address)}:ask`;

const CONNECT_WITHIN_MS = 2_000;
/** A connection on which nothing arrives for this long is half-open. */
const SILENT_MS = 5_000;
const PING_EVERY_MS = 1_500;
const LONGEST_PAUSE_MS = 2_000;

function newClient(url: string, name: string) {
  return createClient({
    url,
    name,
    // A command that cannot be sent now would be out of date later.
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
  readonly #address: StreamAddress;
  readonly #name: string;
  readonly #log: Log;
  #client: StreamClient;
  /** The address the client is connected to. */
  #url: string;
  /** Whether the client is connected to a cluster node that MOVED named. */
  #moved = false;
  #broken = false;
  #error = '';
  readonly #closing = new AbortController();

  /** Connects, and retries until it is closed. */
  constructor(address: StreamAddress, name: string, log: Log) {
    this.#address = address;
    this.#name = name;
    this.#log = log;
    this.#url = address.url;
    this.#client = this.#open(address.url);
  }

  get isReady(): boolean {
    return this.#client.isReady;
  }

  /** @throws RecadoError `stream_unreachable` */
  async ready(): Promise<StreamClient> {
    const { signal } = this.#closing;
    if (!signal.aborted && this.#client.isReady) return this.#client;
    try {
      await within(CONNECT_WITHIN_MS, signal, (limited) => once(this.#client, 'ready', { signal: limited }));
    } catch {
      throw this.#unreachable();
    }
    return this.#client;
  }

  /**
   * Runs commands on the key. If another node of the cluster has the key, it runs them there.
   * @throws RecadoError `stream_unreachable`, and the errors of Redis
   */
  async run<T>(commands: (client: StreamClient) => Promise<T>): Promise<T> {
    const client = await this.ready();
    try {
      return await commands(client);
    } catch (error) {
      const node = /^MOVED \d+ (\S*):(\d+)$/.exec(errorText(error));
      if (!node) throw error;
      if (client === this.#client) this.#moveTo(node[1]!, node[2]!);
      return await commands(await this.ready());
    }
  }

  /** Pending commands fail, and so does every call that waits for the connection. */
  close(): void {
    if (this.#closing.signal.aborted) return;
    this.#closing.abort();
    this.#client.destroy();
  }

  #open(url: string): StreamClient {
    const client = newClient(url, this.#name);
    client.on('error', (error: unknown) => {
      if (client === this.#client) this.#onBroken(error);
    });
    client.on('ready', () => {
      if (this.#broken) this.#log.say('stream_connection_back', { name: this.#name });
      this.#broken = false;
    });
    client.connect().catch(() => undefined);
    return client;
  }

  #onBroken(error: unknown): void {
    if (this.#closing.signal.aborted) return;
    this.#error = errorText(error);
    if (!this.#broken) {
      this.#log.say('stream_connection_lost', { name: this.#name, error: this.#error });
    }
    this.#broken = true;
    // This node may be down, and the cluster may have given the key to another one.
    if (this.#moved) this.#replace(this.#address.url, false);
  }

  /** @param host empty if the cluster does not know its own addresses: then the host stays the same */
  #moveTo(host: string, port: string): void {
    const url = new URL(this.#url);
    if (host !== '') url.hostname = host.includes(':') ? `[${host}]` : host;
    url.port = port;
    this.#replace(url.href, true);
  }

  #replace(url: string, moved: boolean): void {
    const before = this.#client;
    this.#moved = moved;
    this.#url = url;
    this.#client = this.#open(url);
    before.destroy();
  }

  #unreachable(): RecadoError {
    const advice = /certificate|SSL|TLS/i.test(this.#error)
      ? 'set NODE_EXTRA_CA_CERTS=/path/to/ca.crt to the authority of its certificate, or correct the host.'
      : 'check host, port, user and password, and that Redis is running.';
    return new RecadoError(
      'stream_unreachable',
      `Redis does not answer at the address in STREAM_URL (${this.#error || 'no connection yet'}): ${advice}`,
    );
  }
}
