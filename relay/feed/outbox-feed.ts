// The feed that reads relay.events. One per process; it reads for every account.
import type pg from 'pg';
import type { Snapshot } from '../outbox/position.ts';
import type { Feed, FeedListener } from './feed.ts';
import { OutboxReader, type OutboxReaderOptions } from './outbox-reader.ts';
import { PollLoop } from './poll-loop.ts';
import type { RecentEvents } from './recent/recent-events.ts';

export interface OutboxFeedOptions extends OutboxReaderOptions {
  /** Opens a session for reading (openReader). */
  connect: () => Promise<pg.Client>;
}

export class OutboxFeed implements Feed {
  readonly #reader: OutboxReader;
  readonly #loop: PollLoop;

  constructor(options: OutboxFeedOptions) {
    this.#reader = new OutboxReader(options);
    this.#loop = new PollLoop({
      ...options,
      begin: (session) => this.#reader.begin(session),
      poll: (session) => this.#reader.poll(session),
    });
  }

  /** Whether the last poll succeeded. */
  get ready(): boolean {
    return this.#loop.ready;
  }

  get firstRead(): Promise<void> {
    return this.#loop.firstPoll;
  }

  get epoch(): string {
    return this.#reader.epoch;
  }

  get seen(): Snapshot {
    return this.#reader.seen;
  }

  get retentionMs(): number {
    return this.#reader.retentionMs;
  }

  get recent(): RecentEvents {
    return this.#reader.recent;
  }

  start(listener: FeedListener): void {
    this.#reader.listener = listener;
    this.#loop.start();
  }

  /** Polls soon. */
  wake(): void {
    this.#loop.wake();
  }

  read(): Promise<void> {
    return this.#loop.read();
  }

  close(): Promise<void> {
    return this.#loop.close();
  }
}
