// Reads entries from the stream ahead of the edge, and finds the edge's place in the stream again after a fault.
import { setTimeout as sleep } from 'node:timers/promises';
import { errorText } from '../errors.ts';
import { backOffMs } from '../feed/poll-loop.ts';
import type { Log } from '../log.ts';
import type { Entry } from '../stream/entry.ts';
import type { EntryReader } from '../stream/reader.ts';

export interface EntryQueueOptions {
  stream: EntryReader;
  /** Whether the edge has already seen what the entry brings. */
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
   * Begins after the last entry, or as soon as the stream can be read. Resolves after the first attempt. The edge reads
   * the database afterwards, so that everything newer arrives here.
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

  /** Called when nothing came for too long: a stream that was emptied, or replaced by an older copy, gives no sign. */
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
