// Positions: what they have seen, and their text form, also as the database's own functions read it.
import fc from 'fast-check';
import {
  covers,
  formatPosition,
  hasSeen,
  horizon,
  parsePosition,
  snapshotText,
} from '../../outbox/position.ts';
import { type Database, freshDatabase } from '../world.ts';
import { busy, EPOCH, large, positions, seenBy, small, toSnapshot, WORLD } from './snapshots.ts';

let database: Database;
beforeAll(async () => {
  database = await freshDatabase();
});
afterAll(() => database.close());

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
