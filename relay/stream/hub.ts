// A hub turns its feed into a chain of entries, each starting at the bound of the one before.
//
// Of several hubs one appends. The others make equivalent entries, keep them until the stream has them, and append them
// if the stream falls silent. There is no fencing, and none is needed: two hubs that append at once do no harm.
import { setTimeout as sleep } from 'node:timers/promises';
import { errorText } from '../errors.ts';
import type { Log } from '../log.ts';
import type { Metrics } from '../metrics.ts';
import type { OutboxEvent } from '../outbox/events.ts';
import { covers, type Snapshot } from '../outbox/position.ts';
import { type Entry, encodeEntry } from './entry.ts';
import { fitEntry } from './fit-entry.ts';

export interface HubOptions {
  /** Of two hubs the older one appends: its name sorts first. */
  name: string;
  append: (entries: readonly string[]) => Promise<void>;
  /** Resolves after a read of the database that began after the call. */
  read: () => Promise<void>;
  log: Log;
  metrics: Metrics;
}

/** What the feed has read, and from which run of the server. */
export interface HubStep {
  readonly epoch: string;
  readonly server: string;
  readonly seen: Snapshot;
  readonly bound: Snapshot;
  readonly events: readonly OutboxEvent[];
  /** There were too many events to read, so every account reads its own from the table. */
  readonly backlog: boolean;
}

/** Shortest interval between entries without events. */
const EMPTY_EVERY_MS = 100;
/** An edge considers a hub dead after two seconds without an entry. */
const BEACON_MS = 500;
/** A standby hub takes over after this time without an entry from an older hub. */
const SILENT_MS = 1_000;
const LOOK_EVERY_MS = 200;
/** Limits for keeping entries that cannot be appended. */
const KEPT_MS = 3_000;
const MOST_KEPT_BYTES = 32 * 1024 * 1024;
const AT_ONCE = 64;
const RETRY_MS = 100;
/** Shortest interval between two answers, however many edges ask. */
const ANSWER_EVERY_MS = 20;

interface Pending {
  readonly bound: Snapshot;
  readonly text: string;
  readonly madeAt: number;
}

export class Hub {
  readonly #options: HubOptions;
  #history: Pick<HubStep, 'epoch' | 'server'> | null = null;
  /** The bound of the last entry that was made. */
  #made: Snapshot | null = null;
  /** The bound of the last read. */
  #read: Snapshot | null = null;
  #number = 0;
  #pending: Pending[] = [];
  #bytes = 0;
  #madeAt = 0;
  #beaconIsDue = false;
  /** When an older hub last appended. A new hub assumes that there is one. */
  #elderAt = Date.now();
  #appends = false;
  #appending: Promise<void> | null = null;
  #asked = false;
  #answering: Promise<void> | null = null;
  #emptyTimer: NodeJS.Timeout | undefined;
  readonly #beacon: NodeJS.Timeout;
  #closed = false;

  constructor(options: HubOptions) {
    this.#options = options;
    this.#beacon = setInterval(() => void this.#onBeacon(), LOOK_EVERY_MS);
  }

  /** Whether it appends; otherwise it stands by. */
  get appends(): boolean {
    return this.#appends;
  }

  /** Takes a read of the feed, also one that found nothing. */
  take(step: HubStep): void {
    const { epoch, server, seen, bound, events, backlog } = step;
    if (this.#made === null || this.#history?.epoch !== epoch || this.#history.server !== server) {
      this.#drop();
      this.#history = { epoch, server };
      this.#made = seen;
    }
    this.#read = bound;
    if (events.length > 0 || backlog) this.#make(events, backlog);
    else if (!covers(this.#made, bound)) this.#makeEmptySoon();
  }

  /** The feed has started over: earlier reads belong to another history, or there is a gap. */
  startOver(): void {
    this.#drop();
    this.#made = null;
  }

  /** An edge asks for a read, because one of its clients is ahead of it. */
  ask(): void {
    if (!this.#appends) return;
    this.#asked = true;
    this.#answering ??= this.#answer().finally(() => {
      this.#answering = null;
    });
  }

  /** An entry was appended to the stream, by this hub or another. */
  onEntry({ hub, epoch, server, bound }: Entry): void {
    if (hub === this.#options.name) return;
    if (epoch !== this.#history?.epoch || server !== this.#history.server) return;
    if (hub < this.#options.name) this.#elderAt = Date.now();
    this.#pending = this.#pending.filter((entry) => !covers(bound, entry.bound));
    this.#bytes = this.#pending.reduce((bytes, { text }) => bytes + text.length, 0);
  }

  async close(): Promise<void> {
    this.#closed = true;
    clearInterval(this.#beacon);
    clearTimeout(this.#emptyTimer);
    await this.#appending;
  }

  #make(events: readonly OutboxEvent[], backlog: boolean): void {
    const { name } = this.#options;
    if (this.#history === null || this.#made === null || this.#read === null || this.#closed) return;
    clearTimeout(this.#emptyTimer);
    this.#emptyTimer = undefined;
    this.#number += 1;
    const content = backlog ? { events: [], elsewhere: 'all' as const } : fitEntry(events);
    const entry = { ...this.#history, hub: name, number: this.#number, seen: this.#made, bound: this.#read };
    const text = encodeEntry({ ...entry, ...content });
    this.#made = this.#read;
    this.#madeAt = Date.now();
    this.#pending.push({ bound: this.#read, text, madeAt: this.#madeAt });
    this.#bytes += text.length;
    if (this.#bytes > MOST_KEPT_BYTES) this.#drop('more than is kept');
    this.#start();
  }

  #makeEmptySoon(): void {
    this.#emptyTimer ??= setTimeout(() => this.#makeEmpty(), this.#madeAt + EMPTY_EVERY_MS - Date.now());
  }

  #makeEmpty(): void {
    this.#make([], false);
  }

  /** Sends a beacon only after a read: a hub whose database does not answer must not look healthy. */
  async #onBeacon(): Promise<void> {
    this.#start();
    if (this.#beaconIsDue || Date.now() - this.#madeAt < BEACON_MS) return;
    this.#beaconIsDue = true;
    // The feed logs its failures.
    await this.#options.read().catch(() => {
      this.#beaconIsDue = false;
    });
    if (this.#beaconIsDue && Date.now() - this.#madeAt >= BEACON_MS) this.#makeEmpty();
    this.#beaconIsDue = false;
  }

  async #answer(): Promise<void> {
    while (this.#asked && !this.#closed) {
      this.#asked = false;
      await this.#options.read().then(
        () => this.#makeEmpty(),
        () => undefined,
      );
      await sleep(ANSWER_EVERY_MS);
    }
  }

  #start(): void {
    const appends = Date.now() - this.#elderAt > SILENT_MS;
    if (appends !== this.#appends) {
      this.#options.log.say('hub_role', { role: appends ? 'appends' : 'stands by' });
      this.#options.metrics.hubAppends.set(appends ? 1 : 0);
    }
    this.#appends = appends;
    if (!appends) this.#forgetOld();
    else if (!this.#appending && this.#pending.length > 0) {
      this.#appending = this.#append().finally(() => {
        this.#appending = null;
      });
    }
  }

  async #append(): Promise<void> {
    const { append, metrics } = this.#options;
    while (this.#appends && this.#pending.length > 0 && !this.#closed) {
      const entries = this.#pending.slice(0, AT_ONCE);
      try {
        await append(entries.map(({ text }) => text));
      } catch (error) {
        const [oldest] = this.#pending;
        if (oldest && Date.now() - oldest.madeAt > KEPT_MS) this.#drop(errorText(error));
        await sleep(RETRY_MS);
        continue;
      }
      const done = new Set(entries);
      this.#pending = this.#pending.filter((entry) => !done.has(entry));
      this.#bytes = this.#pending.reduce((bytes, { text }) => bytes + text.length, 0);
      metrics.entriesAppended.inc(entries.length);
      metrics.bytesAppended.inc(entries.reduce((bytes, { text }) => bytes + text.length, 0));
    }
  }

  /** Continues the chain from the last read, so that the next entry reveals the gap. */
  #drop(error?: string): void {
    const entries = this.#pending.length;
    this.#pending = [];
    this.#bytes = 0;
    this.#made = this.#read;
    if (error === undefined || entries === 0) return;
    this.#options.metrics.entriesDropped.inc(entries);
    this.#options.log.say('hub_dropped', { entries, error });
  }

  /** For a hub that stands by: an older hub may read less often, and what it appends later covers old entries. */
  #forgetOld(): void {
    const oldest = Date.now() - KEPT_MS;
    const kept = this.#pending.filter(({ madeAt }) => madeAt > oldest);
    if (kept.length === this.#pending.length) return;
    this.#pending = kept;
    this.#bytes = kept.reduce((bytes, { text }) => bytes + text.length, 0);
  }
}
