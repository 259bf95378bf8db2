// What an edge does with an entry, case by case; each is a way in which a simpler rule failed. Random lives of hubs,
// edges and databases are in interleavings.test.ts.
import type { OutboxEvent } from '../../outbox/events.ts';
import type { Snapshot } from '../../outbox/position.ts';
import type { Entry } from '../../stream/entry.ts';
import { judge, type Place } from '../../stream/rule.ts';

const EPOCH = '0123456789ab';
const snapshot = (xmax: number, ...xip: number[]): Snapshot => ({ xmax: BigInt(xmax), xip: xip.map(BigInt) });
const place = (seen: Snapshot): Place => ({ epoch: EPOCH, server: '1', seen });

function event(id: number, xid: number): OutboxEvent {
  return {
    id: BigInt(id),
    xid: BigInt(xid),
    account: 'a',
    event: 'rows.changed',
    payload: '1',
    audience: null,
    known: true,
    capturedAt: 0,
  };
}

function entry(
  seen: Snapshot,
  bound: Snapshot,
  events: OutboxEvent[] = [],
  rest: Partial<Entry> = {},
): Entry {
  return { epoch: EPOCH, server: '1', hub: 'h', number: 1, seen, bound, events, elsewhere: [], ...rest };
}

test('the next entry is handed on', () => {
  const events = [event(1, 5), event(2, 6)];
  expect(judge(place(snapshot(5)), entry(snapshot(5), snapshot(7), events))).toEqual({
    is: 'next',
    seen: snapshot(5),
    bound: snapshot(7),
    events,
    elsewhere: [],
  });
});

test('an entry that comes twice, or late, is old', () => {
  const again = entry(snapshot(5), snapshot(7), [event(1, 5)]);
  expect(judge(place(snapshot(7)), again)).toEqual({ is: 'old' });
  expect(judge(place(snapshot(9)), again)).toEqual({ is: 'old' });
});

test('where something before it is missing, it is a gap', () => {
  expect(judge(place(snapshot(5)), entry(snapshot(6), snapshot(7), [event(2, 6)]))).toEqual({ is: 'gap' });
  // A transaction with a small id that ended late is missing as much as one with a large id.
  expect(judge(place(snapshot(8, 5)), entry(snapshot(8), snapshot(9), [event(3, 8)]))).toEqual({ is: 'gap' });
});

test('an edge that has read the database is handed only what it has not seen, and does not go back', () => {
  const ahead = place(snapshot(9, 6));
  expect(judge(ahead, entry(snapshot(5), snapshot(8, 7), [event(1, 5), event(2, 6)]))).toEqual({
    is: 'next',
    // Of the edge, not of the entry: a client that stops behind the event has seen all that the edge has handed on.
    seen: snapshot(9, 6),
    bound: snapshot(9),
    events: [event(2, 6)],
    elsewhere: [],
  });
});

test('an empty entry moves an edge on', () => {
  expect(judge(place(snapshot(7, 5)), entry(snapshot(7, 5), snapshot(7)))).toMatchObject({
    is: 'next',
    bound: snapshot(7),
    events: [],
  });
});

test('accounts whose events are elsewhere are named', () => {
  const large = entry(snapshot(5), snapshot(7), [], { elsewhere: ['a'] });
  expect(judge(place(snapshot(5)), large)).toMatchObject({ is: 'next', elsewhere: ['a'] });
});

test.each<[string, Partial<Entry>]>([
  ['of another epoch', { epoch: 'ba9876543210' }],
  ['of another run of the server', { server: '2' }],
])('an entry %s decides nothing, even if it covers what was seen', (_, rest) => {
  expect(judge(place(snapshot(5)), entry(snapshot(5), snapshot(7), [event(1, 5)], rest))).toEqual({
    is: 'foreign',
  });
  expect(judge(place(snapshot(9)), entry(snapshot(5), snapshot(7), [], rest))).toEqual({ is: 'foreign' });
});

test('an entry with another witness of the same largest transaction is of another history', () => {
  const seen = { ...snapshot(7), witness: 1 };
  const other = { ...snapshot(7), witness: 2 };
  expect(judge(place(seen), entry(snapshot(5), other))).toEqual({ is: 'foreign' });
  expect(judge(place(seen), entry(snapshot(5), seen))).toEqual({ is: 'old' });
  expect(judge(place(seen), entry(snapshot(5), snapshot(7)))).toEqual({ is: 'old' });
});
