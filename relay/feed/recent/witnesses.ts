// The transactions that this process has seen, with their witnesses. A client's position names a transaction and its
// witness; these are compared with what is known here, or else with the table. Lookups that begin together are one
// query, so that a storm of reconnects is not a storm of queries.

import type { OutboxEvent, Session } from '../../outbox/events.ts';
import { type Position, type Snapshot, witnessOf } from '../../outbox/position.ts';
import { findForeign, type Largest } from '../../outbox/start.ts';

/** About 2 MB. Older transactions are looked up in the table. */
const MOST_KNOWN = 20_000;

interface Asking {
  readonly claimed: Map<bigint, number>;
  readonly foreign: Promise<Set<bigint>>;
}

export class Witnesses {
  readonly #session: Session;
  readonly #known = new Map<bigint, number>();
  #asking: Asking | null = null;

  /** @param session for reading (openReader), or a pool of such */
  constructor(session: Session) {
    this.#session = session;
  }

  /** @param events in the order of their ids */
  note(events: readonly OutboxEvent[]): void {
    for (const event of events) this.#known.set(event.xid, witnessOf(event));
    if (this.#known.size <= MOST_KNOWN) return;
    let surplus = this.#known.size - MOST_KNOWN;
    for (const xid of this.#known.keys()) {
      if (surplus-- <= 0) break;
      this.#known.delete(xid);
    }
  }

  /** Another history begins, with this as its largest transaction. */
  startOver(largest: Largest | null): void {
    this.#known.clear();
    if (largest?.witness !== undefined) this.#known.set(largest.xid, largest.witness);
  }

  /** Whether this database's history has what a position says it has seen. */
  async attest({ seen, batch }: Position): Promise<boolean> {
    for (const snapshot of batch ? [seen, batch.bound] : [seen]) {
      if (!(await this.#attestOne(snapshot))) return false;
    }
    return true;
  }

  async #attestOne({ xmax, witness }: Snapshot): Promise<boolean> {
    if (witness === undefined) return true;
    const known = this.#known.get(xmax - 1n);
    if (known !== undefined) return known === witness;
    const asked = this.#asking?.claimed.get(xmax - 1n);
    // Two claims of one transaction differ: one is false, and the table tells which.
    if (asked !== undefined && asked !== witness) return !(await this.#askAlone(xmax - 1n, witness));
    this.#asking ??= this.#askSoon();
    this.#asking.claimed.set(xmax - 1n, witness);
    return !(await this.#asking.foreign).has(xmax - 1n);
  }

  #askSoon(): Asking {
    const claimed = new Map<bigint, number>();
    const foreign = new Promise<void>((resolve) => setImmediate(resolve)).then(() => {
      this.#asking = null;
      return findForeign(this.#session, claimed);
    });
    return { claimed, foreign };
  }

  async #askAlone(xid: bigint, witness: number): Promise<boolean> {
    return (await findForeign(this.#session, new Map([[xid, witness]]))).has(xid);
  }
}
