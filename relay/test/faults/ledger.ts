// What the writers know: which statement wrote which rows, and what the database answered to the commit. One process
// writes it, so its clock orders everything that happened in it.

/** A statement that changed a row; (row, stamp) names the event. */
const ROWS = 2 ** 21;

export type EventKey = number;

export function eventKey(row: number, stamp: number): EventKey {
  return stamp * ROWS + row;
}

function stampOf(key: EventKey): number {
  return Math.floor(key / ROWS);
}

export function rowOf(key: EventKey): number {
  return key % ROWS;
}

export function nameOf(key: EventKey): string {
  return `row ${rowOf(key)}, stamp ${stampOf(key)}`;
}

/** `unknown`: the connection broke while the commit was on its way. */
export type Outcome = 'open' | 'committed' | 'rolled back' | 'unknown';

export interface Transaction {
  readonly writer: number;
  /** What it did, for the report of an error. */
  readonly kind: string;
  outcome: Outcome;
  /** When its outcome was known, or known to be unknown: it did not commit later. */
  ended: number;
  /** When the answer to the commit had arrived. */
  acknowledged: number;
  /** The same by Date.now(). */
  acknowledgedAt: number;
  /** Events it must have written, if it committed. */
  keys: EventKey[];
}

export interface Statement {
  readonly transaction: Transaction;
  /** When it was sent; its events were captured later. */
  readonly sent: number;
}

export class Ledger {
  readonly transactions: Transaction[] = [];
  /** Stamp 0 is that of events no writer wrote. */
  readonly #statements: (Statement | undefined)[] = [undefined];
  #clock = 0;

  begin(writer: number, kind: string): Transaction {
    const transaction: Transaction = {
      writer,
      kind,
      outcome: 'open',
      ended: Number.POSITIVE_INFINITY,
      acknowledged: Number.POSITIVE_INFINITY,
      acknowledgedAt: Number.POSITIVE_INFINITY,
      keys: [],
    };
    this.transactions.push(transaction);
    return transaction;
  }

  /** @returns the stamp of a statement about to be sent */
  stamp(transaction: Transaction): number {
    this.#clock += 1;
    this.#statements.push({ transaction, sent: this.#clock });
    return this.#statements.length - 1;
  }

  end(transaction: Transaction, outcome: Outcome): void {
    this.#clock += 1;
    transaction.outcome = outcome;
    transaction.ended = this.#clock;
    if (outcome !== 'committed') return;
    transaction.acknowledged = this.#clock;
    transaction.acknowledgedAt = Date.now();
  }

  /** Now, by the clock that orders statements and commits. */
  get now(): number {
    return this.#clock;
  }

  /** The statement that wrote an event; undefined: nobody sent one like it. */
  statement(key: EventKey): Statement | undefined {
    return this.#statements[stampOf(key)];
  }
}
