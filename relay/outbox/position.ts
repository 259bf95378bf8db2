// A position is what a reader has seen, as a Postgres snapshot. All arithmetic with snapshots is in this file.
//
// A snapshot sees every transaction below xmax except those that were in progress (xip). What lies between two
// snapshots is what a reader has missed, even if a transaction with a small id commits last. This is why a position is
// not "the last id seen".
//
// After a restore, transaction ids repeat but times do not. So a remembered snapshot carries a witness: digits from the
// time of the last event of its largest transaction, xmax - 1. See docs/decisions/epoch-and-witness.md.
import { RecadoError } from '../errors.ts';

/** Transaction ids are xid8: 64 bits, never reused in one epoch of a database. */
export interface Snapshot {
  /** The first transaction that it does not see. */
  readonly xmax: bigint;
  /** The transactions below xmax that it does not see, ascending. */
  readonly xip: readonly bigint[];
  /** See witnessOf(). Absent in a snapshot straight from Postgres, and if no event was ever seen. */
  readonly witness?: number;
}

/**
 * Without `batch`: everything that `seen` sees. With `batch`: also what `batch.bound` sees, up to the event
 * `batch.through`. Events in a batch are ordered by id, so this is where a reader stopped inside it.
 */
export interface Position {
  readonly epoch: string;
  readonly seen: Snapshot;
  readonly batch?: { readonly bound: Snapshot; readonly through: bigint };
}

/** The position of a reader who has seen nothing. */
export const NOTHING: Snapshot = { xmax: 1n, xip: [] };

/** Longest text that is parsed: room for some 8,000 transactions in progress. With 30,000, parsing took 164 ms. */
const MAX_LENGTH = 16_384;
/** Sent in place of a longer position. It cannot be parsed, so it leads to a resync, not to a gap. */
const TOO_LONG = '-';

/**
 * @param text `xmin:xmax:xip,xip,…`, as pg_current_snapshot() prints it
 * @throws RecadoError `snapshot_unreadable`
 */
export function parseSnapshot(text: string): Snapshot {
  const match = /^\d+:(\d+):([\d,]*)$/.exec(text);
  if (!match) {
    throw new RecadoError(
      'snapshot_unreadable',
      `Received the snapshot ${JSON.stringify(text.slice(0, 80))}, expected xmin:xmax:xip,… as Postgres prints it.`,
    );
  }
  const xip = match[2] === '' ? [] : match[2]!.split(',').map(BigInt);
  return { xmax: BigInt(match[1]!), xip };
}

/** The snapshot as Postgres's pg_snapshot type reads it. */
export function snapshotText({ xmax: first, xip }: Snapshot): string {
  // After the last transaction before a 32-bit wraparound comes an id that is never used, and Postgres refuses it.
  const xmax = isNone(first) ? first + 1n : first;
  return `${xip[0] ?? xmax}:${xmax}:${xip.join(',')}`;
}

/** Postgres counts with 32 bits, and 0 is not a transaction. */
function isNone(xid: bigint): boolean {
  return BigInt.asUintN(32, xid) === 0n;
}

/** Whether the snapshot sees the transaction: pg_visible_in_snapshot(). */
export function sees(snapshot: Snapshot, xid: bigint): boolean {
  return xid < snapshot.xmax && !includes(snapshot.xip, xid);
}

/**
 * The snapshot in the form that may be remembered: without anything above `largest`, the largest transaction that wrote
 * an event it sees. After a crash Postgres reuses the ids of transactions whose end was not on disk. An uncut snapshot
 * already counts them as seen, and 7 of 8 events were lost. `largest` itself is on disk.
 */
export function cut(snapshot: Snapshot, largest: bigint, witness?: number): Snapshot {
  const xmax = largest + 1n;
  const attested = witness === undefined ? {} : { witness };
  if (xmax > snapshot.xmax) return snapshot;
  if (xmax === snapshot.xmax) return { ...snapshot, ...attested };
  return { xmax, xip: snapshot.xip.filter((xid) => xid < xmax), ...attested };
}

/** The last 24 bits of a time in microseconds: relay.witness(). */
export function witnessOf({ capturedAt }: { capturedAt: number }): number {
  return Math.round(capturedAt * 1_000) % 2 ** 24;
}

/** Whether `snapshot` sees everything that `other` sees. */
export function covers(snapshot: Snapshot, other: Snapshot): boolean {
  if (other.xmax > snapshot.xmax) {
    const hidden = other.xip.length - firstAtLeast(other.xip, snapshot.xmax);
    if (BigInt(hidden) !== other.xmax - snapshot.xmax) return false;
  }
  for (const xid of snapshot.xip) {
    if (xid >= other.xmax) break;
    if (!includes(other.xip, xid)) return false;
  }
  return true;
}

/** What at least one of two snapshots of one history sees. */
export function union(a: Snapshot, b: Snapshot): Snapshot {
  if (covers(a, b)) return a;
  if (covers(b, a)) return b;
  const [above, below] = a.xmax >= b.xmax ? [a, b] : [b, a];
  return { ...above, xip: above.xip.filter((xid) => !sees(below, xid)) };
}

/** Whether a reader at `position` has had the event. */
export function hasSeen(position: Position, event: { xid: bigint; id: bigint }): boolean {
  if (sees(position.seen, event.xid)) return true;
  const { batch } = position;
  return batch !== undefined && event.id <= batch.through && sees(batch.bound, event.xid);
}

/** The most that a position may have seen: as if its batch were complete. */
export function horizon(position: Position): Snapshot {
  return position.batch?.bound ?? position.seen;
}

/** What retention has removed. */
export interface Emptied {
  /** The largest transaction of a removed event. */
  readonly through: bigint;
  /** The snapshot of the last removal. A transaction in progress at that time has lost nothing. */
  readonly in: Snapshot;
}

/** Whether retention may have removed events that this snapshot has not seen. */
export function isTooOld(snapshot: Snapshot, emptied: Emptied | null): boolean {
  if (emptied === null) return false;
  if (emptied.through >= snapshot.xmax) return true;
  return snapshot.xip.some((xid) => xid <= emptied.through && sees(emptied.in, xid));
}

/**
 * Text form, URL-safe and opaque to clients: `epoch-xmax_witness.d.d`, or `epoch-seen~bound~through` inside a batch.
 */
export function formatPosition({ epoch, seen, batch }: Position): string {
  const text = batch
    ? `${epoch}-${spell(seen)}~${spell(batch.bound)}~${batch.through.toString(16)}`
    : `${epoch}-${spell(seen)}`;
  return text.length > MAX_LENGTH ? TOO_LONG : text;
}

// Each snapshot has exactly one spelling: no leading zeros.
const HEX = '[1-9a-f][0-9a-f]{0,15}';
const SPELLED = `${HEX}(?:_[0-9a-f]{6})?(?:\\.${HEX})*`;
const WORD = new RegExp(`^${SPELLED}$`);
const POSITION = new RegExp(`^([0-9a-f]{12})-(${SPELLED})(?:~(${SPELLED})~(${HEX}))?$`);
const LARGEST = 2n ** 63n - 1n;

/** Parses what formatPosition() or relay.position() wrote; null for anything else. */
export function parsePosition(text: string): Position | null {
  if (text.length > MAX_LENGTH) return null;
  const match = POSITION.exec(text);
  if (!match) return null;
  const seen = unspell(match[2]!);
  if (!seen) return null;
  if (match[3] === undefined) return { epoch: match[1]!, seen };
  const bound = unspell(match[3]);
  const through = BigInt(`0x${match[4]}`);
  if (!bound || through > LARGEST || !covers(bound, seen)) return null;
  return { epoch: match[1]!, seen, batch: { bound, through } };
}

/** A cache: a batch of ten thousand events spells the same two snapshots for each of them. */
const spelled = new WeakMap<Snapshot, string>();

/**
 * A snapshot with its witness as one word, which unspell() reads.
 *
 * It lists distances instead of ids, largest id first: transactions in progress are close together, so it stays short.
 */
export function spell(snapshot: Snapshot): string {
  let text = spelled.get(snapshot);
  if (text !== undefined) return text;
  const { xmax, xip, witness } = snapshot;
  text = xmax.toString(16);
  if (witness !== undefined) text += `_${witness.toString(16).padStart(6, '0')}`;
  let above = xmax;
  for (let i = xip.length - 1; i >= 0; i -= 1) {
    text += `.${(above - xip[i]!).toString(16)}`;
    above = xip[i]!;
  }
  spelled.set(snapshot, text);
  return text;
}

/** Parses what spell() wrote; null for anything else. */
export function unspell(text: string): Snapshot | null {
  if (text.length > MAX_LENGTH || !WORD.test(text)) return null;
  const [first, ...rest] = text.split('.');
  const [largest, witness] = first!.split('_');
  const distances = rest.map((hex) => BigInt(`0x${hex}`));
  const xmax = BigInt(`0x${largest}`);
  if (xmax < 1n || xmax > LARGEST) return null;
  const xip: bigint[] = [];
  let xid = xmax;
  for (const distance of distances) {
    xid -= distance;
    if (distance < 1n || xid < 1n || isNone(xid)) return null;
    xip.push(xid);
  }
  const attested = witness === undefined ? {} : { witness: Number.parseInt(witness, 16) };
  return { xmax, xip: xip.reverse(), ...attested };
}

function includes(ascending: readonly bigint[], xid: bigint): boolean {
  return ascending[firstAtLeast(ascending, xid)] === xid;
}

function firstAtLeast(ascending: readonly bigint[], xid: bigint): number {
  let low = 0;
  let high = ascending.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    if (ascending[middle]! < xid) low = middle + 1;
    else high = middle;
  }
  return low;
}
