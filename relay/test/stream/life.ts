// A short random life of a database, two hubs that append to a stream which loses, repeats and reorders, two edges, a
// node that reads the database itself, and clients that hop between them. It knows no time. What an edge does with an
// entry is the rule itself; everything around it is told in as few words as possible.
import type { OutboxEvent } from '../../outbox/events.ts';
import {
  covers,
  cut,
  type Emptied,
  hasSeen,
  horizon,
  isTooOld,
  NOTHING,
  type Position,
  type Snapshot,
  sees,
  union,
  witnessOf,
} from '../../outbox/position.ts';
import { type Entry, encodeEntry, parseEntry } from '../../stream/entry.ts';
import { judge, type Step } from '../../stream/rule.ts';
import { Chance } from '../faults/chance.ts';

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

interface Row extends OutboxEvent {
  /** Two transactions never write one row at a time. */
  readonly row: number;
  readonly captured: number;
  committed: number;
}

interface Database {
  next: number;
  /** The largest transaction of which something is on disk. */
  flushed: number;
  open: { xid: number; rows: Row[] }[];
  table: Row[];
  /** Also those that retention has emptied. */
  history: Row[];
  emptied: (Emptied & { witness: number }) | null;
  epoch: number;
  server: number;
}

interface Node {
  epoch: number;
  server: number;
  seen: Snapshot;
  /** Of what it handed on last. */
  batch: readonly OutboxEvent[];
  /** Of an edge: the last entry it took. */
  cursor: number;
}

interface Hub extends Node {
  readonly name: string;
  /** The bound of what it appended, or is about to. */
  appended: Snapshot;
  pending: Entry[];
  frozen: boolean;
}

interface Client {
  readonly account: string;
  at: Node | null;
  position: Position;
  /** What it loaded. */
  base: Set<OutboxEvent>;
  heard: OutboxEvent[];
}

const ACCOUNTS = ['a', 'b'];
const MOST_TRANSACTIONS = 40;

export class Life {
  readonly found: Findings = {
    ...{ missing: 0, twice: 0, disorder: 0, needless: 0, leaked: 0 },
    ...{ handedOn: 0, gaps: 0, foreign: 0, ahead: 0 },
  };
  readonly #chance: Chance;
  readonly #tried: Tried;
  readonly #withRestore: boolean;
  #database: Database = {
    ...{ next: 1, flushed: 0, open: [], table: [], history: [], emptied: null, epoch: 1, server: 1 },
  };
  #stream: { id: number; entry: Entry }[] = [];
  #lastId = 0;
  #now = 0;
  #ids = 0n;
  #servers = 1;
  #epochs = 1;
  #numbers = 0;
  #copy: Database | null = null;
  #restored = false;
  readonly #hubs: Hub[];
  readonly #edges: Node[];
  readonly #nodes: Node[];
  readonly #clients: Client[];

  constructor(seed: number, tried: Tried, { withRestore }: { withRestore: boolean }) {
    this.#chance = new Chance(seed, 'life');
    this.#tried = tried;
    this.#withRestore = withRestore;
    this.#hubs = ['first', 'second'].map((name) => ({
      ...this.#newNode(),
      ...{ name, appended: NOTHING, pending: [], frozen: name === 'second' },
    }));
    this.#edges = [this.#newNode(), this.#newNode()];
    this.#nodes = [...this.#edges, this.#newNode()];
    this.#clients = [0, 1, 2, 3].map((n) => ({
      ...{ account: ACCOUNTS[n % 2]!, at: null, base: new Set(), heard: [] },
      position: this.#currentPosition(),
    }));
  }

  run(steps: number): Findings {
    for (let step = 0; step < steps; step += 1) {
      this.#now += 1;
      this.#chance.one(this.#deeds)();
    }
    this.#settle();
    this.#compare();
    return this.found;
  }

  /** As often as they stand here. */
  readonly #deeds: readonly (() => void)[] = [
    ...Array<() => void>(30).fill(() => this.#write()),
    ...Array<() => void>(9).fill(() => this.#readAsHub(this.#chance.one(this.#hubs))),
    ...Array<() => void>(9).fill(() => this.#append(this.#chance.one(this.#hubs))),
    ...Array<() => void>(22).fill(() => this.#poll(this.#chance.one(this.#edges))),
    ...Array<() => void>(10).fill(() => this.#hop(this.#chance.one(this.#clients))),
    ...Array<() => void>(4).fill(() => this.#read(this.#nodes[2]!)),
    () => this.#read(this.#chance.one(this.#edges)),
    () => this.#crash(),
    () => this.#empty(),
    () => this.#copyOrRestore(),
    () => this.#freezeOrThaw(),
    () => this.#startHub(this.#chance.one(this.#hubs)),
    () => this.#drop(this.#chance.one(this.#hubs)),
    () => this.#stream.splice(0, this.#chance.between(0, 4)),
    () => this.#repeat(),
    () => this.#failOver(),
    () => this.#flush(),
  ];

  // ---------------------------------------------------------------------------------------------------------
  // The database

  #write(): void {
    const database = this.#database;
    const { open } = database;
    if (open.length < 4 && this.#chance.happens(0.3)) {
      open.push({ xid: 0, rows: [] });
      return;
    }
    if (open.length === 0) return;
    const transaction = this.#chance.one(open);
    if (this.#chance.happens(0.55)) this.#insert(transaction);
    else this.#end(transaction, this.#chance.happens(0.75));
  }

  #insert(transaction: { xid: number; rows: Row[] }): void {
    const database = this.#database;
    if (transaction.xid === 0) {
      if (database.next > MOST_TRANSACTIONS) return;
      transaction.xid = database.next++;
    }
    // Some write nothing that is published.
    if (this.#chance.happens(0.25)) return;
    const row = this.#chance.between(0, 3);
    if (database.open.some((other) => other !== transaction && other.rows.some((held) => held.row === row)))
      return;
    this.#ids += 1n;
    const when = { captured: this.#now, committed: 0, capturedAt: Number(this.#ids) };
    const account = ACCOUNTS[row % 2]!;
    const event = { account, event: 'rows.changed', payload: '1', audience: null, known: true };
    transaction.rows.push({ ...event, ...when, id: this.#ids, xid: BigInt(transaction.xid), row });
  }

  #end(transaction: { xid: number; rows: Row[] }, committed: boolean): void {
    const database = this.#database;
    database.open = database.open.filter((other) => other !== transaction);
    if (!committed || transaction.rows.length === 0) return;
    for (const row of transaction.rows) row.committed = this.#now;
    database.table.push(...transaction.rows);
    database.history.push(...transaction.rows);
    database.flushed = database.next - 1;
  }

  #snapshot(): Snapshot {
    const { next, open } = this.#database;
    const running = open.filter(({ xid }) => xid > 0).map(({ xid }) => BigInt(xid));
    return { xmax: BigInt(next), xip: running.sort((a, b) => Number(a - b)) };
  }

  /** The largest transaction of an event, with its witness. */
  #largest(): { xid: bigint; witness: number } | null {
    const { table, emptied } = this.#database;
    let largest = emptied && { xid: emptied.through, witness: emptied.witness };
    for (const row of table.toSorted((a, b) => Number(a.id - b.id))) {
      if (largest === null || row.xid >= largest.xid) largest = { xid: row.xid, witness: witnessOf(row) };
    }
    return largest;
  }

  /** relay.position() */
  #currentPosition(): Position {
    const largest = this.#largest();
    const seen = largest ? cut(this.#snapshot(), largest.xid, largest.witness) : NOTHING;
    return { epoch: spellEpoch(this.#database.epoch), seen };
  }

  /** Ids of transactions whose end is not on disk are given out again. */
  #crash(): void {
    const database = this.#database;
    database.open = [];
    database.next = database.flushed + 1;
    // A backend that crashes does not end the server.
    if (this.#chance.happens(0.5)) return;
    this.#servers += 1;
    database.server = this.#servers;
  }

  #empty(): void {
    const database = this.#database;
    const { seen } = this.#chance.one(this.#hubs);
    const old = database.table.filter(({ xid, captured }) => sees(seen, xid) && captured < this.#now - 40);
    const last = old.toSorted((a, b) => Number(a.xid - b.xid) || Number(a.id - b.id)).at(-1);
    if (!last || (database.emptied && database.emptied.through > last.xid)) return;
    database.emptied = { through: last.xid, in: this.#snapshot(), witness: witnessOf(last) };
    database.table = database.table.filter((row) => !old.includes(row));
  }

  #copyOrRestore(): void {
    if (!this.#withRestore || this.#restored) return;
    const database = this.#copy ?? this.#database;
    const copy = { ...database, open: [], table: [...database.table], history: [...database.history] };
    if (this.#copy === null) {
      this.#copy = copy;
      return;
    }
    this.#restored = true;
    this.#servers += 1;
    this.#database = { ...copy, flushed: copy.next - 1, server: this.#servers };
  }

  // ---------------------------------------------------------------------------------------------------------
  // Whoever reads the database

  #newNode(): Node {
    const { epoch, server } = this.#database;
    return { epoch, server, seen: this.#currentPosition().seen, batch: [], cursor: this.#lastId };
  }

  /** Asks the database which it is, and whether what was seen is in its history. */
  #ask(node: Node): void {
    const database = this.#database;
    node.server = database.server;
    if (node.epoch === database.epoch && this.#isForeign(node.seen, node.batch)) {
      const largest = this.#largest();
      this.#epochs += 1;
      database.epoch = this.#epochs;
      database.table = [];
      if (largest)
        database.emptied = { through: largest.xid, in: this.#snapshot(), witness: largest.witness };
    }
    if (node.epoch !== database.epoch) this.#startOver(node);
  }

  #startOver(node: Node): void {
    const { cursor } = node;
    Object.assign(node, this.#newNode(), { cursor });
    for (const client of this.#clients) if (client.at === node) this.#resync(client, node);
  }

  #isForeign({ xmax, witness }: Snapshot, batch: readonly OutboxEvent[]): boolean {
    const claims = batch.map((event): [bigint, number] => [event.xid, witnessOf(event)]);
    if (witness !== undefined) claims.push([xmax - 1n, witness]);
    const { table, emptied } = this.#database;
    return [...new Map(claims)].some(([xid, claimed]) => {
      const last = table
        .filter((row) => row.xid === xid)
        .toSorted((a, b) => Number(a.id - b.id))
        .at(-1);
      if (last) return witnessOf(last) !== claimed;
      if (emptied === null) return true;
      return xid === emptied.through ? emptied.witness !== claimed : xid > emptied.through;
    });
  }

  /** Reads the database, and hands on. null: it had to start over. */
  #read(node: Node): Step | null {
    const { epoch } = node;
    if (node.server !== this.#database.server) this.#ask(node);
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
    const bound = union(seen, this.#tried.cut(this.#snapshot(), largest, witness));
    const step: Step = { seen, bound, events, elsewhere: [] };
    this.#handOn(node, step);
    return step;
  }

  // ---------------------------------------------------------------------------------------------------------
  // Hubs, the stream and edges

  #startHub(hub: Hub): void {
    Object.assign(hub, this.#newNode(), { pending: [] });
    const entry = this.#stream.at(-1)?.entry;
    const isOurs =
      entry?.epoch === spellEpoch(hub.epoch) &&
      entry.server === String(hub.server) &&
      !this.#isForeign(entry.bound, []);
    if (entry && isOurs && this.#chance.happens(0.7)) hub.seen = entry.bound;
    hub.appended = hub.seen;
  }

  #readAsHub(hub: Hub): void {
    if (hub.frozen) return;
    const read = this.#read(hub);
    if (!read) {
      hub.appended = hub.seen;
      hub.pending = [];
      return;
    }
    const { events, bound } = this.#putOff(hub, read);
    if (events.length === 0 && covers(hub.appended, bound)) return;
    if (events.length === 0 && this.#chance.happens(0.5)) return;
    const elsewhere = ACCOUNTS.filter(() => this.#chance.happens(0.15));
    this.#numbers += 1;
    hub.pending.push({
      ...{ epoch: spellEpoch(hub.epoch), server: String(hub.server), hub: hub.name },
      ...{ number: this.#numbers, seen: hub.appended, bound, elsewhere },
      events: events.filter(({ account }) => !elsewhere.includes(account!)),
    });
    hub.appended = bound;
  }

  /** A hub may leave a transaction for the next entry, if no other event of this one has an account of it. */
  #putOff(hub: Hub, read: Step): Step {
    const { events, bound } = read;
    const xids = new Set(events.map(({ xid }) => xid).filter((xid) => xid !== bound.xmax - 1n));
    if (xids.size === 0 || this.#chance.happens(0.6)) return read;
    const put = this.#chance.one([...xids]);
    const [later, now] = [true, false].map((is) => events.filter(({ xid }) => (xid === put) === is));
    if (later!.some(({ account }) => now!.some((other) => other.account === account))) return read;
    const xip = [...bound.xip, put].toSorted((a, b) => Number(a - b));
    hub.seen = { ...bound, xip };
    return { ...read, events: now!, bound: hub.seen };
  }

  #append(hub: Hub): void {
    const entry = hub.frozen ? undefined : hub.pending.shift();
    if (entry) this.#add(parseEntry(encodeEntry(withoutTime(entry))));
  }

  #add(entry: Entry): void {
    this.#lastId += 1;
    this.#stream.push({ id: this.#lastId, entry });
  }

  #freezeOrThaw(): void {
    const hub = this.#chance.one(this.#hubs);
    hub.frozen = !hub.frozen;
  }

  /** The stream could not be reached for long. */
  #drop(hub: Hub): void {
    const [first] = hub.pending;
    if (!first) return;
    hub.pending = [];
    hub.appended = this.#tried.afterDrop({ read: hub.seen, appended: first.seen });
  }

  #repeat(): void {
    if (this.#stream.length > 0) this.#add(this.#chance.one(this.#stream).entry);
  }

  /** To a replica that misses the last entries; their ids are given out again. */
  #failOver(): void {
    this.#stream.splice(-this.#chance.between(1, 3));
    this.#lastId = this.#stream.at(-1)?.id ?? 0;
    this.#findPlaces();
  }

  #flush(): void {
    this.#stream = [];
    this.#lastId = 0;
    this.#findPlaces();
  }

  #findPlaces(): void {
    for (const edge of this.#edges) if (edge.cursor > this.#lastId) edge.cursor = 0;
  }

  /** @returns whether there was an entry */
  #poll(edge: Node): boolean {
    const next = this.#stream.find(({ id }) => id > edge.cursor);
    if (!next) return false;
    edge.cursor = next.id;
    const { entry } = next;
    let ruling = this.#tried.judge(placeOf(edge), entry);
    if (ruling.is === 'foreign') {
      this.found.foreign += 1;
      this.#ask(edge);
      ruling = this.#tried.judge(placeOf(edge), entry);
    }
    if (ruling.is === 'gap') {
      this.found.gaps += 1;
      this.#read(edge);
    }
    if (ruling.is === 'next') this.#handOn(edge, ruling);
    return true;
  }

  #handOn(node: Node, { seen, bound, events, elsewhere }: Step): void {
    this.found.handedOn += events.length;
    const { epoch, server, history } = this.#database;
    const knows = node.epoch === epoch && node.server === server;
    if (
      knows &&
      events.some(
        ({ id, capturedAt }) => !history.some((row) => row.id === id && row.capturedAt === capturedAt),
      )
    ) {
      this.found.leaked += 1;
    }
    const left: Client[] = [];
    for (const client of this.#clients.filter(({ at }) => at === node)) {
      client.position = { epoch: spellEpoch(node.epoch), seen };
      if (elsewhere === 'all' || elsewhere.includes(client.account)) {
        client.at = null;
        left.push(client);
        continue;
      }
      this.#tell(client, events, { seen, bound });
    }
    // Where accounts are elsewhere, the last event of a transaction may be missing, and with it its witness.
    if (elsewhere.length > 0) node.batch = [];
    else if (events.length > 0) node.batch = events;
    node.seen = bound;
    for (const client of left) this.#connect(client, node);
  }

  // ---------------------------------------------------------------------------------------------------------
  // Clients

  /** Hands a client what is its account's; it may be cut off behind any of them. */
  #tell(
    client: Client,
    events: readonly OutboxEvent[],
    { seen, bound }: { seen: Snapshot; bound: Snapshot },
  ): void {
    const { epoch } = client.position;
    for (const event of events) {
      if (event.account !== client.account) continue;
      client.heard.push(event);
      client.position = { epoch, seen, batch: { bound, through: event.id } };
      if (!this.#chance.happens(0.1)) continue;
      client.at = null;
      return;
    }
    client.position = { epoch, seen: bound };
  }

  #hop(client: Client): void {
    if (client.at) {
      if (this.#chance.happens(0.4)) client.at = null;
      return;
    }
    if (this.#chance.happens(0.1)) this.#load(client, this.#currentPosition());
    this.#connect(client, this.#chance.one(this.#nodes));
  }

  #load(client: Client, position: Position): void {
    client.position = position;
    client.base = new Set(this.#database.history.filter((row) => sees(position.seen, row.xid)));
    client.heard = [];
  }

  #resync(client: Client, node: Node): void {
    client.at = node;
    this.#load(client, { epoch: spellEpoch(node.epoch), seen: node.seen });
  }

  #connect(client: Client, node: Node): void {
    if (!this.#isKnown(client.position, node)) this.#ask(node);
    if (!this.#isKnown(client.position, node)) {
      if (!this.#restored) this.found.needless += 1;
      this.#resync(client, node);
      return;
    }
    if (!covers(node.seen, horizon(client.position))) {
      this.found.ahead += 1;
      this.#read(node);
      if (client.position.epoch !== spellEpoch(node.epoch) || !covers(node.seen, horizon(client.position))) {
        if (!this.#restored) this.found.needless += 1;
        this.#resync(client, node);
        return;
      }
    }
    this.#catchUp(client, node);
  }

  #isKnown({ epoch, seen, batch }: Position, node: Node): boolean {
    if (epoch !== spellEpoch(node.epoch) || this.#isForeign(seen, [])) return false;
    return batch === undefined || !this.#isForeign(batch.bound, []);
  }

  /** From the table, up to where the node is. */
  #catchUp(client: Client, node: Node): void {
    client.at = node;
    while (client.at === node && (client.position.batch || client.position.seen !== node.seen)) {
      const { position } = client;
      if (node.server !== this.#database.server) this.#ask(node);
      if (position.epoch !== spellEpoch(node.epoch)) return;
      if (isTooOld(position.seen, this.#database.emptied)) {
        this.#resync(client, node);
        return;
      }
      const bound = position.batch?.bound ?? node.seen;
      const events = this.#database.table
        .filter((row) => !hasSeen(position, row) && sees(bound, row.xid))
        .toSorted((a, b) => Number(a.id - b.id));
      this.#tell(client, events, { seen: position.seen, bound });
    }
  }

  // ---------------------------------------------------------------------------------------------------------
  // The end

  /** Everything that is under way arrives. */
  #settle(): void {
    for (const transaction of this.#database.open) this.#end(transaction, false);
    for (const hub of this.#hubs) {
      hub.frozen = false;
      while (hub.pending.length > 0) this.#append(hub);
      this.#readAsHub(hub);
      while (hub.pending.length > 0) this.#append(hub);
    }
    for (const edge of this.#edges) while (this.#poll(edge)) {}
    for (const node of this.#nodes) this.#read(node);
    for (const client of this.#clients) {
      for (let tries = 0; tries < 20 && !client.at; tries += 1)
        this.#connect(client, this.#chance.one(this.#nodes));
    }
  }

  #compare(): void {
    for (const { account, base, heard, at } of this.#clients) {
      if (at === null) continue;
      const keys = heard.map(keyOf);
      if (new Set(keys).size !== keys.length) this.found.twice += 1;
      const known = new Set([...keys, ...[...base].map(keyOf)]);
      const due = this.#database.history.filter((row) => row.account === account);
      if (due.some((row) => !known.has(keyOf(row)))) this.found.missing += 1;
      if (this.#isDisordered(keys)) this.found.disorder += 1;
    }
  }

  /** Whether an event was heard before one that had been committed when it was captured. */
  #isDisordered(keys: readonly string[]): boolean {
    const rows = new Map(this.#database.history.map((row) => [keyOf(row), row]));
    let latest = 0;
    for (const row of keys.map((key) => rows.get(key)).filter((found) => found !== undefined)) {
      if (row.committed < latest) return true;
      latest = Math.max(latest, row.captured);
    }
    return false;
  }
}

function spellEpoch(epoch: number): string {
  return String(epoch).padStart(12, '0');
}

function placeOf({ epoch, server, seen }: Node): Parameters<typeof judge>[0] {
  return { epoch: spellEpoch(epoch), server: String(server), seen };
}

/** Ids come again after a restore, times do not. */
function keyOf({ id, capturedAt }: OutboxEvent): string {
  return `${id}/${capturedAt}`;
}

/** Only what an event has. */
function withoutTime(entry: Entry): Entry {
  const events = entry.events.map(({ id, xid, account, event, payload, audience, known, capturedAt }) => ({
    ...{ id, xid, account, event, payload, audience, known, capturedAt },
  }));
  return { ...entry, events };
}
