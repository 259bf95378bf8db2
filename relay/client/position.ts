// A position is opaque to applications. Here it is compared with another one, to leave out the events that loaded
// rows already contain. What cannot be read counts as not contained: the event is applied, at worst once more.
interface Snapshot {
  /** First transaction it does not see. */
  readonly xmax: bigint;
  /** Transactions below that it does not see either. */
  readonly hidden: ReadonlySet<bigint>;
}

const SNAPSHOT = '[0-9a-f]+(?:_[0-9a-f]{6})?(?:\\.[0-9a-f]+)*';
const POSITION = new RegExp(`^([0-9a-f]{12})-(${SNAPSHOT})(?:~(${SNAPSHOT})~[0-9a-f]+)?(?:\\*.*)?$`);

/**
 * Whether rows that were loaded at `loaded` contain the event that came with `position`.
 * The relay writes positions in relay/outbox/position.ts.
 */
export function contains(loaded: string, position: string): boolean {
  const [, epoch, seen, bound] = POSITION.exec(loaded) ?? [];
  const [, otherEpoch, otherSeen, otherBound] = POSITION.exec(position) ?? [];
  if (epoch === undefined || epoch !== otherEpoch || bound !== undefined) return false;
  const rows = read(seen!);
  const event = read(otherBound ?? otherSeen!);
  if (event.xmax > rows.xmax) return false;
  for (const xid of rows.hidden) if (xid < event.xmax && !event.hidden.has(xid)) return false;
  return true;
}

/** `xmax_witness.distance.distance`: each distance leads down to a transaction that was in progress. */
function read(text: string): Snapshot {
  const [xmax, ...distances] = text
    .replace(/_[0-9a-f]+/, '')
    .split('.')
    .map((hex) => BigInt(`0x${hex}`));
  let xid = xmax!;
  const hidden = distances.map((distance) => {
    xid -= distance;
    return xid;
  });
  return { xmax: xmax!, hidden: new Set(hidden) };
}
