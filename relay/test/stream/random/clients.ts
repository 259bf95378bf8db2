// Clients that hop between nodes and resume from their positions, and the comparison of what they heard with the table.
import type { OutboxEvent } from '../../../outbox/events.ts';
import {
  covers,
  hasSeen,
  horizon,
  isTooOld,
  type Position,
  type Snapshot,
  sees,
} from '../../../outbox/position.ts';
import type { Chance } from '../../faults/chance.ts';
import { ACCOUNTS, type RandomDatabase, spellEpoch } from './database.ts';
import type { Findings, Node, Nodes } from './nodes.ts';

export interface Client {
  readonly account: string;
  at: Node | null;
  position: Position;
  /** What it loaded. */
  base: Set<OutboxEvent>;
  heard: OutboxEvent[];
}

export class Clients {
  readonly all: readonly Client[];
  readonly #database: RandomDatabase;
  readonly #nodes: Nodes;
  readonly #found: Findings;
  readonly #chance: Chance;

  constructor(database: RandomDatabase, nodes: Nodes, found: Findings, chance: Chance) {
    this.#database = database;
    this.#nodes = nodes;
    this.#found = found;
    this.#chance = chance;
    this.all = [0, 1, 2, 3].map((n) => ({
      ...{ account: ACCOUNTS[n % 2]!, at: null, base: new Set(), heard: [] },
      position: database.currentPosition(),
    }));
  }

  /** Hands a client what is its account's; it may be cut off behind any of them. */
  tell(
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

  hop(client: Client, nodes: readonly Node[]): void {
    if (client.at) {
      if (this.#chance.happens(0.4)) client.at = null;
      return;
    }
    if (this.#chance.happens(0.1)) this.#load(client, this.#database.currentPosition());
    this.connect(client, this.#chance.one(nodes));
  }

  #load(client: Client, position: Position): void {
    client.position = position;
    client.base = new Set(this.#database.history.filter((row) => sees(position.seen, row.xid)));
    client.heard = [];
  }

  resync(client: Client, node: Node): void {
    client.at = node;
    this.#load(client, { epoch: spellEpoch(node.epoch), seen: node.seen });
  }

  connect(client: Client, node: Node): void {
    if (!this.#isKnown(client.position, node)) this.#nodes.ask(node);
    if (!this.#isKnown(client.position, node)) {
      if (!this.#database.restored) this.#found.needless += 1;
      this.resync(client, node);
      return;
    }
    if (!covers(node.seen, horizon(client.position))) {
      this.#found.ahead += 1;
      this.#nodes.read(node);
      if (client.position.epoch !== spellEpoch(node.epoch) || !covers(node.seen, horizon(client.position))) {
        if (!this.#database.restored) this.#found.needless += 1;
        this.resync(client, node);
        return;
      }
    }
    this.#catchUp(client, node);
  }

  #isKnown({ epoch, seen, batch }: Position, node: Node): boolean {
    if (epoch !== spellEpoch(node.epoch) || this.#database.isForeign(seen, [])) return false;
    return batch === undefined || !this.#database.isForeign(batch.bound, []);
  }

  /** From the table, up to where the node is. */
  #catchUp(client: Client, node: Node): void {
    client.at = node;
    while (client.at === node && (client.position.batch || client.position.seen !== node.seen)) {
      const { position } = client;
      if (node.server !== this.#database.server) this.#nodes.ask(node);
      if (position.epoch !== spellEpoch(node.epoch)) return;
      if (isTooOld(position.seen, this.#database.emptied)) {
        this.resync(client, node);
        return;
      }
      const bound = position.batch?.bound ?? node.seen;
      const events = this.#database.table
        .filter((row) => !hasSeen(position, row) && sees(bound, row.xid))
        .toSorted((a, b) => Number(a.id - b.id));
      this.tell(client, events, { seen: position.seen, bound });
    }
  }

  compare(): void {
    for (const { account, base, heard, at } of this.all) {
      if (at === null) continue;
      const keys = heard.map(keyOf);
      if (new Set(keys).size !== keys.length) this.#found.twice += 1;
      const known = new Set([...keys, ...[...base].map(keyOf)]);
      const due = this.#database.history.filter((row) => row.account === account);
      if (due.some((row) => !known.has(keyOf(row)))) this.#found.missing += 1;
      if (this.#isDisordered(keys)) this.#found.disorder += 1;
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

/** Ids come again after a restore, times do not. */
function keyOf({ id, capturedAt }: OutboxEvent): string {
  return `${id}/${capturedAt}`;
}
