// Where a reader begins, and whether what it has seen belongs to this database's history.
import { boundedAudience, eventsWithout, type Session, sizeOf, suffixOf } from './events.ts';
import { parseSnapshot, type Snapshot, snapshotText } from './position.ts';

/** Where a new reader begins: everything visible counts as seen. */
export interface Start {
  readonly epoch: string;
  /** The current snapshot, before cut(). */
  readonly now: Snapshot;
  /** The largest transaction of an event that is visible or was removed; null if there never was one. */
  readonly largest: Largest | null;
  /** How long events are kept. */
  readonly retentionMs: number;
}

/** A transaction that wrote events, and the witness of its last event, if that is known. */
export interface Largest {
  readonly xid: bigint;
  readonly witness?: number;
}

function toLargest(xid: string, witness: string | null): Largest {
  return { xid: BigInt(xid), ...(witness !== null && { witness: Number.parseInt(witness, 16) }) };
}

/** The epoch, after removing events of another database. */
export async function settleEpoch(session: Session): Promise<string> {
  const { rows } = await session.query<{ epoch: string }>('select relay.settle_epoch() as epoch');
  return rows[0]!.epoch;
}

/**
 * Settles the epoch and returns where to begin.
 * @param leftOut slots that are not read
 */
export async function readStart(session: Session, leftOut: readonly number[] = []): Promise<Start> {
  const epoch = await settleEpoch(session);
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
      left join lateral (select e.xid, relay.witness(e.created_at) as witness from ${eventsWithout(leftOut)} as e
                          where pg_visible_in_snapshot(e.xid, pg_current_snapshot())
                          order by e.xid desc, e.id desc limit 1) as newest on true`);
  const { now, largest, witness, retention } = rows[0]!;
  return {
    epoch,
    now: parseSnapshot(now),
    largest: largest === null ? null : toLargest(largest, witness),
    retentionMs: retention,
  };
}

/**
 * The largest transaction of an event that `bound` sees.
 * @param leftOut slots that are not read
 */
export async function readLargest(
  session: Session,
  bound: Snapshot,
  leftOut: readonly number[] = [],
): Promise<Largest | null> {
  const { rows } = await session.query<{ xid: string; witness: string }>({
    name: `recado_largest${suffixOf(leftOut)}`,
    text: `select e.xid::text as xid, relay.witness(e.created_at) as witness
             from ${eventsWithout(leftOut)} as e where pg_visible_in_snapshot(e.xid, $1::pg_snapshot)
            order by e.xid desc, e.id desc limit 1`,
    values: [snapshotText(bound)],
  });
  return rows[0] ? toLargest(rows[0].xid, rows[0].witness) : null;
}

/**
 * Which of these transactions are not in this database's history: their last event has another time, or is missing
 * although retention has not removed it.
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
 * The first transaction of the newest events that fit into these limits, with nothing removed among them; for filling
 * the recent events. The bytes are of JSON: events are stored compressed, and may be a thousand times smaller there.
 * @param leftOut slots that are not read
 */
export async function findRecent(
  session: Session,
  events: number,
  bytes: number,
  leftOut: readonly number[] = [],
): Promise<bigint> {
  const { rows } = await session.query<{
    oldest: string | null;
    newest: string | null;
    emptied: string | null;
    all: boolean;
  }>(
    `with newest as (
       select xid, payload, coalesce(pg_column_size(audience), 0) as topics,
              row_number() over w as n, sum(pg_column_size(payload)) over w as bytes
         from (select xid, payload, ${boundedAudience('audience')} from ${eventsWithout(leftOut)} as e order by xid desc limit $1::int + 1) as e
       window w as (order by xid desc rows unbounded preceding)
     ),
     stored as materialized (
       -- A stored payload is never larger than the uncompressed one.
       select xid, n, topics + ${sizeOf('payload')} as size from newest where n <= $1::int and bytes <= $2::bigint
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
  // The oldest transaction may fit only in part, and nothing fits if the newest event alone is too large.
  return BigInt(oldest ?? newest!) + 1n;
}

/** Which run of which server this is. Snapshots of two runs cannot be compared: a crash reuses transaction ids. */
export async function readServer(session: Session): Promise<string> {
  const { rows } = await session.query<{ server: string }>({
    name: 'recado_server',
    text: `select system_identifier || '/' || (date_part('epoch', pg_postmaster_start_time()) * 1000000)::bigint as server
             from pg_control_system()`,
  });
  return rows[0]!.server;
}

/** The id of this installation of Recado, which names its stream. */
export async function readInstallation(session: Session): Promise<string> {
  const { rows } = await session.query<{ id: string }>('select id::text as id from relay.installation');
  return rows[0]!.id;
}

/** Invalidates every position, unless another relay already has; see relay.new_epoch(). */
export async function startNewEpoch(session: Session, expected: string): Promise<void> {
  await session.query('select relay.new_epoch($1)', [expected]);
}
