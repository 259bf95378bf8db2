// Snapshots and positions of every kind, for property tests.
import fc from 'fast-check';
import { cut, type Position, type Snapshot } from '../../outbox/position.ts';

/** Few transactions, so that every relation between two snapshots comes up. */
export const WORLD = Array.from({ length: 12 }, (_, i) => BigInt(i + 1));

export const witness = fc.option(fc.nat(2 ** 24 - 1));
export const small = snapshotsOf(fc.bigInt(1n, 10n), fc.subarray(WORLD));
export const large = snapshotsOf(fc.bigInt(1n, 2n ** 63n - 9n), fc.array(fc.bigInt(1n, 2n ** 63n - 9n)));
/** As Postgres has them: transactions in progress near each other. */
export const busy = fc
  .tuple(fc.bigInt(10_000n, 2n ** 40n), fc.array(fc.bigInt(1n, 2_000n), { maxLength: 500 }))
  .map(([xmax, distances]) =>
    toSnapshot(
      xmax,
      distances.map((distance) => xmax - distance),
    ),
  );

export function snapshotsOf(xmax: fc.Arbitrary<bigint>, xip: fc.Arbitrary<bigint[]>): fc.Arbitrary<Snapshot> {
  return fc.tuple(xmax, xip, witness).map(([max, ids, digits]) => ({
    ...toSnapshot(max, ids),
    ...(digits !== null && { witness: digits }),
  }));
}

export function toSnapshot(xmax: bigint, xip: readonly bigint[]): Snapshot {
  const below = [...new Set(xip)].filter((xid) => xid < xmax && BigInt.asUintN(32, xid) !== 0n);
  return { xmax, xip: below.sort((a, b) => (a < b ? -1 : 1)) };
}

/** What it sees, the plain way. */
export function seenBy({ xmax, xip }: Snapshot): bigint[] {
  return WORLD.filter((xid) => xid < xmax && !xip.some((running) => running === xid));
}

export function within(part: readonly bigint[], whole: readonly bigint[]): boolean {
  return part.every((xid) => whole.includes(xid));
}

export const EPOCH = '0123456789ab';
export const positions = fc.oneof(small, large, busy).chain((bound): fc.Arbitrary<Position> => {
  const whole = fc.constant({ epoch: EPOCH, seen: bound });
  // Any part of what `bound` sees is an earlier snapshot of it.
  const inside = fc
    .record({ at: fc.bigInt(1n, bound.xmax), through: fc.bigInt(1n, 2n ** 63n - 1n) })
    .map(({ at, through }) => ({ epoch: EPOCH, seen: cut(bound, at - 1n), batch: { bound, through } }));
  return fc.oneof(whole, inside);
});
