// Rows of relay.events as all readers get them, and what the queries share. position.ts explains positions and
// snapshots.
//
// The queries run on sessions from openReader() (db/connect.ts), which turns off sequential scans, JIT and parallel
// workers before any statement is prepared.
import type pg from 'pg';
import { type Emptied, parseSnapshot, type Snapshot } from './position.ts';

/** Anything that runs a query: a client or a pool. */
export type Session = Pick<pg.ClientBase, 'query'>;

export interface OutboxEvent {
  readonly id: bigint;
  readonly xid: bigint;
  /** null means every account; only a resync is sent to all. */
  readonly account: string | null;
  readonly event: string;
  /** JSON text as Postgres prints it; null if it exceeds the size limit. U+FFFD replaces bytes that are not UTF-8. */
  readonly payload: string | null;
  /** A listener must hold one of these topics. null means everybody of the account, an empty list nobody. */
  readonly audience: readonly string[] | null;
  /** Whether the event was in the contract when it was read. */
  readonly known: boolean;
  /** When it was captured, by the database's clock, in ms since 1970. */
  readonly capturedAt: number;
}

export interface Page {
  /** The snapshot of the statement that read the page, before cut(). */
  readonly now: Snapshot;
  /** The current epoch of the database. */
  readonly epoch: string | null;
  /** null if retention has removed nothing yet. */
  readonly emptied: Emptied | null;
  /** In the order of their ids. */
  readonly events: readonly OutboxEvent[];
  /** Whether more events follow the last one. */
  readonly more: boolean;
}

export interface PageLimits {
  readonly events: number;
  /** Bytes of JSON and topics after which a page ends. It also ends after a quarter of this as stored (compressed). */
  readonly bytes: number;
  /** Bytes of JSON above which a payload is not read. */
  readonly payloadBytes: number;
}

export interface EventRow {
  id: string | null;
  xid: string | null;
  account_id: string | null;
  event: string | null;
  body: string | null;
  audience: string[] | null;
  known: boolean | null;
  captured_at: number | null;
}

export interface PageHeader {
  snapshot: string | null;
  epoch: string | null;
  emptied_through: string | null;
  emptied_in: string | null;
}

/** The columns of relay.events that make up an event. */
export const COLUMNS = 'id, xid, account_id, event, payload, audience, created_at';

/**
 * The table, without some slots. The list is literal, so that Postgres neither opens nor locks the others; a parameter
 * would only be evaluated after they are locked.
 */
export function eventsWithout(slots: readonly number[]): string {
  if (slots.length === 0) return 'relay.events';
  const rest = SLOTS.filter((slot) => !slots.includes(slot));
  return `(select ${COLUMNS} from relay.events where slot in (${rest.join(', ')}))`;
}

/** The slots of the ring; see migrations/relay. */
export const SLOTS = [0, 1, 2, 3, 4, 5, 6, 7];

/** Suffix for the name of a prepared statement. */
export function suffixOf(slots: readonly number[]): string {
  return slots.length === 0 ? '' : `_without_${slots.join('_')}`;
}

/**
 * The limits of publish() and emit(). Direct INSERTs bypass them, so oversized payloads are never cast to text, and an
 * oversized account is truncated to a length that matches no account. Topics beyond the limits are not read, and an
 * audience with too many topics reads as empty. It never reads as null, which would mean everybody.
 */
export const LARGEST_PAYLOAD = 4 * 1024 * 1024;
const LONGEST_NAME = 256;
const MOST_TOPICS = 100;
const LONGEST_TOPIC = 128;

/** pg_column_size() of a stored value is its compressed size. An empty path makes a copy that is not compressed. */
export const sizeOf = (payload: string) => `pg_column_size(${payload} #> '{}')`;
export const bounded = (name: string, as: string) =>
  `case when octet_length(${name}) <= ${LONGEST_NAME} then ${name} else left(${name}, ${LONGEST_NAME + 1}) end as ${as}`;
export const boundedAudience = (audience: string) =>
  `case when ${audience} is null then null
        when cardinality(${audience}) <= ${MOST_TOPICS} then array(select topic from unnest(${audience}) as topic where octet_length(topic) <= ${LONGEST_TOPIC})
        else '{}' end as audience`;

export function toHeader(about: PageHeader | undefined): Pick<Page, 'now' | 'epoch' | 'emptied'> {
  const { emptied_through: through = null, emptied_in: inSnapshot = null } = about ?? {};
  return {
    now: parseSnapshot(about?.snapshot ?? ''),
    epoch: about?.epoch ?? null,
    emptied:
      through === null || inSnapshot === null
        ? null
        : { through: BigInt(through), in: parseSnapshot(inSnapshot) },
  };
}

export function toEvents(rows: EventRow[]): OutboxEvent[] {
  const events = rows.map((row) => ({
    id: BigInt(row.id!),
    xid: BigInt(row.xid!),
    account: row.account_id,
    event: row.event!,
    payload: row.body,
    audience: row.audience,
    known: row.known!,
    capturedAt: row.captured_at!,
  }));
  // UNION ALL guarantees no order.
  return events.sort((a, b) => (a.id < b.id ? -1 : 1));
}
