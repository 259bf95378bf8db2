// What hubs append to and edges read. It loses entries, repeats them, and gives their ids out again.
import { type Entry, encodeEntry, parseEntry } from '../../../stream/entry.ts';
import type { Chance } from '../../faults/chance.ts';

export class LossyStream {
  #entries: { id: number; entry: Entry }[] = [];
  #lastId = 0;
  readonly #chance: Chance;

  constructor(chance: Chance) {
    this.#chance = chance;
  }

  get lastId(): number {
    return this.#lastId;
  }

  get last(): Entry | undefined {
    return this.#entries.at(-1)?.entry;
  }

  after(cursor: number): { id: number; entry: Entry } | undefined {
    return this.#entries.find(({ id }) => id > cursor);
  }

  append(entry: Entry): void {
    this.#add(parseEntry(encodeEntry(withoutTime(entry))));
  }

  trim(): void {
    this.#entries.splice(0, this.#chance.between(0, 4));
  }

  repeat(): void {
    if (this.#entries.length > 0) this.#add(this.#chance.one(this.#entries).entry);
  }

  /** To a replica that misses the last entries; their ids are given out again. */
  failOver(): void {
    this.#entries.splice(-this.#chance.between(1, 3));
    this.#lastId = this.#entries.at(-1)?.id ?? 0;
  }

  flush(): void {
    this.#entries = [];
    this.#lastId = 0;
  }

  #add(entry: Entry): void {
    this.#lastId += 1;
    this.#entries.push({ id: this.#lastId, entry });
  }
}

/** Only what an event has. */
function withoutTime(entry: Entry): Entry {
  const events = entry.events.map(({ id, xid, account, event, payload, audience, known, capturedAt }) => ({
    ...{ id, xid, account, event, payload, audience, known, capturedAt },
  }));
  return { ...entry, events };
}
