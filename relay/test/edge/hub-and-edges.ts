// Edges and hubs in this process, with a stream between them that can be away, and a database for each test of a file.
import type pg from 'pg';
import { createReaderPool, openReader } from '../../db/connect.ts';
import { EdgeFeed } from '../../edge/edge-feed.ts';
import type { Batch, FeedListener } from '../../feed/feed.ts';
import { OutboxFeed } from '../../feed/outbox-feed.ts';
import { createLog } from '../../log.ts';
import { createMetrics } from '../../metrics.ts';
import type { OutboxEvent, Session } from '../../outbox/events.ts';
import { covers, parsePosition, type Snapshot } from '../../outbox/position.ts';
import { readServer } from '../../outbox/start.ts';
import type { Entry } from '../../stream/entry.ts';
import type { EntryReader } from '../../stream/reader.ts';
import { ends } from '../ends.ts';
import { Link } from '../faults/links.ts';
import { type Database, deadPort, freshDatabase, until } from '../world.ts';

export const silent = createLog(process.env.TEST_LOG ? 'debug' : 'silent', false);
export const LIMITS = {
  recent: { bytes: 64 * 1024 * 1024, events: 100_000 },
  page: { events: 5_000, bytes: 32 * 1024 * 1024, payloadBytes: 4 * 1024 * 1024 },
};
export let database: Database;

beforeEach(async () => {
  database = await freshDatabase();
  await database.query(`select relay.publish('item')`);
});

afterEach(async () => {
  await database.close();
});

/** What hubs append to and edges read. */
export class Stream {
  readonly entries: Entry[] = [];
  away = false;
  asked = 0;
  onAsk: () => void = () => {};
  #waiting = new Set<() => void>();

  append(entry: Entry): void {
    // Each is another one, also where it repeats one.
    this.entries.push({ ...entry });
    for (const wake of this.#waiting) wake();
  }

  /** Removes all of it. */
  flush(): void {
    this.entries.splice(0);
  }

  reader(): EntryReader {
    let last: Entry | null = null;
    let closed = false;
    const wakes = this.#waiting;
    const check = () => {
      if (this.away || closed) throw new Error('The stream is away.');
    };
    return {
      next: async () => {
        check();
        const behind = last ? this.entries.indexOf(last) + 1 : 0;
        const entries = this.entries.slice(behind, behind + 10);
        last = entries.at(-1) ?? last;
        if (entries.length > 0) return entries;
        let wake!: () => void;
        const woken = new Promise<void>((resolve) => {
          wake = resolve;
        });
        wakes.add(wake);
        const timer = setTimeout(wake, 100);
        await woken;
        clearTimeout(timer);
        wakes.delete(wake);
        return [];
      },
      seek: async (isOld) => {
        check();
        last = this.entries.findLast(isOld) ?? this.entries.at(-1) ?? null;
      },
      ask: () => {
        this.asked += 1;
        this.onAsk();
      },
      close: async () => {
        closed = true;
        for (const wake of wakes) wake();
      },
    };
  }
}

/** Reads the database and appends, as often as it is told to; a beacon every half second. */
export class Hub implements FeedListener {
  readonly feed: OutboxFeed;
  readonly #stream: Stream;
  readonly #name: string;
  #server = '';
  #number = 0;
  #last: Snapshot | null = null;
  #epoch = '';
  /** What becomes of each entry on its way. */
  send: (entry: Entry) => void;
  beacon = setInterval(() => this.appendNothing(), 500);

  constructor(stream: Stream, name: string) {
    this.#stream = stream;
    this.#name = name;
    this.send = (entry) => this.#stream.append(entry);
    this.feed = new OutboxFeed({
      connect: () => openReader({ url: database.url, name: 'hub', queryTimeoutMs: 15_000 }),
      ...LIMITS,
      log: silent,
      metrics: createMetrics(),
    });
  }

  static async start(stream: Stream, name = 'h1'): Promise<Hub> {
    const hub = new Hub(stream, name);
    ends.push(() => hub.close());
    hub.feed.start(hub);
    await hub.feed.firstRead;
    return hub;
  }

  async beforeBatch(session: Session): Promise<void> {
    this.#server = await readServer(session);
  }

  onBatch({ epoch, bound, events }: Batch): void {
    if (epoch !== this.#epoch) this.#last = null;
    this.#epoch = epoch;
    const seen = this.#last ?? bound;
    if (events.length === 0 && this.#last && covers(this.#last, bound)) return;
    this.#append(seen, bound, events);
  }

  appendNothing(): void {
    if (this.#last) this.#append(this.#last, this.#last, []);
  }

  onBacklog({ seen, bound, epoch }: { seen: Snapshot; bound: Snapshot; epoch: string }): void {
    this.#epoch = epoch;
    this.#append(this.#last ?? seen, bound, [], 'all');
  }

  accounts(): string[] {
    return [];
  }

  onLost(): void {
    this.#last = null;
  }

  #append(
    seen: Snapshot,
    bound: Snapshot,
    events: readonly OutboxEvent[],
    elsewhere: Entry['elsewhere'] = [],
  ): void {
    this.#number += 1;
    const { epoch } = this.feed;
    this.#last = bound;
    this.send({
      epoch,
      server: this.#server,
      hub: this.#name,
      number: this.#number,
      seen,
      bound,
      events,
      elsewhere,
    });
  }

  async close(): Promise<void> {
    clearInterval(this.beacon);
    await this.feed.close();
  }
}

/** An edge and what it handed on. */
export class Edge implements FeedListener {
  readonly feed: EdgeFeed;
  readonly metrics = createMetrics();
  readonly batches: Batch[] = [];
  readonly lost: string[] = [];
  readonly asked: (readonly OutboxEvent[] | null)[] = [];
  backlogs = 0;
  readonly pool: pg.Pool;

  constructor(stream: Stream, url: string) {
    this.pool = createReaderPool({ url, name: 'edge', max: 1, queryTimeoutMs: 5_000, log: silent });
    this.feed = new EdgeFeed({
      stream: stream.reader(),
      pool: this.pool,
      ...LIMITS,
      log: silent,
      metrics: this.metrics,
      onDatabaseRead: (reason) => this.metrics.edgeReads.inc({ reason }),
    });
  }

  static async start(stream: Stream, url = database.url): Promise<Edge> {
    const edge = new Edge(stream, url);
    ends.push(async () => {
      await edge.feed.close();
      await edge.pool.end();
    });
    edge.feed.start(edge);
    await edge.feed.firstRead;
    return edge;
  }

  async beforeBatch(_: Session, events: readonly OutboxEvent[] | null): Promise<void> {
    this.asked.push(events);
  }

  onBatch(batch: Batch): void {
    const before = this.batches.at(-1);
    if (before && before.epoch === batch.epoch) expect(covers(batch.bound, before.bound)).toBe(true);
    if (batch.events.length > 0) this.batches.push(batch);
  }

  onBacklog(): void {
    this.backlogs += 1;
  }

  accounts(): string[] {
    return ['acme'];
  }

  onLost(reason: string): void {
    this.lost.push(reason);
  }

  get payloads(): unknown[] {
    return this.batches.flatMap(({ events }) => events.map(({ payload }) => JSON.parse(payload ?? 'null')));
  }

  async reads(reason: string): Promise<number> {
    const { values } = await this.metrics.edgeReads.get();
    return values.find(({ labels }) => labels.reason === reason)?.value ?? 0;
  }

  async hears(count: number): Promise<unknown[]> {
    await until(
      `an edge hands on ${count} events, not ${JSON.stringify(this.payloads)}`,
      () => this.payloads.length >= count,
    );
    return this.payloads;
  }
}

/** What the database shows now, as relay.position() says it. */
export async function positionNow(): Promise<Snapshot> {
  const [row] = await database.query<{ position: string }>('select relay.position() as position');
  return parsePosition(row!.position)!.seen;
}

export async function linkToDatabase(): Promise<Link> {
  const link = await Link.to(Number(new URL(database.url).port));
  ends.push(() => link.close());
  return link;
}

export async function refuse(link: Link): Promise<void> {
  link.point(await deadPort());
  link.cut();
}

export function accept(link: Link): void {
  link.point(Number(new URL(database.url).port));
}

export async function emit(...payloads: unknown[]): Promise<void> {
  for (const payload of payloads) {
    await database.query(`select relay.emit('acme', 'item', $1)`, [JSON.stringify(payload)]);
  }
}
