// Remembers the last events that a relay emitted, so that `recado trace` can say what became of one.
import type { OutboxEvent, Session } from '../outbox/events.ts';

export interface Emitted {
  /** When the relay emitted it, in ms since 1970. */
  readonly at: number;
  /** By the database's clock, ms since 1970. */
  readonly capturedAt: number;
  readonly room: string;
  /** Live sockets it was written to. Sockets that were catching up got it from their replay. */
  readonly sockets: number;
  /** Of the process. */
  readonly pid: number;
}

/** An event as it is emitted. */
export type Emission = Pick<OutboxEvent, 'id' | 'xid' | 'event'> & Omit<Emitted, 'pid'>;

/** What the processes of a node remember of an event. */
export interface EmittedBy {
  readonly emitted: readonly Emitted[];
  /** Processes that did not answer. */
  readonly silent: number;
}

/** How long the events of an account took from capture to emit, in ms. */
export interface Slow {
  readonly room: string;
  readonly events: number;
  readonly median: number;
  readonly slowest: number;
}

export const MOST_REMEMBERED = 20_000;
const SLOW_WITHIN_MS = 60_000;
const MOST_SLOW = 5;

/**
 * The last emits of this process, in two rings that a trace searches end to end. A Map that drops its oldest key for
 * every new one has to skip all dropped entries, which costs 30 µs per event.
 */
export class Trace {
  readonly #ids: bigint[] = [];
  readonly #emitted: Omit<Emitted, 'pid'>[] = [];
  #next = 0;

  /** Told of every event that is emitted. */
  onEmission: ((emission: Emission) => void) | null = null;

  note({ id, xid, event, capturedAt }: OutboxEvent, emitted: Pick<Emitted, 'at' | 'room' | 'sockets'>): void {
    this.#ids[this.#next] = id;
    this.#emitted[this.#next] = { ...emitted, capturedAt };
    this.#next = (this.#next + 1) % MOST_REMEMBERED;
    this.onEmission?.({ id, xid, event, capturedAt, ...emitted });
  }

  find(id: bigint): Emitted | null {
    const found = this.#emitted[this.#ids.indexOf(id)];
    return found ? { ...found, pid: process.pid } : null;
  }

  /** The rooms that had to wait longest in the last minute. */
  slowest(now: number): Slow[] {
    const byRoom = new Map<string, number[]>();
    for (const { at, capturedAt, room } of this.#emitted) {
      if (now - at > SLOW_WITHIN_MS) continue;
      const took = byRoom.get(room) ?? [];
      if (took.length === 0) byRoom.set(room, took);
      took.push(Math.max(0, at - capturedAt));
    }
    const slow = [...byRoom].map(([room, took]) => {
      took.sort((a, b) => a - b);
      return { room, events: took.length, median: took[took.length >> 1]!, slowest: took.at(-1)! };
    });
    return slowestOf(slow);
  }
}

/** Of one process, or of several. */
export function slowestOf(slow: readonly Slow[]): Slow[] {
  return [...slow].sort((a, b) => b.slowest - a.slowest).slice(0, MOST_SLOW);
}

export interface TracedEvent {
  readonly account: string | null;
  readonly event: string;
  readonly xid: string;
  readonly known: boolean;
  readonly capturedAt: Date;
  /** null unless the server runs with track_commit_timestamp. */
  readonly committedAt: Date | null;
  readonly bytes: number;
}

/** The event as the database has it; null if it was never there or retention has removed it. */
export async function findEvent(session: Session, id: bigint): Promise<TracedEvent | null> {
  const { rows } = await session.query<{
    account_id: string | null;
    event: string;
    xid: string;
    known: boolean;
    created_at: Date;
    committed_at: Date | null;
    bytes: number;
  }>(
    // Scans the whole table, since id has no index: this runs only when a person asks.
    `select account_id, event, xid::text, created_at, octet_length(payload::text) as bytes,
            exists (select from relay.catalogue as c where c.event = e.event) as known,
            case when current_setting('track_commit_timestamp')::boolean
                 then pg_xact_commit_timestamp(xid::xid) end as committed_at
       from relay.events as e where id = $1`,
    [id.toString()],
  );
  const row = rows[0];
  if (!row) return null;
  return {
    account: row.account_id,
    event: row.event,
    xid: row.xid,
    known: row.known,
    capturedAt: row.created_at,
    committedAt: row.committed_at,
    bytes: row.bytes,
  };
}
