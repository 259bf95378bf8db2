// A database as a life knows it: transactions that write rows, crashes, retention and a restore. It knows no time but the
// number of the deed.
import type { OutboxEvent } from '../../../outbox/events.ts';
import {
  cut,
  type Emptied,
  NOTHING,
  type Position,
  type Snapshot,
  sees,
  witnessOf,
} from '../../../outbox/position.ts';
import type { Chance } from '../../faults/chance.ts';

export const ACCOUNTS = ['a', 'b'];
const MOST_TRANSACTIONS = 40;

export interface Row extends OutboxEvent {
  /** Two transactions never write one row at a time. */
  readonly row: number;
  readonly captured: number;
  committed: number;
}

interface State {
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

export class RandomDatabase {
  #state: State = {
    ...{ next: 1, flushed: 0, open: [], table: [], history: [], emptied: null, epoch: 1, server: 1 },
  };
  /** The number of the deed. */
  now = 0;
  #ids = 0n;
  #servers = 1;
  #epochs = 1;
  #copy: State | null = null;
  restored = false;
  readonly #chance: Chance;

  constructor(chance: Chance) {
    this.#chance = chance;
  }

  get epoch(): number {
    return this.#state.epoch;
  }

  get server(): number {
    return this.#state.server;
  }

  get table(): readonly Row[] {
    return this.#state.table;
  }

  get history(): readonly Row[] {
    return this.#state.history;
  }

  get emptied(): State['emptied'] {
    return this.#state.emptied;
  }

  write(): void {
    const { open } = this.#state;
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
    const state = this.#state;
    if (transaction.xid === 0) {
      if (state.next > MOST_TRANSACTIONS) return;
      transaction.xid = state.next++;
    }
    // Some write nothing that is published.
    if (this.#chance.happens(0.25)) return;
    const row = this.#chance.between(0, 3);
    if (state.open.some((other) => other !== transaction && other.rows.some((held) => held.row === row)))
      return;
    this.#ids += 1n;
    const when = { captured: this.now, committed: 0, capturedAt: Number(this.#ids) };
    const account = ACCOUNTS[row % 2]!;
    const event = { account, event: 'rows.changed', payload: '1', audience: null, known: true };
    transaction.rows.push({ ...event, ...when, id: this.#ids, xid: BigInt(transaction.xid), row });
  }

  #end(transaction: { xid: number; rows: Row[] }, committed: boolean): void {
    const state = this.#state;
    state.open = state.open.filter((other) => other !== transaction);
    if (!committed || transaction.rows.length === 0) return;
    for (const row of transaction.rows) row.committed = this.now;
    state.table.push(...transaction.rows);
    state.history.push(...transaction.rows);
    state.flushed = state.next - 1;
  }

  snapshot(): Snapshot {
    const { next, open } = this.#state;
    const running = open.filter(({ xid }) => xid > 0).map(({ xid }) => BigInt(xid));
    return { xmax: BigInt(next), xip: running.sort((a, b) => Number(a - b)) };
  }

  /** The largest transaction of an event, with its witness. */
  #largest(): { xid: bigint; witness: number } | null {
    const { table, emptied } = this.#state;
    let largest = emptied && { xid: emptied.through, witness: emptied.witness };
    for (const row of table.toSorted((a, b) => Number(a.id - b.id))) {
      if (largest === null || row.xid >= largest.xid) largest = { xid: row.xid, witness: witnessOf(row) };
    }
    return largest;
  }

  /** relay.position() */
  currentPosition(): Position {
    const largest = this.#largest();
    const seen = largest ? cut(this.snapshot(), largest.xid, largest.witness) : NOTHING;
    return { epoch: spellEpoch(this.#state.epoch), seen };
  }

  /** Ids of transactions whose end is not on disk are given out again. */
  crash(): void {
    const state = this.#state;
    state.open = [];
    state.next = state.flushed + 1;
    // A backend that crashes does not end the server.
    if (this.#chance.happens(0.5)) return;
    this.#servers += 1;
    state.server = this.#servers;
  }

  /** Retention: what is old and was seen. */
  empty(seen: Snapshot): void {
    const state = this.#state;
    const old = state.table.filter(({ xid, captured }) => sees(seen, xid) && captured < this.now - 40);
    const last = old.toSorted((a, b) => Number(a.xid - b.xid) || Number(a.id - b.id)).at(-1);
    if (!last || (state.emptied && state.emptied.through > last.xid)) return;
    state.emptied = { through: last.xid, in: this.snapshot(), witness: witnessOf(last) };
    state.table = state.table.filter((row) => !old.includes(row));
  }

  copyOrRestore(): void {
    if (this.restored) return;
    const state = this.#copy ?? this.#state;
    const copy = { ...state, open: [], table: [...state.table], history: [...state.history] };
    if (this.#copy === null) {
      this.#copy = copy;
      return;
    }
    this.restored = true;
    this.#servers += 1;
    this.#state = { ...copy, flushed: copy.next - 1, server: this.#servers };
  }

  /** Whoever finds another history than it has seen begins a new one. */
  startEpoch(): void {
    const state = this.#state;
    const largest = this.#largest();
    this.#epochs += 1;
    state.epoch = this.#epochs;
    state.table = [];
    if (largest) state.emptied = { through: largest.xid, in: this.snapshot(), witness: largest.witness };
  }

  /** Whether a snapshot or a batch claims to have seen what is not in this database's history. */
  isForeign({ xmax, witness }: Snapshot, batch: readonly OutboxEvent[]): boolean {
    const claims = batch.map((event): [bigint, number] => [event.xid, witnessOf(event)]);
    if (witness !== undefined) claims.push([xmax - 1n, witness]);
    const { table, emptied } = this.#state;
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

  /** Nobody commits what is open. */
  rollBackAll(): void {
    for (const transaction of this.#state.open) this.#end(transaction, false);
  }
}

export function spellEpoch(epoch: number): string {
  return String(epoch).padStart(12, '0');
}
