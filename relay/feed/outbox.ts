// The queries we send to relay.events, each beside its row type. What they mean stands in position.ts.
//
// They run on sessions set up by openReader() (database.ts): no sequential scans, no JIT, no parallel workers, set
// before anything is prepared. The two branches of "not seen" are a UNION ALL because as an OR they are a
// sequential scan: 80 ms at a million rows against 0.3.
import type pg from 'pg';
import { type Emptied, type Position, parseSnapshot, type Snapshot, sees, snapshotText } from './position.ts';

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
  /** Bytes of JSON after which a page ends; or a quarter of that as stored, that is compressed. */
  readonly bytes: number;
  /** Bytes of JSON above which a payload is not read. */
  readonly payloadBytes: number;
}

interface EventRow {
  id: string | null;
  xid: string | null;
  account_id: string | null;
  event: string | null;
  body: string | null;
  known: boolean | null;
  captured_at: number | null;
}

interface PageHeader {
  snapshot: string | null;
  epoch: string | null;
  emptied_through: string | null;
  emptied_in: string | null;
}

type FewRow = EventRow & PageHeader;

/** The first is about the page, and has no id; in the others all that is about the page is null. */
interface PageRow extends EventRow, PageHeader {
  bytes: string | null;
  stored: string | null;
}

/**
 * What publish() and emit() let in, and what they let in of an account. Whoever inserts by himself is not asked; no
 * text is made of a payload that is larger, and only so much of an account is read that it is nobody's.
 */
const LARGEST_PAYLOAD = 4 * 1024 * 1024;
const LONGEST_NAME = 256;

/** pg_column_size() of what is stored tells of it as it was compressed; a path of no steps gives it as it is. */
const sizeOf = (payload: string) => `pg_column_size(${payload} #> '{}')`;
const bounded = (name: string, as: string) =>
  `case when octet_length(${name}) <= ${LONGEST_NAME} then ${name} else left(${name}, ${LONGEST_NAME + 1}) end as ${as}`;

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
          select e.id, e.xid, ${bounded('e.account_id', 'account_id')}, ${bounded('e.event', 'event')}, e.payload, e.created_at
            from (${unseen}) as e
           where pg_visible_in_snapshot(e.xid, reading.bound) and e.id > $3::bigint
           order by e.id limit $5::int
        ) as unseen
    ),
    stored as (
      select page.*, sum(pg_column_size(page.payload)) over (order by page.id) as stored from page
    ),
    -- Only what may be sent is made text of, and of no more than a page of it: it would take longer than a query may.
    sized as materialized (
      select stored.*, ${sizeOf('stored.payload')} as size from stored
       where stored.stored - pg_column_size(stored.payload) <= $6::bigint / 4
    ),
    running as (
      select sized.*, sum(case when size <= ${LARGEST_PAYLOAD} then size else 0 end) over (order by sized.id) as sizes from sized
    ),
    measured as (
      select running.*, body.text as body, coalesce(octet_length(body.text), 0) as length,
             sum(coalesce(octet_length(body.text), 0)) over (order by running.id) as bytes
        from running,
        lateral (select case when size <= ${LARGEST_PAYLOAD} then running.payload::text end offset 0) as body(text)
       where running.sizes - running.size <= $6::bigint
    )
    select reading.now::text as snapshot, installation.epoch as epoch,
           installation.emptied_through::text as emptied_through, installation.emptied_in::text as emptied_in,
           greatest((select max(bytes) from measured), (select max(sizes) from running)) as bytes,
           (select max(stored) from stored) as stored,
           null::bigint as id, null::xid8 as xid, null as account_id, null as event, null as body,
           null::boolean as known, null::float8 as captured_at
      from reading, relay.installation
    union all
    select null, null, null, null, null, null, id, xid, account_id, event,
           case when length <= $7::int then body end,
           event in (select c.event from relay.catalogue as c),
           date_part('epoch', created_at) * 1000
      from measured where bytes - length <= $6::bigint`;
}

/** Above every transaction. */
const LARGEST_XID = 2n ** 63n - 1n;

/** How many events, and of which size, the query for few of them reads. */
const FEW = 1_000;
const SMALL_BYTES = 4_096;

/**
 * The query for the usual case: a few small events since the last read. It measures nothing, sorts nothing and stops
 * at the first event too many, and so takes half the time of the other. $1 xmax, $2 xip where there is one.
 */
function fewQuery(unseen: string): string {
  return `
    select pg_current_snapshot()::text as snapshot, installation.epoch,
           installation.emptied_through::text as emptied_through, installation.emptied_in::text as emptied_in,
           e.id, e.xid, ${bounded('e.account_id', 'account_id')}, ${bounded('e.event', 'event')},
           case when pg_column_size(e.payload) > ${SMALL_BYTES} then null
                when ${sizeOf('e.payload')} <= ${SMALL_BYTES} then e.payload::text end as body,
           exists (select from relay.catalogue as c where c.event = e.event) as known,
           date_part('epoch', e.created_at) * 1000 as captured_at
      from relay.installation
      left join lateral (
        select u.* from (${unseen}) as u where pg_visible_in_snapshot(u.xid, pg_current_snapshot()) limit ${FEW + 1}
      ) as e on true`;
}

/** Whether the query for few events would have read these; what follows is probably like them. */
export function areFew(events: readonly OutboxEvent[]): boolean {
  if (events.length > FEW) return false;
  return events.every(({ payload }) => payload !== null && payload.length <= SMALL_BYTES);
}

const columns = 'id, xid, account_id, event, payload, created_at';

const everyAccount = pageQuery(`
  select ${columns} from relay.events where xid >= $1::xid8
  union all
  select ${columns} from relay.events where xid = any ($2::xid8[])`);

const few = fewQuery(`select ${columns} from relay.events where xid >= $1::xid8`);

const fewWithLate = fewQuery(`
  select ${columns} from relay.events where xid >= $1::xid8
  union all
  select ${columns} from relay.events where xid = any ($2::xid8[])`);

/**
 * $9 and $10 are ranges of transactions, $11 those that are large. All rows of a range are read to find the next by their
 * ids; of a large transaction the index gives them in that order, so that a million events are not read for each page.
 * OFFSET 0 keeps the order of the join: the other way round all events of the account are read.
 */
const oneAccount = pageQuery(`
  select e.* from unnest($9::xid8[], $10::xid8[]) as part(low, high),
    lateral (select ${columns} from relay.events where account_id = $8 and xid >= part.low and xid < part.high offset 0) as e
  union all
  select ${columns} from relay.events where account_id = $8 and xid = any ($2::xid8[])
  union all
  select e.* from unnest($11::xid8[]) as large(xid),
    lateral (select ${columns} from relay.events where account_id = $8 and xid = large.xid and id > $3::bigint order by id limit $5::int) as e
  union all
  select ${columns} from relay.events where account_id is null and xid >= $1::xid8
  union all
  select ${columns} from relay.events where account_id is null and xid = any ($2::xid8[])`);

/** Whether there are more events than a page holds, without reading them. $1 xmax, $2 xip, $3 how many. */
const size = `
  select pg_current_snapshot()::text as snapshot, installation.epoch,
         installation.emptied_through::text as emptied_through, installation.emptied_in::text as emptied_in,
         exists (
           select from (select xid from relay.events where xid >= $1::xid8
                        union all
                        select xid from relay.events where xid = any ($2::xid8[])) as unseen
            where pg_visible_in_snapshot(unseen.xid, pg_current_snapshot()) offset $3::int) as more
    from relay.installation`;

export interface Range {
  /** What the reader has seen. */
  readonly seen: Snapshot;
  /** What it shall have seen afterwards; null: whatever is visible now. */
  readonly bound: Snapshot | null;
  /** Within the range, continue behind this event. */
  readonly after: bigint;
}

/** All events of every account that `seen` has not seen; with `more` and none of them where a page does not hold them. */
export async function readBatch(session: Session, seen: Snapshot, limits: PageLimits): Promise<Page> {
  const values = [seen.xmax.toString(), seen.xip.map(String), limits.events];
  const { rows } = await session.query<PageHeader & { more: boolean }>({
    name: 'recado_size',
    text: size,
    values,
  });
  if (rows[0]?.more) return { ...header(rows[0]), events: [], more: true };
  return readPage(session, { seen, bound: null, after: 0n }, limits);
}

/** The next events of every account that `range.seen` has not seen. */
export async function readPage(session: Session, range: Range, limits: PageLimits): Promise<Page> {
  const values = rangeValues(range, limits);
  const result = await session.query<PageRow>({ name: 'recado_feed', text: everyAccount, values });
  return toPage(result.rows, limits);
}

/**
 * All events of every account that `seen` has not seen, if they are few and small; null: use readPage().
 */
export async function readFew(session: Session, seen: Snapshot, limits: PageLimits): Promise<Page | null> {
  const late = seen.xip.length > 0;
  const { rows } = await session.query<FewRow>({
    name: late ? 'recado_few_with_late' : 'recado_few',
    text: late ? fewWithLate : few,
    values: late ? [seen.xmax.toString(), seen.xip.map(String)] : [seen.xmax.toString()],
  });
  const found = rows.filter(({ id }) => id !== null);
  if (found.length > Math.min(FEW, limits.events)) return null;
  let bytes = 0;
  for (const { body } of found) {
    if (body === null) return null;
    const length = Buffer.byteLength(body);
    bytes += length;
    if (length > limits.payloadBytes || bytes > limits.bytes) return null;
  }
  return { ...header(rows[0]), events: toEvents(found), more: false };
}

/**
 * The same for one account, with the resyncs that are meant for every account.
 * @param large transactions that are known to have many events of the account; a matter of speed only
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
  return { ...header(about), events, more };
}

function header(about: PageHeader | undefined): Pick<Page, 'now' | 'epoch' | 'emptied'> {
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

function toEvents(rows: EventRow[]): OutboxEvent[] {
  const events = rows.map((row) => ({
    id: BigInt(row.id!),
    xid: BigInt(row.xid!),
    account: row.account_id,
    event: row.event!,
    payload: row.body,
    known: row.known!,
    capturedAt: row.captured_at!,
  }));
  // The order of a UNION ALL's rows is not promised.
  return events.sort((a, b) => (a.id < b.id ? -1 : 1));
}

/** Where a reader that comes anew begins: everything visible counts as seen. */
export interface Start {
  readonly epoch: string;
  /** Not cut. */
  readonly now: Snapshot;
  /** Largest transaction of an event that is visible or was emptied; null: there never was one. */
  readonly largest: Largest | null;
  /** How long events are kept. */
  readonly retentionMs: number;
}

/** A transaction that wrote events, and the witness of its last one, where that is known. */
export interface Largest {
  readonly xid: bigint;
  readonly witness?: number;
}

function toLargest(xid: string, witness: string | null): Largest {
  return { xid: BigInt(xid), ...(witness !== null && { witness: Number.parseInt(witness, 16) }) };
}

/** Settles whose events these are (another database's are emptied) and says where to begin. */
export async function readStart(session: Session): Promise<Start> {
  const settled = await session.query<{ epoch: string }>('select relay.settle_epoch() as epoch');
  const { rows } = await session.query<{
    now: string;
    largest: string | null;
    witness: string | null;
    retention: number;
  }>(`
    select pg_current_snapshot()::text as now, date_part('epoch', installation.retention) * 1000 as retention,
           case when newest.xid >= coalesce(installation.emptied_through, newest.xid) then newest.xid else installation.emptied_through end::text as largest,
           case when newest.xid >= coalesce(installation.emptied_through, newest.xid) then newest.witness else installation.emptied_witness end as witness
      from relay.installation
      left join lateral (select e.xid, relay.witness(e.created_at) as witness from relay.events as e
                          where pg_visible_in_snapshot(e.xid, pg_current_snapshot())
                          order by e.xid desc, e.id desc limit 1) as newest on true`);
  const { now, largest, witness, retention } = rows[0]!;
  return {
    epoch: settled.rows[0]!.epoch,
    now: parseSnapshot(now),
    largest: largest === null ? null : toLargest(largest, witness),
    retentionMs: retention,
  };
}

/** Largest transaction of an event that `bound` sees. */
export async function readLargest(session: Session, bound: Snapshot): Promise<Largest | null> {
  const { rows } = await session.query<{ xid: string; witness: string }>({
    name: 'recado_largest',
    text: `select e.xid::text as xid, relay.witness(e.created_at) as witness
             from relay.events as e where pg_visible_in_snapshot(e.xid, $1::pg_snapshot)
            order by e.xid desc, e.id desc limit 1`,
    values: [snapshotText(bound)],
  });
  return rows[0] ? toLargest(rows[0].xid, rows[0].witness) : null;
}

/**
 * Which of these transactions are not in this database's history: their last event has another time, or is not there
 * though retention has not taken it.
 */
export async function findForeign(
  session: Session,
  claimed: ReadonlyMap<bigint, number>,
): Promise<Set<bigint>> {
  if (claimed.size === 0) return new Set();
  const { rows } = await session.query<{ xid: string }>({
    name: 'recado_foreign',
    text: `select claimed.xid::text as xid
             from relay.installation, unnest($1::xid8[], $2::text[]) as claimed(xid, witness)
             left join lateral (select e.created_at from relay.events as e where e.xid = claimed.xid order by e.id desc limit 1) as found on true
            where case when found.created_at is not null then relay.witness(found.created_at) <> claimed.witness
                       when claimed.xid = installation.emptied_through then installation.emptied_witness <> claimed.witness
                       else claimed.xid > coalesce(installation.emptied_through, '0') end`,
    values: [
      [...claimed.keys()].map(String),
      [...claimed.values()].map((witness) => witness.toString(16).padStart(6, '0')),
    ],
  });
  return new Set(rows.map(({ xid }) => BigInt(xid)));
}

/**
 * The transaction from which on the table holds at most so many events and bytes, and all there ever were; for
 * warming the window. Bytes of JSON: what is stored is compressed, and may be a thousand times smaller.
 */
export async function findRecent(session: Session, events: number, bytes: number): Promise<bigint> {
  const { rows } = await session.query<{
    oldest: string | null;
    newest: string | null;
    emptied: string | null;
    all: boolean;
  }>(
    `with newest as (
       select xid, payload, row_number() over w as n, sum(pg_column_size(payload)) over w as bytes
         from (select xid, payload from relay.events order by xid desc limit $1::int + 1) as e
       window w as (order by xid desc rows unbounded preceding)
     ),
     stored as materialized (
       -- As it is stored, it is never larger than as it is.
       select xid, n, ${sizeOf('payload')} as size from newest where n <= $1::int and bytes <= $2::bigint
     ),
     fitting as (
       select xid from (select xid, sum(size) over (order by n rows unbounded preceding) as bytes from stored) as sized
        where bytes <= $2::bigint
     )
     select (select min(xid::text::bigint) from fitting)::text as oldest,
            (select max(xid::text::bigint) from newest)::text as newest,
            (select emptied_through from relay.installation)::text as emptied,
            (select count(*) from newest) = (select count(*) from fitting) as all`,
    [events, bytes],
  );
  const { oldest, newest, emptied, all } = rows[0]!;
  if (all) return BigInt(emptied ?? 0) + 1n;
  // The oldest transaction may fit only in part; and nothing fits where the newest event alone is too large.
  return BigInt(oldest ?? newest!) + 1n;
}

/** Which of these accounts have events between two snapshots; null: there is one for every account. */
export async function findTouched(
  session: Session,
  accounts: readonly string[],
  seen: Snapshot,
  bound: Snapshot,
): Promise<Set<string> | null> {
  const { rows } = await session.query<{ account: string | null }>({
    name: 'recado_touched',
    text: `select asked.account
             from unnest($1::text[]) as asked(account)
            where exists (select from relay.events as e
                           where e.account_id = asked.account and e.xid >= $2::xid8 and pg_visible_in_snapshot(e.xid, $4::pg_snapshot))
               or exists (select from relay.events as e
                           where e.account_id = asked.account and e.xid = any ($3::xid8[]) and pg_visible_in_snapshot(e.xid, $4::pg_snapshot))
           union all
           select null
            where exists (select from relay.events as e
                           where e.account_id is null and e.xid >= $2::xid8 and pg_visible_in_snapshot(e.xid, $4::pg_snapshot))
               or exists (select from relay.events as e
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

/** Declares every position void, unless another relay already did; see relay.new_epoch(). */
export async function startNewEpoch(session: Session, expected: string): Promise<void> {
  await session.query('select relay.new_epoch($1)', [expected]);
}

/** The range that leads from a position to `bound`: first the rest of the batch it stopped in. */
export function nextRange(position: Position, bound: Snapshot): Range {
  return position.batch
    ? { seen: position.seen, bound: position.batch.bound, after: position.batch.through }
    : { seen: position.seen, bound, after: 0n };
}

/** How the database bears it; for the metrics. */
export interface Load {
  /** 0 to 1. */
  readonly notifyQueue: number;
  readonly oldestTransactionSeconds: number;
  readonly outboxBytes: number;
  readonly captureFailures: number;
}

export async function readLoad(session: Session): Promise<Load> {
  const { rows } = await session.query<{ queue: number; oldest: number; bytes: string; failures: number }>(
    `select pg_notification_queue_usage() as queue,
            coalesce((select max(date_part('epoch', clock_timestamp() - xact_start)) from pg_stat_activity
                       where backend_xid is not null and datname = current_database()), 0) as oldest,
            (select sum(pg_total_relation_size(inhrelid)) from pg_inherits
              where inhparent = 'relay.events'::regclass)::text as bytes,
            -- The last hour by its transactions would need an index; the last events are enough to raise an alarm.
            (select count(*)::int from (select event, payload, created_at from relay.events order by xid desc limit 10000) as e
              where event = 'relay:resync' and payload ->> 'reason' = 'capture_failed'
                and created_at > clock_timestamp() - interval '1 hour') as failures`,
  );
  const { queue, oldest, bytes, failures } = rows[0]!;
  return {
    notifyQueue: queue,
    oldestTransactionSeconds: oldest,
    outboxBytes: Number(bytes),
    captureFailures: failures,
  };
}

/** How many things are off with the contract; relay.check() names them. */
export async function countProblems(session: Session): Promise<number> {
  const { rows } = await session.query<{ problems: number }>(
    'select count(*)::int as problems from relay.check()',
  );
  return rows[0]!.problems;
}
