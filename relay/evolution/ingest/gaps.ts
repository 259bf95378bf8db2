// Waiting for a catch-up. A call resolves when a reading that began after it has succeeded.

export interface GapsOptions {
  read(): Promise<unknown>;
  /** Reports a failure. True: another attempt would be refused, too, so waiting ends. */
  isRefused(error: unknown): boolean;
  /** Waits before another attempt. */
  pause(failures: number): Promise<void>;
  signal: AbortSignal;
}

/** Each call returns a promise. Calls share readings, which run one after another. */
export function createGaps({ read, isRefused, pause, signal }: GapsOptions): () => Promise<void> {
  let asked: (() => void)[] = [];
  let isReading = false;

  async function readAll(): Promise<void> {
    isReading = true;
    for (let failures = 0; asked.length > 0 && !signal.aborted; ) {
      const served = asked;
      asked = [];
      try {
        await read();
        failures = 0;
      } catch (error) {
        if (signal.aborted || !isRefused(error)) {
          asked = [...served, ...asked];
          failures++;
          await pause(failures);
          continue;
        }
      }
      for (const resolve of served) resolve();
    }
    isReading = false;
    // Nothing more is read: all callers continue.
    for (const resolve of asked.splice(0)) resolve();
  }

  return () => {
    const gap = new Promise<void>((resolve) => asked.push(resolve));
    if (!isReading) void readAll();
    return gap;
  };
}
