// The arithmetic of snapshots: by its meaning (sets of transactions, by brute force) and against Postgres itself.
import fc from 'fast-check';
import {
  covers,
  cut,
  isTooOld,
  NOTHING,
  parseSnapshot,
  sees,
  snapshotText,
  spell,
  union,
  unspell,
} from '../../outbox/position.ts';
import { type Database, freshDatabase } from '../world.ts';
import { busy, large, seenBy, small, WORLD, within } from './snapshots.ts';

let database: Database;
beforeAll(async () => {
  database = await freshDatabase();
});
afterAll(() => database.close());

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
