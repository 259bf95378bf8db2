// Rows of relay.events as every reader of it gets them, and what the queries share. What positions and snapshots mean
// stands in position.ts.
//
// The queries run on sessions set up by openReader() (db/connect.ts): no sequential scans, no JIT, no parallel workers,
// set before anything is prepared.
import type pg from 'pg';
import { type Emptied, parseSnapshot, type Snapshot } from './position.ts';

/** Anything that runs a query: a client or a pool. */
export type Session = Pick<pg.ClientBase, 'query'>;

export interface OutboxEvent {
  readonly id: bigint;
  readonly xid: bigint;
  /** null, for a resync only: every account. */
  readonly account: string | null;
  readonly event: string;
  /** JSON text as Postgres prints it; null where it is larger than may be sent. Bytes that are no UTF-8 are U+FFFD. */
  readonly payload: string | null;
  /** Topics of which a listener must hold one; null: everybody of the account hears it. Empty: nobody. */
  readonly audience: readonly string[] | null;
  /** Whether the contract knew the event when it was read. */
  readonly known: boolean;
  /** When it was captured, by the database's clock, in ms since 1970. */
  readonly capturedAt: number;
}

export interface Page {
  /** The snapshot of the statement that read it; not cut. */
  readonly now: Snapshot;
  /** The epoch that was settled last. */
  readonly epoch: string | null;
  /** null: nothing was. */
  readonly emptied: Emptied | null;
  /** In the order of their ids. */
  readonly events: readonly OutboxEvent[];
  /** There are more behind the last one. */
  readonly more: boolean;
}

export interface PageLimits {
  readonly events: number;
  /** Bytes of JSON and of topics after which a page ends; or a quarter of that as stored, that is compressed. */
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

/** Columns of relay.events that an event is made of. */
export const COLUMNS = 'id, xid, account_id, event, payload, audience, created_at';

/**
 * The table, or what is left of it without some slots. A literal list, so that Postgres neither opens nor locks the
 * others: a parameter would be looked at when they are locked already.
 */
export function eventsWithout(slots: readonly number[]): string {
  if (slots.length === 0) return 'relay.events';
  const rest = SLOTS.filter((slot) => !slots.includes(slot));
  return `(select ${COLUMNS} from relay.events where slot in (${rest.join(', ')}))`;
}

/** Of the ring; see migrations/relay. */
export const SLOTS = [0, 1, 2, 3, 4, 5, 6, 7];

/** For the name of a prepared statement. */
export function suffixOf(slots: readonly number[]): string {
  return slots.length === 0 ? '' : `_without_${slots.join('_')}`;
}

/**
 * What publish() and emit() accept. Direct INSERTs bypass these limits: oversized payloads are never cast to text, and
 * of an oversized account only so much is read that it matches none. Of an audience only the topics within the limits
 * are read, and none where they are too many. It never becomes null, which would be everybody.
 */
export const LARGEST_PAYLOAD = 4 * 1024 * 1024;
const LONGEST_NAME = 256;
const MOST_TOPICS = 100;
const LONGEST_TOPIC = 128;

/** pg_column_size() of a stored value is its compressed size; a path of no steps gives the size as it is. */
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
  // The order of a UNION ALL's rows is not promised.
  return events.sort((a, b) => (a.id < b.id ? -1 : 1));
}
