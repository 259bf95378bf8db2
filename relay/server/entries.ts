// Entries between the processes behind one port. The first process reads the database or a stream and hands what it has
// read to the workers, which read the database only for what they missed. Node delivers messages in order, without
// loss.
import cluster, { type Worker } from 'node:cluster';
import { randomBytes } from 'node:crypto';
import type { Backlog, Batch, Feed, FeedListener } from '../feed/feed.ts';
import type { Metrics } from '../metrics.ts';
import type { OutboxEvent, Session } from '../outbox/events.ts';
import { covers, type Snapshot } from '../outbox/position.ts';
import { readServer } from '../outbox/start.ts';
import { type Entry, encodeEntry, LONGEST_ENTRY, parseEntry } from '../stream/entry.ts';
import type { EntryReader } from '../stream/reader.ts';

type Message =
  | { recado: 'entry'; text: string }
  | { recado: 'read' }
  | { recado: 'database read'; reason: string };

/** An edge considers a hub dead after two seconds of silence. */
const BEACON_MS = 1_000;
/** For one worker. A frozen worker gets no more entries, and reads the database once it runs again. */
const MOST_UNSENT = 64 * 1024 * 1024;
/** A worker that waits for the database drops entries beyond this. */
const MOST_UNTAKEN = 64 * 1024 * 1024;
const NEXT_WITHIN_MS = 1_000;

/** The first process's side. */
export class EntryBroadcast implements FeedListener {
  readonly #feed: Feed;
  readonly #stream: EntryReader | null;
  readonly #hub = randomBytes(6).toString('hex');
  readonly #unsent = new Map<number, number>();
  readonly #beacon = setInterval(() => this.#sendEmpty(), BEACON_MS);
  #server = '';
  #number = 0;
  /** The bound of the last entry; null before the first entry of this history. */
  #last: Snapshot | null = null;

  /** @param stream where the feed's own entries come from; null if it reads the database */
  constructor(feed: Feed, stream: EntryReader | null, { edgeReads }: Pick<Metrics, 'edgeReads'>) {
    this.#feed = feed;
    this.#stream = stream;
    cluster.on('message', (_worker, message: unknown) => {
      if (!isMessage(message)) return;
      if (message.recado === 'read') void this.#read();
      if (message.recado === 'database read') edgeReads.inc({ reason: message.reason });
    });
    cluster.on('exit', ({ id }) => this.#unsent.delete(id));
  }

  async beforeBatch(session: Session, events: readonly OutboxEvent[] | null): Promise<void> {
    // Every new session may belong to another server.
    if (events === null) this.#server = await readServer(session);
  }

  onBatch({ seen, bound, events, elsewhere = [] }: Batch): void {
    // A hub's empty entries are few, and one of them may be the answer to a worker that asked.
    const moved = this.#stream !== null && (this.#last === null || !covers(this.#last, bound));
    if (moved || events.length > 0 || elsewhere.length > 0) this.#send(seen, bound, events, elsewhere);
  }

  onBacklog({ seen, bound }: Backlog): void {
    this.#send(seen, bound, [], 'all');
  }

  /** The workers know their own accounts. */
  accounts(): string[] {
    return [];
  }

  onLost(): void {
    this.#last = null;
  }

  close(): void {
    clearInterval(this.#beacon);
  }

  async #read(): Promise<void> {
    if (this.#stream) {
      this.#stream.ask();
      return;
    }
    await this.#feed.read().catch(() => undefined);
    this.#sendEmpty();
  }

  /** Tells the workers that the first process is alive, and how far it has read. */
  #sendEmpty(): void {
    if (this.#feed.ready) this.#send(this.#feed.seen, this.#feed.seen, [], []);
  }

  #send(
    seen: Snapshot,
    bound: Snapshot,
    events: readonly OutboxEvent[],
    elsewhere: Entry['elsewhere'],
  ): void {
    this.#number += 1;
    const entry: Entry = {
      epoch: this.#feed.epoch,
      server: this.#server,
      hub: this.#hub,
      number: this.#number,
      seen: this.#last ?? seen,
      bound,
      events,
      elsewhere,
    };
    this.#last = bound;
    let text = encodeEntry(entry);
    if (text.length > LONGEST_ENTRY) text = encodeEntry({ ...entry, events: [], elsewhere: 'all' });
    for (const worker of Object.values(cluster.workers ?? {})) if (worker) this.#sendTo(worker, text);
  }

  #sendTo(worker: Worker, text: string): void {
    const unsent = this.#unsent.get(worker.id) ?? 0;
    if (!worker.isConnected() || unsent > MOST_UNSENT) return;
    this.#unsent.set(worker.id, unsent + text.length);
    worker.send({ recado: 'entry', text } satisfies Message, () => {
      const before = this.#unsent.get(worker.id);
      if (before !== undefined) this.#unsent.set(worker.id, before - text.length);
    });
  }
}

/** A worker's side: counts a read of the database for what the first process did not tell. */
export function countAtFirstProcess(reason: string): void {
  if (process.connected) process.send?.({ recado: 'database read', reason } satisfies Message);
}

/** A worker's side. */
export function entriesOfFirstProcess(): EntryReader {
  let texts: string[] = [];
  let length = 0;
  let onText: () => void = () => {};
  const onMessage = (message: unknown) => {
    if (!isMessage(message) || message.recado !== 'entry') return;
    length += message.text.length;
    // The next entry reveals the gap.
    if (length > MOST_UNTAKEN) take();
    texts.push(message.text);
    onText();
  };
  function take(): string[] {
    const taken = texts;
    texts = [];
    length = 0;
    return taken;
  }
  process.on('message', onMessage);
  return {
    async next() {
      if (texts.length === 0) {
        let timer: NodeJS.Timeout | undefined;
        await new Promise<void>((resolve) => {
          onText = resolve;
          timer = setTimeout(resolve, NEXT_WITHIN_MS);
        });
        clearTimeout(timer);
      }
      return take().map(parseEntry);
    },
    // Nothing to seek: the channel delivers every entry once, in order.
    seek: async () => undefined,
    ask() {
      if (process.connected) process.send?.({ recado: 'read' } satisfies Message);
    },
    async close() {
      process.off('message', onMessage);
      onText();
    },
  };
}

function isMessage(message: unknown): message is Message {
  return typeof message === 'object' && message !== null && 'recado' in message;
}
