// Reads what became visible since the last read, for all accounts at once.
import {
  bounded,
  boundedAudience,
  COLUMNS,
  type EventRow,
  eventsWithout,
  type OutboxEvent,
  type Page,
  type PageHeader,
  type PageLimits,
  type Session,
  sizeOf,
  suffixOf,
  toEvents,
  toHeader,
} from './events.ts';
import { readPage } from './pages.ts';
import { type Snapshot, snapshotText } from './position.ts';

/** Limits of a small batch: number of events, and bytes of each. */
const MOST_SMALL = 1_000;
const SMALL_BYTES = 4_096;

type SmallBatchRow = EventRow & PageHeader;

/**
 * The query for the usual case, a small batch. It measures and sorts nothing, and stops at the first event too many, so
 * it takes half the time of the other query. $1 xmax, $2 xip if there is one.
 */
function smallBatchQuery(unseen: string): string {
  return `
    select pg_current_snapshot()::text as snapshot, installation.epoch,
           installation.emptied_through::text as emptied_through, installation.emptied_in::text as emptied_in,
           e.id, e.xid, ${bounded('e.account_id', 'account_id')}, ${bounded('e.event', 'event')},
           case when pg_column_size(e.payload) > ${SMALL_BYTES} then null
                when ${sizeOf('e.payload')} <= ${SMALL_BYTES} then e.payload::text end as body,
           ${boundedAudience('e.audience')},
           exists (select from relay.catalogue as c where c.event = e.event) as known,
           date_part('epoch', e.created_at) * 1000 as captured_at
      from relay.installation
      left join lateral (
        select u.* from (${unseen}) as u where pg_visible_in_snapshot(u.xid, pg_current_snapshot()) limit ${MOST_SMALL + 1}
      ) as e on true`;
}

const small = (events: string) =>
  smallBatchQuery(`select ${COLUMNS} from ${events} as e where xid >= $1::xid8`);

const smallWithLate = (events: string) =>
  smallBatchQuery(`
  select ${COLUMNS} from ${events} as e where xid >= $1::xid8
  union all
  select ${COLUMNS} from ${events} as e where xid = any ($2::xid8[])`);

/** Whether readSmallBatch() would have read these. The next batch is probably similar. */
export function isSmallBatch(events: readonly OutboxEvent[]): boolean {
  if (events.length > MOST_SMALL) return false;
  return events.every(({ payload }) => payload !== null && payload.length <= SMALL_BYTES);
}

/** Whether there are more events than fit into a page, without reading them. $1 xmax, $2 xip, $3 how many fit. */
const size = (events: string) => `
  select pg_current_snapshot()::text as snapshot, installation.epoch,
         installation.emptied_through::text as emptied_through, installation.emptied_in::text as emptied_in,
         exists (
           select from (select xid from ${events} as e where xid >= $1::xid8
                        union all
                        select xid from ${events} as e where xid = any ($2::xid8[])) as unseen
            where pg_visible_in_snapshot(unseen.xid, pg_current_snapshot()) offset $3::int) as more
    from relay.installation`;

/**
 * All events of every account that `seen` has not seen. If they do not fit into a page: `more`, and no events.
 * @param leftOut slots that are not read
 */
export async function readBatch(
  session: Session,
  seen: Snapshot,
  limits: PageLimits,
  leftOut: readonly number[] = [],
): Promise<Page> {
  const { rows } = await session.query<PageHeader & { more: boolean }>({
    name: `recado_size${suffixOf(leftOut)}`,
    text: size(eventsWithout(leftOut)),
    values: [seen.xmax.toString(), seen.xip.map(String), limits.events],
  });
  if (rows[0]?.more) return { ...toHeader(rows[0]), events: [], more: true };
  return readPage(session, { seen, bound: null, after: 0n }, limits, leftOut);
}

/**
 * The same if they are few and small; null otherwise: use readBatch().
 * @param leftOut slots that are not read
 */
export async function readSmallBatch(
  session: Session,
  seen: Snapshot,
  limits: PageLimits,
  leftOut: readonly number[] = [],
): Promise<Page | null> {
  const late = seen.xip.length > 0;
  const events = eventsWithout(leftOut);
  const { rows } = await session.query<SmallBatchRow>({
    name: `${late ? 'recado_small_with_late' : 'recado_small'}${suffixOf(leftOut)}`,
    text: late ? smallWithLate(events) : small(events),
    values: late ? [seen.xmax.toString(), seen.xip.map(String)] : [seen.xmax.toString()],
  });
  const found = rows.filter(({ id }) => id !== null);
  if (found.length > Math.min(MOST_SMALL, limits.events)) return null;
  let bytes = 0;
  for (const { body, audience } of found) {
    if (body === null) return null;
    const length = Buffer.byteLength(body);
    bytes += length;
    for (const topic of audience ?? []) bytes += Buffer.byteLength(topic);
    if (length > limits.payloadBytes || bytes > limits.bytes) return null;
  }
  return { ...toHeader(rows[0]), events: toEvents(found), more: false };
}

/**
 * Which of these accounts have events between two snapshots; null if one of the events is for every account.
 * @param leftOut slots that are not read
 */
export async function findTouched(
  session: Session,
  accounts: readonly string[],
  seen: Snapshot,
  bound: Snapshot,
  leftOut: readonly number[] = [],
): Promise<Set<string> | null> {
  const events = eventsWithout(leftOut);
  const { rows } = await session.query<{ account: string | null }>({
    name: `recado_touched${suffixOf(leftOut)}`,
    text: `select asked.account
             from unnest($1::text[]) as asked(account)
            where exists (select from ${events} as e
                           where e.account_id = asked.account and e.xid >= $2::xid8 and pg_visible_in_snapshot(e.xid, $4::pg_snapshot))
               or exists (select from ${events} as e
                           where e.account_id = asked.account and e.xid = any ($3::xid8[]) and pg_visible_in_snapshot(e.xid, $4::pg_snapshot))
           union all
           select null
            where exists (select from ${events} as e
                           where e.account_id is null and e.xid >= $2::xid8 and pg_visible_in_snapshot(e.xid, $4::pg_snapshot))
               or exists (select from ${events} as e
                           where e.account_id is null and e.xid = any ($3::xid8[]) and pg_visible_in_snapshot(e.xid, $4::pg_snapshot))`,
    values: [accounts, seen.xmax.toString(), seen.xip.map(String), snapshotText(bound)],
  });
  const touched = new Set<string>();
  for (const { account } of rows) {
    if (account === null) return null;
    touched.add(account);
  }
  return touched;
}
