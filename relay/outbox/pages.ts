// Reads the events of a range in pages, for all accounts or for one. Pages are limited in size, so that each fits in
// memory and within the time limit of a query.
//
// The two branches of "not seen" are a UNION ALL, because an OR would be a sequential scan: 80 ms at a million rows,
// against 0.3 ms.
import {
  bounded,
  boundedAudience,
  COLUMNS,
  type EventRow,
  eventsWithout,
  LARGEST_PAYLOAD,
  type Page,
  type PageHeader,
  type PageLimits,
  type Session,
  sizeOf,
  suffixOf,
  toEvents,
  toHeader,
} from './events.ts';
import { type Position, type Snapshot, sees, snapshotText } from './position.ts';

export interface Range {
  /** What the reader has seen. */
  readonly seen: Snapshot;
  /** Where the range ends; null means at everything visible now. */
  readonly bound: Snapshot | null;
  /** Continue after this event within the range. */
  readonly after: bigint;
}

/** The first row describes the page and has no id. In the other rows the columns of the page are null. */
interface PageRow extends EventRow, PageHeader {
  bytes: string | null;
  stored: string | null;
}

/** $1 xmax, $2 xip, $3 id, $4 bound or null, $5 events, $6 bytes, $7 payload bytes, and $8 the account. */
function pageQuery(unseen: string): string {
  return `
    with reading as materialized (
      select pg_current_snapshot() as now, coalesce($4::pg_snapshot, pg_current_snapshot()) as bound
    ),
    page as materialized (
      select unseen.*
        from reading,
        lateral (
          select e.id, e.xid, ${bounded('e.account_id', 'account_id')}, ${bounded('e.event', 'event')}, e.payload,
                 ${boundedAudience('e.audience')}, e.created_at
            from (${unseen}) as e
           where pg_visible_in_snapshot(e.xid, reading.bound) and e.id > $3::bigint
           order by e.id limit $5::int
        ) as unseen
    ),
    stored as (
      select page.*, sum(pg_column_size(page.payload)) over (order by page.id) as stored from page
    ),
    -- Only payloads that may be sent, and at most a page of them, are cast to text: more would exceed the time limit.
    sized as materialized (
      select stored.*, ${sizeOf('stored.payload')} as size, coalesce(pg_column_size(stored.audience), 0) as topics from stored
       where stored.stored - pg_column_size(stored.payload) <= $6::bigint / 4
    ),
    running as (
      select sized.*, sum(topics + case when size <= ${LARGEST_PAYLOAD} then size else 0 end) over (order by sized.id) as sizes from sized
    ),
    measured as (
      select running.*, body.text as body, coalesce(octet_length(body.text), 0) as length,
             sum(running.topics + coalesce(octet_length(body.text), 0)) over (order by running.id) as bytes
        from running,
        lateral (select case when size <= ${LARGEST_PAYLOAD} then running.payload::text end offset 0) as body(text)
       where running.sizes - running.size - running.topics <= $6::bigint
    )
    select reading.now::text as snapshot, installation.epoch as epoch,
           installation.emptied_through::text as emptied_through, installation.emptied_in::text as emptied_in,
           greatest((select max(bytes) from measured), (select max(sizes) from running)) as bytes,
           (select max(stored) from stored) as stored,
           null::bigint as id, null::xid8 as xid, null as account_id, null as event, null as body, null::text[] as audience,
           null::boolean as known, null::float8 as captured_at
      from reading, relay.installation
    union all
    select null, null, null, null, null, null, id, xid, account_id, event,
           case when length <= $7::int then body end, audience,
           event in (select c.event from relay.catalogue as c),
           date_part('epoch', created_at) * 1000
      from measured where bytes - length - topics <= $6::bigint`;
}

const everyAccount = (events: string) =>
  pageQuery(`
  select ${COLUMNS} from ${events} as e where xid >= $1::xid8
  union all
  select ${COLUMNS} from ${events} as e where xid = any ($2::xid8[])`);

/**
 * $9 and $10 are ranges of transactions, $11 large transactions. A range is read whole to find its next events by id.
 * For a large transaction the index returns them in that order, so that not every page reads a million events. OFFSET 0
 * keeps the join order: the other way round, all events of the account would be read.
 */
const oneAccount = pageQuery(`
  select e.* from unnest($9::xid8[], $10::xid8[]) as part(low, high),
    lateral (select ${COLUMNS} from relay.events where account_id = $8 and xid >= part.low and xid < part.high offset 0) as e
  union all
  select ${COLUMNS} from relay.events where account_id = $8 and xid = any ($2::xid8[])
  union all
  select e.* from unnest($11::xid8[]) as large(xid),
    lateral (select ${COLUMNS} from relay.events where account_id = $8 and xid = large.xid and id > $3::bigint order by id limit $5::int) as e
  union all
  select ${COLUMNS} from relay.events where account_id is null and xid >= $1::xid8
  union all
  select ${COLUMNS} from relay.events where account_id is null and xid = any ($2::xid8[])`);

/**
 * The next events of every account that `range.seen` has not seen.
 * @param leftOut slots that are not read
 */
export async function readPage(
  session: Session,
  range: Range,
  limits: PageLimits,
  leftOut: readonly number[] = [],
): Promise<Page> {
  const result = await session.query<PageRow>({
    name: `recado_feed${suffixOf(leftOut)}`,
    text: everyAccount(eventsWithout(leftOut)),
    values: rangeValues(range, limits),
  });
  return toPage(result.rows, limits);
}

/** Larger than every transaction id. */
const LARGEST_XID = 2n ** 63n - 1n;

/**
 * The same for one account, together with the resyncs for every account.
 * @param large transactions known to have many events of the account; affects speed only
 */
export async function readAccountPage(
  session: Session,
  account: string,
  range: Range,
  limits: PageLimits,
  large: readonly bigint[] = [],
): Promise<Page> {
  const { seen } = range;
  const apart = large.filter((xid) => !sees(seen, xid)).sort((a, b) => (a < b ? -1 : 1));
  const above = apart.filter((xid) => xid >= seen.xmax);
  const lows = [seen.xmax, ...above.map((xid) => xid + 1n)];
  const highs = [...above, LARGEST_XID];
  const late = seen.xip.filter((xid) => !apart.includes(xid));
  const values = rangeValues({ ...range, seen: { ...seen, xip: late } }, limits);
  values.push(account, lows.map(String), highs.map(String), apart.map(String));
  const result = await session.query<PageRow>({ name: 'recado_replay', text: oneAccount, values });
  return toPage(result.rows, limits);
}

function rangeValues({ seen, bound, after }: Range, limits: PageLimits): unknown[] {
  return [
    seen.xmax.toString(),
    seen.xip.map(String),
    after.toString(),
    bound && snapshotText(bound),
    limits.events,
    limits.bytes,
    limits.payloadBytes,
  ];
}

function toPage(rows: PageRow[], limits: PageLimits): Page {
  const about = rows.find(({ snapshot }) => snapshot !== null);
  const events = toEvents(rows.filter(({ id }) => id !== null));
  const more =
    events.length === limits.events ||
    Number(about?.bytes) > limits.bytes ||
    Number(about?.stored) > Math.floor(limits.bytes / 4);
  return { ...toHeader(about), events, more };
}

/** The next range on the way from a position to `bound`: first the rest of the batch that the position is inside. */
export function nextRange(position: Position, bound: Snapshot): Range {
  return position.batch
    ? { seen: position.seen, bound: position.batch.bound, after: position.batch.through }
    : { seen: position.seen, bound, after: 0n };
}
