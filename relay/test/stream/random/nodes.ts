// Nodes that read the database, and edges that read the stream as well.
import type { OutboxEvent } from '../../../outbox/events.ts';
import { cut, isTooOld, type Snapshot, sees, union, witnessOf } from '../../../outbox/position.ts';
import { judge, type Step } from '../../../stream/rule.ts';
import type { Client, Clients } from './clients.ts';
import { type RandomDatabase, spellEpoch } from './database.ts';
import type { LossyStream } from './lossy-stream.ts';

/** What is tried: the rule, or a mistake in it or around it. */
export interface Tried {
  judge: typeof judge;
  /** What an edge that has read the database takes for seen. */
  cut: typeof cut;
  /** Where a hub's chain goes on when it has dropped what it could not append. */
  afterDrop: (hub: { read: Snapshot; appended: Snapshot }) => Snapshot;
}

export const AS_BUILT: Tried = { judge, cut, afterDrop: ({ read }) => read };

/** What must not happen, counted, and what should come up. */
export interface Findings {
  missing: number;
  twice: number;
  disorder: number;
  /** Resyncs that the promise does not allow. */
  needless: number;
  /** Events of a history that the edge knew to be over. */
  leaked: number;
  handedOn: number;
  gaps: number;
  foreign: number;
  ahead: number;
}

export interface Node {
  epoch: number;
  server: number;
  seen: Snapshot;
  /** Of what it handed on last. */
  batch: readonly OutboxEvent[];
  /** Of an edge: the last entry it took. */
  cursor: number;
}

export class Nodes {
  /** Whoever is connected to them. */
  clients!: Clients;
  readonly #database: RandomDatabase;
  readonly #stream: LossyStream;
  readonly #tried: Tried;
  readonly #found: Findings;

  constructor(database: RandomDatabase, stream: LossyStream, tried: Tried, found: Findings) {
    this.#database = database;
    this.#stream = stream;
    this.#tried = tried;
    this.#found = found;
  }

  newNode(): Node {
    const { epoch, server } = this.#database;
    return {
      epoch,
      server,
      seen: this.#database.currentPosition().seen,
      batch: [],
      cursor: this.#stream.lastId,
    };
  }

  /** Asks the database which it is, and whether what was seen is in its history. */
  ask(node: Node): void {
    const database = this.#database;
    node.server = database.server;
    if (node.epoch === database.epoch && this.#database.isForeign(node.seen, node.batch)) {
      database.startEpoch();
    }
    if (node.epoch !== database.epoch) this.#startOver(node);
  }

  #startOver(node: Node): void {
    const { cursor } = node;
    Object.assign(node, this.newNode(), { cursor });
    for (const client of this.clients.all) if (client.at === node) this.clients.resync(client, node);
  }

  /** Reads the database, and hands on. null: it had to start over. */
  read(node: Node): Step | null {
    const { epoch } = node;
    if (node.server !== this.#database.server) this.ask(node);
    if (node.epoch !== epoch) return null;
    const { seen } = node;
    if (epoch !== this.#database.epoch || isTooOld(seen, this.#database.emptied)) {
      this.#startOver(node);
      return null;
    }
    const events = this.#database.table
      .filter(({ xid }) => !sees(seen, xid))
      .toSorted((a, b) => Number(a.id - b.id));
    let largest = seen.xmax - 1n;
    let { witness } = seen;
    for (const event of events) {
      if (event.xid < largest) continue;
      largest = event.xid;
      witness = witnessOf(event);
    }
    const bound = union(seen, this.#tried.cut(this.#database.snapshot(), largest, witness));
    const step: Step = { seen, bound, events, elsewhere: [] };
    this.#handOn(node, step);
    return step;
  }

  /** @returns whether there was an entry */
  poll(edge: Node): boolean {
    const next = this.#stream.after(edge.cursor);
    if (!next) return false;
    edge.cursor = next.id;
    const { entry } = next;
    let ruling = this.#tried.judge(placeOf(edge), entry);
    if (ruling.is === 'foreign') {
      this.#found.foreign += 1;
      this.ask(edge);
      ruling = this.#tried.judge(placeOf(edge), entry);
    }
    if (ruling.is === 'gap') {
      this.#found.gaps += 1;
      this.read(edge);
    }
    if (ruling.is === 'next') this.#handOn(edge, ruling);
    return true;
  }

  #handOn(node: Node, { seen, bound, events, elsewhere }: Step): void {
    this.#found.handedOn += events.length;
    const { epoch, server, history } = this.#database;
    const knows = node.epoch === epoch && node.server === server;
    if (
      knows &&
      events.some(
        ({ id, capturedAt }) => !history.some((row) => row.id === id && row.capturedAt === capturedAt),
      )
    ) {
      this.#found.leaked += 1;
    }
    const left: Client[] = [];
    for (const client of this.clients.all.filter(({ at }) => at === node)) {
      client.position = { epoch: spellEpoch(node.epoch), seen };
      if (elsewhere === 'all' || elsewhere.includes(client.account)) {
        client.at = null;
        left.push(client);
        continue;
      }
      this.clients.tell(client, events, { seen, bound });
    }
    // Where accounts are elsewhere, the last event of a transaction may be missing, and with it its witness.
    if (elsewhere.length > 0) node.batch = [];
    else if (events.length > 0) node.batch = events;
    node.seen = bound;
    for (const client of left) this.clients.connect(client, node);
  }
}

function placeOf({ epoch, server, seen }: Node): Parameters<typeof judge>[0] {
  return { epoch: spellEpoch(epoch), server: String(server), seen };
}
