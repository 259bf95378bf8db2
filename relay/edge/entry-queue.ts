// Reads the stream ahead of the edge that takes its entries, and finds its place in it again.
import { setTimeout as sleep } from 'node:timers/promises';
import { errorText } from '../errors.ts';
import { backOffMs } from '../feed/poll-loop.ts';
import type { Log } from '../log.ts';
import type { Entry } from '../stream/entry.ts';
import type { EntryReader } from '../stream/reader.ts';

export interface EntryQueueOptions {
  stream: EntryReader;
  /** Whether the edge has had the entry, or what it brings. */
  isOld(entry: Entry): boolean;
  onEntries(): void;
  log: Log;
}

export class EntryQueue {
  readonly #options: EntryQueueOptions;
  readonly #stopping = new AbortController();
  #entries: Entry[] = [];
  #onEmpty: () => void = () => {};
  #isLost = true;
  #running: Promise<void> = Promise.resolve();

  constructor(options: EntryQueueOptions) {
    this.#options = options;
  }

  get length(): number {
    return this.#entries.length;
  }

  /**
   * Begins behind the last entry, or reads the stream as soon as it can be read.
   * Resolves when that is tried, and so before the edge looks where the database is: what comes after is read here.
   */
  async start(): Promise<void> {
    try {
      await this.#options.stream.seek(() => true);
      this.#isLost = false;
    } catch (error) {
      this.#options.log.say('stream_failed', { error: errorText(error), failures: 1 });
    }
    this.#running = this.#run();
  }

  shift(): Entry | undefined {
    const entry = this.#entries.shift();
    if (this.#entries.length === 0) this.#onEmpty();
    return entry;
  }

  /** Nothing came for too long: a stream that was emptied, or replaced by an older copy, says nothing by itself. */
  findPlaceAgain(): void {
    this.#isLost = true;
  }

  async close(): Promise<void> {
    this.#stopping.abort();
    this.#onEmpty();
    await this.#options.stream.close();
    await this.#running;
  }

  async #run(): Promise<void> {
    const { signal } = this.#stopping;
    const { stream, isOld, onEntries, log } = this.#options;
    let failures = 0;
    while (!signal.aborted) {
      try {
        if (this.#isLost) {
          await stream.seek(isOld);
          this.#isLost = false;
        }
        const entries = await stream.next();
        if (failures > 0) log.say('stream_recovered', { failures });
        failures = 0;
        if (entries.length === 0) continue;
        const taken = new Promise<void>((resolve) => {
          this.#onEmpty = resolve;
        });
        this.#entries.push(...entries);
        onEntries();
        await taken;
      } catch (error) {
        if (signal.aborted) return;
        failures += 1;
        this.#isLost = true;
        log.say('stream_failed', { error: errorText(error), failures });
        await sleep(Math.min(backOffMs(failures), 2_000), undefined, { signal }).catch(() => undefined);
      }
    }
  }
}
