// The position of a page: how old it is, and what a page that keeps it comes back with after a reload.

interface Kept {
  readonly position: string;
  /** How many events the page had heard. */
  readonly seen: number;
  /** Since when it has the position, by Date.now(). */
  readonly at: number;
}

export class PagePosition {
  #kept: Kept | null = null;
  /** The snapshots in the position, each with when the page heard of it first. */
  #snapshots = new Map<string, number>();
  /** Since when the page has the first of them. */
  #since = Date.now();
  #epoch: string | null = null;
  readonly #keepsEvery: number;

  /** @param keepsEvery how many events a page must hear until it keeps another position */
  constructor(keepsEvery: number) {
    this.#keepsEvery = keepsEvery;
  }

  get ageMs(): number {
    return Date.now() - this.#since;
  }

  /** A list was loaded: with its position, or the relay is to say where the page begins. */
  begin(position: string | undefined): void {
    this.#kept = null;
    this.#snapshots.clear();
    this.#since = Date.now();
    this.#epoch = position === undefined ? null : epochOf(position);
  }

  /** Came with an event. @returns whether it is of another history, of which the page was to be told first */
  follow(position: string, seen: number): boolean {
    // Within a batch or a replay the position begins with a snapshot from before it.
    const [snapshot, bound] = position.split(/[~*]/);
    const at = (part: string) => this.#snapshots.get(part) ?? Date.now();
    this.#since = at(snapshot!);
    this.#snapshots = new Map(
      [snapshot!, `${snapshot!.split('-')[0]}-${bound}`].map((part) => [part, at(part)]),
    );
    if (!this.#kept || seen >= this.#kept.seen + this.#keepsEvery) {
      this.#kept = { position, seen, at: this.#since };
    }
    const before = this.#epoch;
    this.#epoch = epochOf(position) ?? before;
    return before !== null && this.#epoch !== before;
  }

  /** Came with relay:resync. */
  startAnew(position: string, seen: number): void {
    this.#since = Date.now();
    this.#kept = { position, seen, at: this.#since };
    this.#epoch = epochOf(position) ?? this.#epoch;
  }

  /** After a reload: the page is where it kept its position. @returns null: it has none */
  comeBack(): Kept | null {
    const kept = this.#kept;
    if (!kept) return null;
    this.#since = kept.at;
    this.#snapshots = new Map([[kept.position.split(/[~*]/)[0]!, kept.at]]);
    this.#epoch = epochOf(kept.position);
    return kept;
  }
}

/** @returns null for one that was too long to be sent */
function epochOf(position: string): string | null {
  return /^[0-9a-f]{12}(?=-)/.exec(position)?.[0] ?? null;
}
