// What travels in the stream comes back as it was, and nothing else is read.
import { type Entry, encodeEntry, LONGEST_ENTRY, parseEntry } from '../../stream/entry.ts';

const ENTRY: Entry = {
  epoch: '0123456789ab',
  server: '7301234567890123456/1764170000000',
  hub: 'a1b2c3',
  number: 7,
  seen: { xmax: 740n, xip: [731n], witness: 0xabc },
  bound: { xmax: 745n, xip: [731n, 742n], witness: 0xffffff },
  events: [
    {
      id: 9_007_199_254_740_993n,
      xid: 741n,
      account: 'clínica "1"',
      event: 'appointments.created',
      payload: '{"price": 10.00, "name": "\\u0000", "big": 9007199254740993}',
      audience: ['unit:"a"', 'user:7'],
      known: true,
      capturedAt: 1_764_170_000_123.456,
    },
    {
      id: 12n,
      xid: 744n,
      account: null,
      event: 'relay:resync',
      payload: null,
      audience: null,
      known: false,
      capturedAt: 0,
    },
  ],
  elsewhere: ['large'],
};

function changed(change: (entry: Record<string, unknown>) => void): string {
  const entry = JSON.parse(encodeEntry(ENTRY)) as Record<string, unknown>;
  change(entry);
  return JSON.stringify(entry);
}

test('comes back as it was, from text and from bytes', () => {
  expect(parseEntry(encodeEntry(ENTRY))).toEqual(ENTRY);
  expect(parseEntry(Buffer.from(encodeEntry(ENTRY)))).toEqual(ENTRY);
  const empty: Entry = { ...ENTRY, events: [], elsewhere: 'all' };
  expect(parseEntry(encodeEntry(empty))).toEqual(empty);
});

test.each<[string, unknown]>([
  ['nothing', undefined],
  ['an object', ENTRY],
  ['no text', ''],
  ['half an entry', encodeEntry(ENTRY).slice(0, 200)],
  ['a list', '[]'],
  ['no epoch', changed((entry) => Object.assign(entry, { epoch: undefined }))],
  ['another epoch', changed((entry) => Object.assign(entry, { epoch: 'g' }))],
  ['no server', changed((entry) => Object.assign(entry, { server: '' }))],
  ['a number of zero', changed((entry) => Object.assign(entry, { number: 0 }))],
  ['a snapshot as Postgres prints it', changed((entry) => Object.assign(entry, { seen: '731:740:731' }))],
  ['a bound that has not seen what was seen', changed((entry) => Object.assign(entry, { bound: '2e0' }))],
  ['an event beyond the bound', changed((entry) => Object.assign(entry, { bound: '2e9.2.12', seen: '2e0' }))],
  [
    'an id that is a number',
    changed((entry) => Object.assign(entry, { events: [{ ...ENTRY.events[0], id: 1, xid: 1 }] })),
  ],
  [
    'an event that does not say who hears it',
    changed((entry) =>
      Object.assign(entry, { events: [{ ...ENTRY.events[1], id: '1', xid: '744', audience: undefined }] }),
    ),
  ],
  [
    'accounts beyond counting',
    changed((entry) => Object.assign(entry, { elsewhere: Array(1_001).fill('a') })),
  ],
  ['what this version does not know', changed((entry) => Object.assign(entry, { onlyFor: ['doctors'] }))],
  ['more than is read', `"${'a'.repeat(LONGEST_ENTRY)}"`],
])('is not read from %s', (_, received) => {
  expect(() => parseEntry(received)).toThrow(
    expect.objectContaining({
      code: 'entry_unreadable',
      message: expect.stringContaining('expected one as a hub of this version writes it'),
    }),
  );
});

test('an error repeats nothing of the events', () => {
  const broken = changed((entry) => Object.assign(entry, { hub: 1 }));
  expect(() => parseEntry(broken)).toThrow(/^(?!.*clínica).*hub is wrong/);
});
