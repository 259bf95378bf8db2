// The arithmetic of positions: by its meaning (sets of transactions, by brute force) and against Postgres itself.
import fc from 'fast-check';
import {
  covers,
  cut,
  formatPosition,
  hasSeen,
  horizon,
  isTooOld,
  NOTHING,
  type Position,
  parsePosition,
  parseSnapshot,
  type Snapshot,
  sees,
  snapshotText,
  spell,
  union,
  unspell,
} from '../../outbox/position.ts';
import { type Database, freshDatabase } from '../world.ts';

let database: Database;
beforeAll(async () => {
  database = await freshDatabase();
});
afterAll(() => database.close());

/** Few transactions, so that every relation between two snapshots comes up. */
const WORLD = Array.from({ length: 12 }, (_, i) => BigInt(i + 1));

const witness = fc.option(fc.nat(2 ** 24 - 1));
const small = snapshotsOf(fc.bigInt(1n, 10n), fc.subarray(WORLD));
const large = snapshotsOf(fc.bigInt(1n, 2n ** 63n - 9n), fc.array(fc.bigInt(1n, 2n ** 63n - 9n)));
/** As Postgres has them: transactions in progress near each other. */
const busy = fc
  .tuple(fc.bigInt(10_000n, 2n ** 40n), fc.array(fc.bigInt(1n, 2_000n), { maxLength: 500 }))
  .map(([xmax, distances]) =>
    toSnapshot(
      xmax,
      distances.map((distance) => xmax - distance),
    ),
  );

function snapshotsOf(xmax: fc.Arbitrary<bigint>, xip: fc.Arbitrary<bigint[]>): fc.Arbitrary<Snapshot> {
  return fc.tuple(xmax, xip, witness).map(([max, ids, digits]) => ({
    ...toSnapshot(max, ids),
    ...(digits !== null && { witness: digits }),
  }));
}

function toSnapshot(xmax: bigint, xip: readonly bigint[]): Snapshot {
  const below = [...new Set(xip)].filter((xid) => xid < xmax && BigInt.asUintN(32, xid) !== 0n);
  return { xmax, xip: below.sort((a, b) => (a < b ? -1 : 1)) };
}

/** What it sees, the plain way. */
function seenBy({ xmax, xip }: Snapshot): bigint[] {
  return WORLD.filter((xid) => xid < xmax && !xip.some((running) => running === xid));
}

function within(part: readonly bigint[], whole: readonly bigint[]): boolean {
  return part.every((xid) => whole.includes(xid));
}

const EPOCH = '0123456789ab';
const positions = fc.oneof(small, large, busy).chain((bound): fc.Arbitrary<Position> => {
  const whole = fc.constant({ epoch: EPOCH, seen: bound });
  // Any part of what `bound` sees is an earlier snapshot of it.
  const inside = fc
    .record({ at: fc.bigInt(1n, bound.xmax), through: fc.bigInt(1n, 2n ** 63n - 1n) })
    .map(({ at, through }) => ({ epoch: EPOCH, seen: cut(bound, at - 1n), batch: { bound, through } }));
  return fc.oneof(whole, inside);
});

describe('a snapshot', () => {
  test('is read from what Postgres prints, and printed as it was', async () => {
    const [row] = await database.query<{ text: string }>('select pg_current_snapshot()::text as text');
    expect(snapshotText(parseSnapshot(row!.text))).toBe(row!.text);
    expect(parseSnapshot('10:20:10,14,19')).toEqual({ xmax: 20n, xip: [10n, 14n, 19n] });
    expect(parseSnapshot('18446744073709551610:18446744073709551615:')).toEqual({
      xmax: 18446744073709551615n,
      xip: [],
    });
  });

  test.each(['', '10', '10:20', '-1:20:', '10:20:x', '10:20:1;2', '10:20:\n', '0x1:0x2:'])(
    'is not read from %j',
    (text) => {
      expect(() => parseSnapshot(text)).toThrow(
        expect.objectContaining({
          code: 'snapshot_unreadable',
          message: expect.stringContaining('expected'),
        }),
      );
    },
  );

  test('sees what Postgres says it sees, printed and read back', async () => {
    const probes = fc.array(fc.tuple(busy, fc.bigInt(-3n, 2_100n)), { minLength: 1, maxLength: 40 });
    await fc.assert(
      fc.asyncProperty(probes, async (list) => {
        const asked = list
          .map(([snapshot, distance]) => ({ snapshot, xid: snapshot.xmax - distance }))
          .filter(({ xid }) => BigInt.asUintN(32, xid) !== 0n);
        const rows = await database.query<{ visible: boolean; snapshot: string }>(
          `select pg_visible_in_snapshot(xid::text::xid8, snapshot::pg_snapshot) as visible,
                  snapshot::pg_snapshot::text as snapshot
             from unnest($1::text[], $2::text[]) with ordinality as probe(xid, snapshot, n) order by n`,
          [asked.map(({ xid }) => xid.toString()), asked.map(({ snapshot }) => snapshotText(snapshot))],
        );
        for (const [i, { snapshot, xid }] of asked.entries()) {
          expect(sees(snapshot, xid)).toBe(rows[i]!.visible);
          expect(rows[i]!.snapshot).toBe(snapshotText(snapshot));
          expect(snapshotText(parseSnapshot(rows[i]!.snapshot))).toBe(snapshotText(snapshot));
        }
      }),
      { numRuns: 60 },
    );
  });

  test('can be read by Postgres at a wraparound, where 1 + the largest is no transaction', async () => {
    const last = 2n ** 32n - 1n;
    const text = snapshotText(cut({ xmax: last + 10n, xip: [] }, last));
    const [row] = await database.query(
      `select pg_visible_in_snapshot($1::text::xid8, $3::pg_snapshot) as last, pg_visible_in_snapshot($2::text::xid8, $3::pg_snapshot) as next`,
      [last.toString(), (last + 4n).toString(), text],
    );
    expect(row).toEqual({ last: true, next: false });
  });

  test('NOTHING sees nothing, and Postgres can read it', async () => {
    expect(seenBy(NOTHING)).toEqual([]);
    expect(WORLD.some((xid) => sees(NOTHING, xid))).toBe(false);
    const [row] = await database.query(`select $1::pg_snapshot::text as text`, [snapshotText(NOTHING)]);
    expect(row).toEqual({ text: '1:1:' });
  });

  test('sees, by brute force', () => {
    fc.assert(
      fc.property(small, (snapshot) => {
        expect(WORLD.filter((xid) => sees(snapshot, xid))).toEqual(seenBy(snapshot));
      }),
    );
  });

  test('covers another exactly when it sees all that the other sees', () => {
    fc.assert(
      fc.property(small, small, (a, b) => {
        expect(covers(a, b)).toBe(within(seenBy(b), seenBy(a)));
      }),
      { numRuns: 5_000 },
    );
  });

  test('covers itself, also a large one', () => {
    fc.assert(fc.property(fc.oneof(large, busy), (snapshot) => covers(snapshot, snapshot)));
  });

  test('the union of two sees what either sees, with the witness of the larger', () => {
    fc.assert(
      fc.property(small, small, (a, b) => {
        const both = union(a, b);
        expect(seenBy(both)).toEqual(WORLD.filter((xid) => sees(a, xid) || sees(b, xid)));
        expect(covers(both, a) && covers(both, b)).toBe(true);
        expect(both.xmax === a.xmax ? [a.witness, b.witness] : [b.witness]).toContain(both.witness);
      }),
      { numRuns: 5_000 },
    );
    fc.assert(fc.property(busy, large, (a, b) => covers(union(a, b), a) && covers(union(b, a), a)));
  });

  test('is one word, and read from nothing else', () => {
    fc.assert(
      fc.property(fc.oneof(small, large, busy), (snapshot) => {
        expect(unspell(spell(snapshot))).toEqual(snapshot);
      }),
    );
    for (const text of ['', '0', '0a', 'a_', 'a_12', 'a.a', 'a~b~1', 'a ', `a${'.1'.repeat(9_000)}`]) {
      expect(unspell(text)).toBeNull();
    }
  });

  test('cut sees the same up to the largest, and nothing above it', () => {
    fc.assert(
      fc.property(small, fc.bigInt(0n, 12n), (snapshot, largest) => {
        expect(seenBy(cut(snapshot, largest))).toEqual(seenBy(snapshot).filter((xid) => xid <= largest));
        expect(cut(snapshot, largest).xmax).toBe(snapshot.xmax > largest ? largest + 1n : snapshot.xmax);
        expect(covers(snapshot, cut(snapshot, largest))).toBe(true);
      }),
    );
  });

  test('names no transaction above the largest event once it is cut', () => {
    // The crash gives 738 out again: uncut, it counts as seen.
    const afterRollback = parseSnapshot('739:739:');
    expect(sees(afterRollback, 738n)).toBe(true);
    expect(sees(cut(afterRollback, 730n), 738n)).toBe(false);
    expect(cut(afterRollback, 730n)).toEqual({ xmax: 731n, xip: [] });
    expect(cut(parseSnapshot('700:739:700,735'), 730n)).toEqual({ xmax: 731n, xip: [700n] });
  });

  test('is too old exactly when it has not seen a transaction at or below the mark that had ended when that was set', () => {
    const cases = fc.record({ snapshot: small, now: small, mark: fc.bigInt(1n, 10n) });
    fc.assert(
      fc.property(cases, ({ snapshot, now, mark }) => {
        // The mark was an event, so whoever reads the mark sees its transaction.
        fc.pre(sees(now, mark));
        const ended = seenBy(now).filter((xid) => xid <= mark);
        expect(isTooOld(snapshot, { through: mark, in: now })).toBe(!within(ended, seenBy(snapshot)));
      }),
      { numRuns: 3_000 },
    );
    expect(isTooOld(NOTHING, null)).toBe(false);
  });
});

describe('a position', () => {
  test('comes back from its text as it was', () => {
    fc.assert(
      fc.property(positions, (position) => {
        expect(parsePosition(formatPosition(position))).toEqual(position);
      }),
      { numRuns: 1_000 },
    );
  });

  test('is URL-safe', () => {
    fc.assert(
      fc.property(positions, (position) => {
        const text = formatPosition(position);
        expect(encodeURIComponent(text)).toBe(text);
      }),
    );
  });

  test('is read from nothing but what is written: whatever parses is written back to the letter', () => {
    const damaged = fc
      .tuple(
        positions,
        fc.nat(),
        fc.constantFrom('', '0', 'f', 'F', 'g', '.', '~', '-', ' ', '\n', "'", '\0'),
      )
      .map(([position, at, put]) => {
        const text = formatPosition(position);
        const i = at % (text.length + 1);
        return text.slice(0, i) + put + text.slice(i + (at % 2));
      });
    fc.assert(
      fc.property(fc.oneof(damaged, fc.string()), (text) => {
        const position = parsePosition(text);
        if (position) expect(formatPosition(position)).toBe(text);
      }),
      { numRuns: 5_000 },
    );
  });

  test.each([
    ['nothing', ''],
    ['no snapshot', `${EPOCH}-`],
    ['no epoch', '-a'],
    ['a short epoch', '0123456789a-a'],
    ['capitals', `${EPOCH}-A`],
    ['an xmax of zero', `${EPOCH}-0`],
    ['leading zeros', `${EPOCH}-0a`],
    ['a sign', `${EPOCH}--1`],
    ['a transaction in progress twice', `${EPOCH}-a.1.0`],
    ['a transaction below the first', `${EPOCH}-a.a`],
    ['what is no transaction, in progress', `${EPOCH}-100000001.1`],
    ['more than 63 bits', `${EPOCH}-8000000000000000`],
    ['17 digits', `${EPOCH}-10000000000000000`],
    ['an unfinished list', `${EPOCH}-a.`],
    ['a batch without an event', `${EPOCH}-a~b`],
    ['a batch that has not seen what came before it', `${EPOCH}-b~a~1`],
    ['a batch in which somebody is in progress who was seen', `${EPOCH}-b~c.2~1`],
    ['an event of more than 63 bits', `${EPOCH}-a~b~8000000000000000`],
    ['a third part', `${EPOCH}-a~b~1~2`],
    ['a blank behind it', `${EPOCH}-a `],
    ['a line end behind it', `${EPOCH}-a\n`],
    ['SQL', "' or 1=1; drop table relay.events; --"],
    ['100,000 characters', `${EPOCH}-a${'.1'.repeat(50_000)}`],
  ])('is not read from %s', (_, text) => {
    expect(parsePosition(text)).toBeNull();
  });

  test('has seen an event: by its snapshot, or in its batch up to an id', () => {
    const events = fc.record({ xid: fc.constantFrom(...WORLD), id: fc.bigInt(1n, 20n) });
    const inBatch = fc.record({ seen: small, bound: small, through: fc.bigInt(1n, 20n) });
    fc.assert(
      fc.property(inBatch, events, ({ seen, bound, through }, event) => {
        expect(hasSeen({ epoch: EPOCH, seen }, event)).toBe(seenBy(seen).includes(event.xid));
        expect(hasSeen({ epoch: EPOCH, seen, batch: { bound, through } }, event)).toBe(
          seenBy(seen).includes(event.xid) || (seenBy(bound).includes(event.xid) && event.id <= through),
        );
      }),
      { numRuns: 2_000 },
    );
  });

  test('claims at most its batch as if it were finished', () => {
    fc.assert(
      fc.property(positions, (position) => {
        expect(covers(horizon(position), position.seen)).toBe(true);
        expect(horizon(position)).toBe(position.batch?.bound ?? position.seen);
      }),
    );
  });

  test('stays small with 500 transactions in progress, where the raw snapshot has 3,000 bytes', () => {
    const running = Array.from({ length: 500 }, (_, i) => 727_000n + 3n * BigInt(i));
    const seen = toSnapshot(729_000n, running);
    expect(snapshotText(seen).length).toBeGreaterThan(3_000);
    expect(formatPosition({ epoch: EPOCH, seen }).length).toBeLessThan(1_100);
  });

  test('is never so long that it would be refused for its length', () => {
    const seen = toSnapshot(
      1_000_000n,
      Array.from({ length: 40_000 }, (_, i) => BigInt(2 * i + 1)),
    );
    const text = formatPosition({ epoch: EPOCH, seen });
    // It ends in a resync, which is loud; a position that leaves some of them out would be a gap.
    expect(text.length).toBeLessThan(16_384);
    expect(parsePosition(text)).toBeNull();
  });

  test('reads the same in SQL: relay.position_text() writes what formatPosition() writes', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.tuple(fc.oneof(small, large, busy), fc.array(fc.nat(5))), {
          minLength: 1,
          maxLength: 20,
        }),
        async (list) => {
          const asked = list.map(([seen, above]) => ({
            seen,
            // Those at or above xmax are in progress too, and not part of the text.
            running: [...above.map((distance) => seen.xmax + BigInt(distance)), ...seen.xip],
          }));
          const rows = await database.query<{ text: string }>(
            `select relay.position_text($1, xmax, witness, string_to_array(running, ',')::bigint[]) as text
               from unnest($2::bigint[], $3::text[], $4::text[]) with ordinality as asked(xmax, running, witness, n) order by n`,
            [
              EPOCH,
              asked.map(({ seen }) => seen.xmax.toString()),
              asked.map(({ running }) => running.join(',')),
              asked.map(({ seen: { witness } }) =>
                witness === undefined ? null : witness.toString(16).padStart(6, '0'),
              ),
            ],
          );
          for (const [i, { seen }] of asked.entries()) {
            expect(rows[i]!.text).toBe(formatPosition({ epoch: EPOCH, seen }));
          }
        },
      ),
      { numRuns: 60 },
    );
  });
});
