// Where an edge's entries come from: a stream in Redis, or another process of this machine.
import type { Entry } from './entry.ts';

export interface EntryReader {
  /**
   * The next entries, in order; none if none came for a while. Rejects if the stream cannot be read.
   */
  next(): Promise<readonly Entry[]>;
  /** Continues after the newest entry for which `isOld` holds, searching backwards; at the end if there is none. */
  seek(isOld: (entry: Entry) => boolean): Promise<void>;
  /** Asks the hub to read the database now, and to append an entry. */
  ask(): void;
  close(): Promise<void>;
}
