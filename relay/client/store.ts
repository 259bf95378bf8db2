/** A value that changes, as React's useSyncExternalStore, Vue and plain code can watch it. */
export interface Store<T> {
  /** The same object until the value changes. */
  get(): T;
  /** @returns how to stop listening */
  subscribe(listener: () => void): () => void;
}

/** Listeners that may be added and removed while they are called. */
export class Listeners {
  readonly #all = new Set<() => void>();

  readonly add = (listener: () => void): (() => void) => {
    // Wrapped: the same function may listen twice.
    const own = () => listener();
    this.#all.add(own);
    return () => void this.#all.delete(own);
  };

  call(): void {
    for (const listener of [...this.#all]) listener();
  }
}
