// A list that is loaded once and then kept up to date by events.
//
// A load starts when the connection has a position. From then on the list's events wait; when the rows are there,
// the waiting events are applied in their order. So nothing falls between the rows and the events. An event that the
// rows already contain is left out where the positions tell, and applied once more where they do not: reducers must
// tolerate that. upsert and remove do.
import { contains } from './position.ts';
import { Listeners, type Store } from './store.ts';

/** The rows of a list as a reducer sees them. */
export interface Rows<Row> {
  get(key: string | number): Row | undefined;
  /** Adds the row, or replaces the one with its key. */
  set(row: Row): void;
  /** @param keyOrRow a key, or an object that `key` finds one in */
  delete(keyOrRow: unknown): void;
}

// Method syntax, so that upsert fits payloads that are narrower than the row.
export type Reducer<Row, Payload> = { bivariant(rows: Rows<Row>, payload: Payload): void }['bivariant'];

/** The payload of an event, from the types that `recado contract --format typescript` prints. */
export type PayloadOf<Handler> = Handler extends (payload: infer Payload, ...rest: never[]) => void
  ? Payload
  : never;

/** The payload is a row: adds it, or replaces the one with its key. */
export function upsert<Row>(rows: Rows<Row>, row: Row): void {
  rows.set(row);
}

/** The payload is a key or a row: removes that row. */
export function remove<Row>(rows: Rows<Row>, keyOrRow: unknown): void {
  rows.delete(keyOrRow);
}

export interface LiveListOptions<Row, Events extends object> {
  /**
   * Selects the rows, on the primary. `position` is what relay.position() said in the same REPEATABLE READ transaction.
   * Called again after relay:resync, and after a failure. `signal` is aborted when the answer is no longer wanted.
   */
  load(signal: AbortSignal): Promise<{ rows: readonly Row[]; position?: string }>;
  /** The name of the key's property, or a function. Keys are compared as text. */
  key: keyof Row | ((row: Row) => string | number);
  /** What each event does to the rows. */
  on: { [E in keyof Events]?: Reducer<Row, PayloadOf<Events[E]>> };
  /** Order of the rows; by default as loaded, new rows at the end. */
  sort?: (a: Row, b: Row) => number;
}

export interface LiveListValue<Row> {
  readonly rows: readonly Row[];
  /** loading: the rows are not there yet, or are loaded again after something was missed. */
  readonly status: 'loading' | 'live';
  /** Why the last load failed; it is tried again. */
  readonly error: unknown;
}

export interface LiveList<Row> extends Store<LiveListValue<Row>> {
  /** Loads the rows again. */
  reload(): void;
  close(): void;
}

/** What a list needs of its connection. */
export interface Feed {
  /** Whether a load that starts now contains every event that was handed on before. */
  readonly positioned: boolean;
  /** Runs `work` after a pause that grows with `failures`. @returns how to cancel it */
  later(work: () => void, failures: number): () => void;
  failed(code: string, error: unknown): void;
  leave(list: FedList): void;
}

/** A list as its connection sees it. */
export interface FedList {
  /** The connection has a position. */
  start(): void;
  /** Something was missed: the rows are void. */
  reset(): void;
  take(event: string, payload: unknown, position: string): void;
  close(): void;
}

interface Waiting {
  readonly event: string;
  readonly payload: unknown;
  readonly position: string;
}

export class EventedList<Row, Events extends object> implements LiveList<Row>, FedList {
  readonly #feed: Feed;
  readonly #options: LiveListOptions<Row, Events>;
  readonly #listeners = new Listeners();
  readonly #rows = new Map<string, Row>();
  /** Events since the load in flight began; null: no load is in flight. */
  #waiting: Waiting[] | null = null;
  #load: AbortController | null = null;
  #loadedAt: string | null = null;
  #live = false;
  #closed = false;
  #failures = 0;
  #cancelRetry: () => void = () => undefined;
  #error: unknown = null;
  #value: LiveListValue<Row> | null = null;
  #announced = false;

  constructor(feed: Feed, options: LiveListOptions<Row, Events>) {
    this.#feed = feed;
    this.#options = options;
  }

  readonly get = (): LiveListValue<Row> => {
    if (this.#value) return this.#value;
    const rows = [...this.#rows.values()];
    if (this.#options.sort) rows.sort(this.#options.sort);
    this.#value = { rows, status: this.#live ? 'live' : 'loading', error: this.#error };
    return this.#value;
  };

  readonly subscribe = (listener: () => void): (() => void) => this.#listeners.add(listener);

  start(): void {
    if (this.#closed || this.#live || this.#waiting || !this.#feed.positioned) return;
    this.#cancelRetry();
    void this.#begin();
  }

  reset(): void {
    this.#abandon();
    this.#changed();
  }

  reload(): void {
    this.reset();
    this.start();
  }

  close(): void {
    this.#closed = true;
    this.#abandon();
    this.#feed.leave(this);
  }

  take(event: string, payload: unknown, position: string): void {
    if (!Object.hasOwn(this.#options.on, event)) return;
    // A load that starts later contains it.
    if (!this.#waiting && !this.#live) return;
    if (this.#waiting) this.#waiting.push({ event, payload, position });
    else this.#applyAll([{ event, payload, position }]);
  }

  async #begin(): Promise<void> {
    const load = new AbortController();
    this.#load = load;
    this.#waiting = [];
    try {
      const { rows, position } = await this.#options.load(load.signal);
      if (this.#load !== load) return;
      this.#rows.clear();
      for (const row of rows) this.#rows.set(this.#keyOf(row), row);
      this.#loadedAt = position ?? null;
    } catch (error) {
      if (this.#load === load) this.#fail('load_failed', error);
      return;
    }
    const waiting = this.#waiting;
    this.#waiting = null;
    this.#load = null;
    this.#live = true;
    this.#error = null;
    if (this.#applyAll(waiting)) this.#failures = 0;
  }

  #applyAll(events: readonly Waiting[]): boolean {
    for (const { event, payload, position } of events) {
      // Positions only grow: after the first event that is new, all are.
      if (this.#loadedAt !== null && contains(this.#loadedAt, position)) continue;
      this.#loadedAt = null;
      const reducer: Reducer<Row, unknown> | undefined = Reflect.get(this.#options.on, event);
      try {
        reducer?.(this.#view, payload);
      } catch (error) {
        // What the reducer did half is not known; the application's database is right.
        this.#fail('reducer_failed', error);
        return false;
      }
    }
    this.#changed();
    return true;
  }

  #fail(code: string, error: unknown): void {
    this.#abandon();
    this.#error = error;
    this.#changed();
    this.#feed.failed(code, error);
    if (this.#closed) return;
    this.#cancelRetry = this.#feed.later(() => this.start(), this.#failures);
    this.#failures += 1;
  }

  #abandon(): void {
    this.#cancelRetry();
    this.#load?.abort();
    this.#load = null;
    this.#waiting = null;
    this.#live = false;
  }

  /** Once for all events of a tick. */
  #changed(): void {
    this.#value = null;
    if (this.#announced) return;
    this.#announced = true;
    queueMicrotask(() => {
      this.#announced = false;
      if (!this.#closed) this.#listeners.call();
    });
  }

  #keyOf(row: Row): string {
    const { key } = this.#options;
    const found: unknown = typeof key === 'function' ? key(row) : row[key];
    if (typeof found !== 'string' && typeof found !== 'number') {
      throw new TypeError(`The key of a row is ${typeof found}, expected a string or a number.`);
    }
    return String(found);
  }

  readonly #view: Rows<Row> = {
    get: (key) => this.#rows.get(String(key)),
    set: (row) => void this.#rows.set(this.#keyOf(row), row),
    delete: (keyOrRow) => {
      // An object is a row, or has its key: see Rows.delete().
      const isRow = typeof keyOrRow === 'object' && keyOrRow !== null;
      this.#rows.delete(isRow ? this.#keyOf(keyOrRow as Row) : String(keyOrRow));
    },
  };
}
