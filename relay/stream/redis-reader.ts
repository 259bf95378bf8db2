// Reads an edge's entries from Redis.
import { errorText } from '../errors.ts';
import type { Log } from '../log.ts';
import { type Entry, parseEntry } from './entry.ts';
import type { EntryReader } from './reader.ts';
import { askChannelOf, keyOf, type StreamAddress, type StreamClient, StreamConnection } from './redis.ts';

/** A hub appends more often than this. */
const BLOCK_MS = 1_000;
const PAGE = 20;
/** How many entries back seek() searches: the stream holds about a minute. */
const MOST_LOOKED_AT = 2_000;
const START = '0-0';

interface Message {
  readonly id: string;
  readonly message: Readonly<Record<string, string>>;
}

export class RedisReader implements EntryReader {
  readonly #address: StreamAddress;
  readonly #log: Log;
  /** XREAD blocks its connection, so asking needs one of its own. */
  readonly #reading: StreamConnection;
  readonly #asking: StreamConnection;
  #cursor = START;
  #unreadable = false;

  constructor(address: StreamAddress, log: Log) {
    this.#address = address;
    this.#log = log;
    this.#reading = new StreamConnection(address, 'recado-edge', log);
    this.#asking = new StreamConnection(address, 'recado-edge-asks', log);
  }

  async next(): Promise<readonly Entry[]> {
    return this.#reading.run(async (client) => {
      const read = await client.xRead(
        { key: keyOf(this.#address), id: this.#cursor },
        { BLOCK: BLOCK_MS, COUNT: PAGE },
      );
      const messages: readonly Message[] = read?.[0]?.messages ?? [];
      if (messages.length === 0) {
        await this.#noticeOlderStream(client);
        return [];
      }
      this.#cursor = messages.at(-1)!.id;
      return messages.map((message) => this.#parse(message)).filter((entry) => entry !== null);
    });
  }

  async seek(isOld: (entry: Entry) => boolean): Promise<void> {
    const key = keyOf(this.#address);
    let end = '+';
    let last: string | null = null;
    for (let looked = 0; looked < MOST_LOOKED_AT; looked += PAGE) {
      const messages: readonly Message[] = await this.#reading.run(
        async (client) => (await client.xRevRange(key, end, '-', { COUNT: PAGE })) ?? [],
      );
      last ??= messages[0]?.id ?? START;
      for (const message of messages) {
        const entry = this.#parse(message);
        if (!entry || !isOld(entry)) continue;
        this.#cursor = message.id;
        return;
      }
      if (messages.length < PAGE) break;
      end = `(${messages.at(-1)!.id}`;
    }
    this.#cursor = last ?? START;
  }

  ask(): void {
    if (!this.#asking.isReady) return;
    // If nobody hears it, the waiting client only waits a moment longer.
    this.#asking
      .ready()
      .then((client) => client.publish(askChannelOf(this.#address), ''))
      .catch(() => undefined);
  }

  async close(): Promise<void> {
    this.#reading.close();
    this.#asking.close();
  }

  /**
   * After a failover to a replica whose clock or copy is behind, the last id is below the cursor, and no entry would
   * come for a long time. The whole stream is read again then, which does no harm.
   */
  async #noticeOlderStream(client: StreamClient): Promise<void> {
    const key = keyOf(this.#address);
    if ((await client.exists(key)) === 0) {
      this.#cursor = START;
      return;
    }
    const about = await client.xInfoStream(key);
    if (isBelow(String(about['last-generated-id']), this.#cursor)) this.#cursor = START;
  }

  /** null if it cannot be read. It is skipped, and the next entry reveals the gap. */
  #parse({ message }: Message): Entry | null {
    try {
      const entry = parseEntry(message.entry);
      this.#unreadable = false;
      return entry;
    } catch (error) {
      if (!this.#unreadable) this.#log.say('stream_entry_unreadable', { error: errorText(error) });
      this.#unreadable = true;
      return null;
    }
  }
}

/** An id consists of two numbers: milliseconds and a counter. */
function isBelow(a: string, b: string): boolean {
  const [time = 0n, count = 0n] = a.split('-').map(BigInt);
  const [otherTime = 0n, otherCount = 0n] = b.split('-').map(BigInt);
  return time === otherTime ? count < otherCount : time < otherTime;
}
