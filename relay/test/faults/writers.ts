// Applications that only write to Postgres: short and long transactions, savepoints, rollbacks, bulk changes,
// commits in two phases and asynchronous ones, all on the same rows. They know nothing of the relay.
import { setTimeout as sleep } from 'node:timers/promises';
import type { Chance } from './chance.ts';
import { FIRST_FLICKER, FIRST_NOTE, FIRST_WHISPER } from './database.ts';
import { type Workplace, Writer } from './writer.ts';

/** Beyond what the kernel's buffers between two processes take, and what a relay keeps for a client. */
const FLOOD_EVENTS = 20;

/** All writers, and the rate at which they write. */
export class Writers {
  readonly #writers: Writer[];
  readonly #flooder: Writer;
  readonly #bookkeeper: Writer;
  /** What the database refused, by its code. */
  readonly refusals = new Map<string, number>();
  #pauseMs = 150;
  #running: Promise<void>[] = [];
  #stopping = false;
  #silent = false;
  #booking: Promise<void> = Promise.resolve();

  constructor(
    count: number,
    place: Omit<Workplace, 'lastRow' | 'refusals'>,
    chance: (name: string) => Chance,
  ) {
    const lastRow = { note: FIRST_NOTE, flicker: FIRST_FLICKER, whisper: FIRST_WHISPER };
    const shared = { ...place, lastRow, refusals: this.refusals };
    const writer = (number: number) => new Writer(number, shared, chance(`writer ${number}`));
    this.#writers = Array.from({ length: count }, (_, number) => writer(number));
    this.#flooder = writer(count);
    this.#bookkeeper = writer(count + 1);
  }

  start(): void {
    this.#running = this.#writers.map((writer) => this.#run(writer));
  }

  /** No pauses for a while: enough commits to close the gate. */
  async burst(ms: number): Promise<void> {
    this.#pauseMs = 0;
    await sleep(ms);
    this.#pauseMs = 150;
  }

  /** So much for one account that nobody can hold it for a client that does not read. */
  async flood(account: number): Promise<void> {
    for (let i = 0; i < FLOOD_EVENTS; i += 1) await this.#flooder.flood(account);
  }

  /** Some commits that ask not to wait for the disk. */
  async commitAsynchronously(): Promise<void> {
    for (let i = 0; i < 3; i += 1) await this.#flooder.writeAsynchronously();
  }

  /** 20,000 events in one transaction, one after the other. */
  async writeBook(book: number): Promise<void> {
    this.#booking = this.#booking.then(() => this.#bookkeeper.writeBook(book));
    await this.#booking;
  }

  /** No writer begins a transaction until resume(). */
  pause(): void {
    this.#silent = true;
  }

  resume(): void {
    this.#silent = false;
  }

  /** Resolves when every transaction has ended. */
  async stop(): Promise<void> {
    this.#stopping = true;
    await Promise.all(this.#running);
    await this.#flooder.close();
    await this.#booking;
    await this.#bookkeeper.close();
  }

  async #run(writer: Writer): Promise<void> {
    while (!this.#stopping) {
      await sleep(this.#pauseMs === 0 ? 0 : writer.chance.between(0, 2 * this.#pauseMs));
      while (this.#silent && !this.#stopping) await sleep(5);
      await writer.write(this.#pauseMs === 0);
    }
    await writer.close();
  }
}
