// Where an edge's entries come from: a stream in Redis, or another process of this machine.
import type { Entry } from './entry.ts';

export interface EntryReader {
  /**
   * The entries after those that it gave before, in their order; none where none came for a while.
   * Rejects where the stream cannot be read.
   */
  next(): Promise<readonly Entry[]>;
  /** Goes on behind the newest entry that `isOld`, looked for from the end backwards; at the end where there is none. */
  seek(isOld: (entry: Entry) => boolean): Promise<void>;
  /** Asks the hub to read the database now, and to append an entry. */
  ask(): void;
  close(): Promise<void>;
}
