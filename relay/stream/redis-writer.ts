// A hub's side of the stream in Redis: it appends and trims entries, listens for edges that ask for a read, and watches
// what other hubs append.
import { setTimeout as sleep } from 'node:timers/promises';
import type { Log } from '../log.ts';
import type { Entry } from './entry.ts';
import { askChannelOf, keyOf, type StreamAddress, StreamConnection } from './redis.ts';
import { RedisReader } from './redis-reader.ts';

export interface StreamLimits {
  /** Older entries are trimmed. */
  readonly seconds: number;
  /** How much of what this hub has appended is kept. */
  readonly bytes: number;
}

export interface RedisWriterOptions {
  address: StreamAddress;
  limits: StreamLimits;
  /** An edge asks the hub to read now. */
  onAsk: () => void;
  /** An entry was appended, by this hub or another. */
  onEntry: (entry: Entry) => void;
  log: Log;
}

const REST_MS = 500;

export class RedisWriter {
  readonly #options: RedisWriterOptions;
  readonly #writing: StreamConnection;
  readonly #listening: StreamConnection;
  readonly #reader: RedisReader;
  /** What this hub has appended and not yet trimmed, oldest first, and its size. */
  #appended: { id: string; bytes: number }[] = [];
  #bytes = 0;
  #closed = false;

  constructor(options: RedisWriterOptions) {
    const { address, log } = options;
    this.#options = options;
    this.#writing = new StreamConnection(address, 'recado-hub', log);
    this.#listening = new StreamConnection(address, 'recado-hub-listens', log);
    this.#reader = new RedisReader(address, log);
    void this.#listen();
    void this.#watch();
  }

  /** Whether entries can be appended. */
  get isReady(): boolean {
    return this.#writing.isReady;
  }

  /**
   * Appends in this order. If it rejects, some or all entries may have been appended nevertheless.
   * @param entries as encodeEntry() makes them
   */
  async append(entries: readonly string[]): Promise<void> {
    const key = keyOf(this.#options.address);
    const oldest = this.#oldestToKeep();
    const trim = oldest === null ? [] : ['MINID', '~', oldest];
    const ids = await this.#writing.run((client) =>
      Promise.all(entries.map((entry) => client.sendCommand(['XADD', key, ...trim, '*', 'entry', entry]))),
    );
    for (const [index, id] of ids.entries()) {
      const bytes = Buffer.byteLength(entries[index]!);
      this.#appended.push({ id: String(id), bytes });
      this.#bytes += bytes;
    }
  }

  close(): void {
    this.#closed = true;
    this.#writing.close();
    this.#listening.close();
    void this.#reader.close();
  }

  /** By the clock of Redis, which makes the ids. */
  #oldestToKeep(): string | null {
    const { seconds, bytes } = this.#options.limits;
    const newest = this.#appended.at(-1);
    if (!newest) return null;
    const oldestTime = Number(newest.id.split('-')[0]) - seconds * 1_000;
    let gone = 0;
    for (const { id, bytes: size } of this.#appended) {
      if (this.#bytes <= bytes && Number(id.split('-')[0]) >= oldestTime) break;
      this.#bytes -= size;
      gone += 1;
    }
    this.#appended.splice(0, gone);
    return this.#appended[0]?.id ?? newest.id;
  }

  async #listen(): Promise<void> {
    const channel = askChannelOf(this.#options.address);
    await this.#retry(async () => {
      const client = await this.#listening.ready();
      // The client subscribes again by itself when its connection comes back.
      await client.subscribe(channel, () => this.#options.onAsk());
      return 'done';
    });
  }

  async #watch(): Promise<void> {
    await this.#retry(async () => {
      await this.#reader.seek(() => true);
      return 'done';
    });
    await this.#retry(async () => {
      for (const entry of await this.#reader.next()) this.#options.onEntry(entry);
      return 'again';
    });
  }

  /** Failures are logged by the connection. */
  async #retry(work: () => Promise<'done' | 'again'>): Promise<void> {
    while (!this.#closed) {
      try {
        if ((await work()) === 'done') return;
      } catch {
        await sleep(REST_MS);
      }
    }
  }
}
