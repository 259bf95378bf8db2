// Who waits for a catch-up, and which one is his: one that began after he asked, and ended well.

export interface GapsOptions {
  read(): Promise<unknown>;
  /** Tells of a failure. True: the same would be answered again, so whoever waits goes on without. */
  isRefused(error: unknown): boolean;
  /** Rests before another attempt. */
  pause(failures: number): Promise<void>;
  signal: AbortSignal;
}

/** Answers with a promise for each time somebody asks. They share readings, one after another. */
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
    // Nothing is read any more; nobody is left to wait.
    for (const resolve of asked.splice(0)) resolve();
  }

  return () => {
    const gap = new Promise<void>((resolve) => asked.push(resolve));
    if (!isReading) void readAll();
    return gap;
  };
}
