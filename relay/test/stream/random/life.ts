// A short random life of a database, two hubs that append to a stream which loses, repeats and reorders, two edges, a
// node that reads the database itself, and clients that hop between them. It knows no time. What an edge does with an
// entry is the rule itself; everything around it is told in as few words as possible.
import { covers, NOTHING, type Snapshot } from '../../../outbox/position.ts';
import type { Entry } from '../../../stream/entry.ts';
import type { Step } from '../../../stream/rule.ts';
import { Chance } from '../../faults/chance.ts';
import { Clients } from './clients.ts';
import { ACCOUNTS, RandomDatabase, spellEpoch } from './database.ts';
import { LossyStream } from './lossy-stream.ts';
import { type Findings, type Node, Nodes, type Tried } from './nodes.ts';

interface Hub extends Node {
  readonly name: string;
  /** The bound of what it appended, or is about to. */
  appended: Snapshot;
  pending: Entry[];
  frozen: boolean;
}

export class Life {
  readonly found: Findings = {
    ...{ missing: 0, twice: 0, disorder: 0, needless: 0, leaked: 0 },
    ...{ handedOn: 0, gaps: 0, foreign: 0, ahead: 0 },
  };
  readonly #chance: Chance;
  readonly #tried: Tried;
  readonly #withRestore: boolean;
  readonly #database: RandomDatabase;
  readonly #stream: LossyStream;
  readonly #reading: Nodes;
  readonly #clients: Clients;
  #numbers = 0;
  readonly #hubs: Hub[];
  readonly #edges: Node[];
  readonly #nodes: Node[];

  constructor(seed: number, tried: Tried, { withRestore }: { withRestore: boolean }) {
    this.#chance = new Chance(seed, 'life');
    this.#tried = tried;
    this.#withRestore = withRestore;
    this.#database = new RandomDatabase(this.#chance);
    this.#stream = new LossyStream(this.#chance);
    this.#reading = new Nodes(this.#database, this.#stream, tried, this.found);
    const newNode = () => this.#reading.newNode();
    this.#hubs = ['first', 'second'].map((name) => ({
      ...newNode(),
      ...{ name, appended: NOTHING, pending: [], frozen: name === 'second' },
    }));
    this.#edges = [newNode(), newNode()];
    this.#nodes = [...this.#edges, newNode()];
    this.#clients = new Clients(this.#database, this.#reading, this.found, this.#chance);
    this.#reading.clients = this.#clients;
  }

  run(steps: number): Findings {
    for (let step = 0; step < steps; step += 1) {
      this.#database.now += 1;
      this.#chance.one(this.#deeds)();
    }
    this.#settle();
    this.#clients.compare();
    return this.found;
  }

  /** As often as they stand here. */
  readonly #deeds: readonly (() => void)[] = [
    ...Array<() => void>(30).fill(() => this.#database.write()),
    ...Array<() => void>(9).fill(() => this.#readAsHub(this.#chance.one(this.#hubs))),
    ...Array<() => void>(9).fill(() => this.#append(this.#chance.one(this.#hubs))),
    ...Array<() => void>(22).fill(() => this.#reading.poll(this.#chance.one(this.#edges))),
    ...Array<() => void>(10).fill(() => this.#clients.hop(this.#chance.one(this.#clients.all), this.#nodes)),
    ...Array<() => void>(4).fill(() => this.#reading.read(this.#nodes[2]!)),
    () => this.#reading.read(this.#chance.one(this.#edges)),
    () => this.#database.crash(),
    () => this.#database.empty(this.#chance.one(this.#hubs).seen),
    () => void (this.#withRestore && this.#database.copyOrRestore()),
    () => this.#freezeOrThaw(),
    () => this.#startHub(this.#chance.one(this.#hubs)),
    () => this.#drop(this.#chance.one(this.#hubs)),
    () => this.#stream.trim(),
    () => this.#stream.repeat(),
    () => {
      this.#stream.failOver();
      this.#findPlaces();
    },
    () => {
      this.#stream.flush();
      this.#findPlaces();
    },
  ];

  #startHub(hub: Hub): void {
    Object.assign(hub, this.#reading.newNode(), { pending: [] });
    const entry = this.#stream.last;
    const isOurs =
      entry?.epoch === spellEpoch(hub.epoch) &&
      entry.server === String(hub.server) &&
      !this.#database.isForeign(entry.bound, []);
    if (entry && isOurs && this.#chance.happens(0.7)) hub.seen = entry.bound;
    hub.appended = hub.seen;
  }

  #readAsHub(hub: Hub): void {
    if (hub.frozen) return;
    const read = this.#reading.read(hub);
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
    if (entry) this.#stream.append(entry);
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

  /** Where ids are given out again, edges begin at the oldest entry. */
  #findPlaces(): void {
    for (const edge of this.#edges) if (edge.cursor > this.#stream.lastId) edge.cursor = 0;
  }

  /** Everything that is under way arrives. */
  #settle(): void {
    this.#database.rollBackAll();
    for (const hub of this.#hubs) {
      hub.frozen = false;
      while (hub.pending.length > 0) this.#append(hub);
      this.#readAsHub(hub);
      while (hub.pending.length > 0) this.#append(hub);
    }
    for (const edge of this.#edges) while (this.#reading.poll(edge)) {}
    for (const node of this.#nodes) this.#reading.read(node);
    for (const client of this.#clients.all) {
      for (let tries = 0; tries < 20 && !client.at; tries += 1)
        this.#clients.connect(client, this.#chance.one(this.#nodes));
    }
  }
}
