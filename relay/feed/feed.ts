// The source of a process's events, read from the database or from a stream: each event once, in batches between two
// positions.
import { RecadoError } from '../errors.ts';
import type { OutboxEvent, Session } from '../outbox/events.ts';
import type { Snapshot } from '../outbox/position.ts';
import type { RecentEvents } from './recent/recent-events.ts';

/** Events that became visible together. */
export interface Batch {
  readonly epoch: string;
  /** What was seen before. */
  readonly seen: Snapshot;
  /** What is seen after it. */
  readonly bound: Snapshot;
  /** In the order of their ids. */
  readonly events: readonly OutboxEvent[];
  /** Accounts whose events are not in the batch and must be read from the table. Absent: none. */
  readonly elsewhere?: readonly string[] | 'all';
}

/** More events became visible together than are read at once: a large transaction, or the node was behind. */
export interface Backlog {
  readonly epoch: string;
  readonly seen: Snapshot;
  readonly bound: Snapshot;
  /** Whether it may have events of the account. */
  touches: (account: string) => boolean;
}

export interface FeedListener {
  /** Called synchronously: a client that joins between two batches misses no event and gets none twice. */
  onBatch(batch: Batch): void;
  /** Called synchronously, instead of onBatch(): its events must be read from the table. */
  onBacklog(backlog: Backlog): void;
  /** Accounts to search a backlog for. */
  accounts(): string[];
  /** This node missed events, or the database has another history: everybody must refetch. */
  onLost(reason: 'epoch' | 'retention'): void;
  /**
   * Awaited before these events are handed on. null: the events are not known, because the session is new, retention
   * removed them, or they are read elsewhere. What it reads with the session is at least as new as the events.
   */
  beforeBatch?(session: Session, events: readonly OutboxEvent[] | null): Promise<void>;
}

/** A source of events, as its readers see it. */
export interface Feed {
  /** Whether events arrive. */
  readonly ready: boolean;
  /** Resolves when they do for the first time. */
  readonly firstRead: Promise<void>;
  /** @throws RecadoError `feed_not_ready` before the first read */
  readonly epoch: string;
  /** What was handed on. */
  readonly seen: Snapshot;
  /** How long events are kept. */
  readonly retentionMs: number;
  readonly recent: RecentEvents;
  start(listener: FeedListener): void;
  /**
   * Resolves when everything that was visible at the call has been handed on.
   * @param wanted resolves as soon as this has been handed on
   * @throws RecadoError `feed_not_ready` if that cannot be done now
   */
  read(wanted?: Snapshot): Promise<void>;
  close(): Promise<void>;
}

export function notReady(): RecadoError {
  return new RecadoError('feed_not_ready', 'The database cannot be read at the moment; try again.');
}
