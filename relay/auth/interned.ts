// Keeps one object for equal contents while anybody holds it: a thousand tokens of one role share one set of topics.

export class Interned<T extends WeakKey> {
  readonly #known = new Map<string, WeakRef<T>>();
  readonly #released = new FinalizationRegistry<string>((key) => {
    // Another object may have been made for the key since.
    if (this.#known.get(key)?.deref() === undefined) this.#known.delete(key);
  });

  /** @param key identifies the object's contents uniquely */
  of(key: string, make: () => T): T {
    const known = this.#known.get(key)?.deref();
    if (known) return known;
    const made = make();
    this.#known.set(key, new WeakRef(made));
    this.#released.register(made, key);
    return made;
  }
}
