// Stored events for the page: the last ones of an account, and what became of one.
import type { Identity } from '../auth/token.ts';
import { hears } from '../delivery/hears.ts';
import type { Emitted } from '../delivery/recent-emits.ts';
import { boundedAudience, type Session, sizeOf } from '../outbox/events.ts';
import { horizon, parsePosition, snapshotText } from '../outbox/position.ts';

export interface StoredEvent {
  id: string;
  event: string;
  /** Absent where it is larger than is shown. */
  payload?: unknown;
  /** Of the payload. */
  bytes: number;
  /** ms since 1970, by the database's clock. */
  capturedAt: number;
}

/** The topics that a token hears. */
export function topicsHeard({ topics, ownTopic }: Pick<Identity, 'topics' | 'ownTopic'>): string[] {
  return ownTopic === null ? [...topics.names] : [...topics.names, ownTopic];
}

export interface FoundEvent extends StoredEvent {
  xid: string;
  /** Only where the server runs with track_commit_timestamp. */
  committedAt: number | null;
  /** By each process that remembers it. */
  emitted: Emitted[];
  /** Because of which of its topics the token hears it; null: everybody of the account does. */
  topics: string[] | null;
}

interface Row {
  event: string;
  audience: string[] | null;
}

/** The page tells both: how many are shown, and among how many of the account's newest events they are searched. */
export const MOST_STORED = 200;
export const LOOKED_THROUGH = 10_000;
const MOST_OF_A_NAME = 20;
const LARGEST_PAYLOAD = 4_096;

const COLUMNS = `jsonb_build_object('id', e.id::text, 'event', e.event, 'bytes', ${sizeOf('e.payload')},
    'capturedAt', round(extract(epoch from e.created_at) * 1000))
  || case when ${sizeOf('e.payload')} <= ${LARGEST_PAYLOAD} then jsonb_build_object('payload', e.payload) else '{}' end`;

/**
 * What a token may hear, the oldest first. Read in one snapshot with a position, they end where the position begins.
 * @param topic one that the token hears: only events of that topic
 */
export async function readStored(
  session: Session,
  identity: Identity,
  topic: string | null = null,
): Promise<StoredEvent[]> {
  const { rows } = await session.query<Row & { stored: StoredEvent }>(
    `select e.event, ${boundedAudience('e.audience')}, ${COLUMNS} as stored
       from (select * from relay.events where account_id = $1 order by xid desc, id desc limit ${LOOKED_THROUGH}) as e
      where ($3 and e.audience is null or e.audience && $2) and exists (select from relay.catalogue as c where c.event = e.event)
      order by e.xid desc, e.id desc limit ${MOST_STORED}`,
    [identity.accountId, topic === null ? topicsHeard(identity) : [topic], topic === null],
  );
  return rows
    .filter((row) => hears({ identity, choice: null }, row))
    .map(({ stored }) => stored)
    .reverse();
}

export interface Wanted {
  event: string;
  id: string | null;
  /** Of a client that has just seen the event. */
  position: string | null;
}

/** The account's event of that id; by a position, the last ones of that name which it has seen, the newest first. */
export async function findEvents(
  session: Session,
  identity: Identity,
  { event, id, position }: Wanted,
): Promise<Omit<FoundEvent, 'emitted'>[]> {
  const parsed = position === null ? null : parsePosition(position);
  const exact = parsed?.batch ? parsed.batch.through.toString() : id;
  if (exact === null && !parsed) return [];
  const { rows } = await session.query<Row & { found: Omit<FoundEvent, 'emitted' | 'topics'> }>(
    `select e.event, ${boundedAudience('e.audience')}, ${COLUMNS} || jsonb_build_object('xid', e.xid::text,
              'committedAt', case when current_setting('track_commit_timestamp')::boolean
                then round(extract(epoch from pg_xact_commit_timestamp(e.xid::xid)) * 1000) end) as found
       from relay.events as e
      where e.account_id = $1 and e.event = $2
        and case when $3::bigint is null then pg_visible_in_snapshot(e.xid, $4::pg_snapshot) else e.id = $3 end
      order by e.xid desc, e.id desc limit ${MOST_OF_A_NAME}`,
    [identity.accountId, event, exact, parsed ? snapshotText(horizon(parsed)) : null],
  );
  // Other topics of an event are not for everybody who hears it.
  const own = topicsHeard(identity);
  return rows
    .filter((row) => hears({ identity, choice: null }, row))
    .map(({ found, audience }) => ({
      ...found,
      topics: audience && own.filter((topic) => audience.includes(topic)),
    }));
}
