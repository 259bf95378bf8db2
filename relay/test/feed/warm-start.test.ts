// A feed that starts fills its recent events from the table.
import { parsePosition, type Snapshot } from '../../outbox/position.ts';
import { ends } from '../ends.ts';
import { type Database, freshDatabase, until } from '../world.ts';
import { emit, startReader } from './reader.ts';

let database: Database;
beforeEach(async () => {
  database = await freshDatabase();
  ends.push(() => database.close());
});

describe('warm', () => {
  const clientAt = (seen: Snapshot) => ({ epoch: '0123456789ab', seen });

  /** Transaction ids are the server's: a position has those of other tests too, if they are in progress. */
  function positionNow({ inProgress = 0 } = {}): Promise<Snapshot> {
    return until('no other test has a transaction in progress', async () => {
      const [row] = await database.query<{ text: string }>('select relay.position() as text');
      const { seen } = parsePosition(row!.text)!;
      return seen.xip.length === inProgress ? seen : null;
    });
  }

  test('begins with recent events in memory, so that a restart is not one query per client', async () => {
    const start = await positionNow();
    for (let n = 0; n < 6; n += 1) await emit(database, n, `acc-${n % 2}`);
    const middle = await positionNow();
    for (let n = 6; n < 9; n += 1) await emit(database, n, `acc-${n % 2}`);
    const { feed } = await startReader(database.url);
    expect(feed.recent.reaches(start)).toBe(true);
    expect(feed.recent.unseen('acc-0', clientAt(middle)).map(({ payload }) => payload)).toEqual(['6', '8']);
    expect(feed.recent.unseen('acc-1', clientAt(start)).map(({ payload }) => payload)).toEqual([
      '1',
      '3',
      '5',
      '7',
    ]);
    expect(feed.recent.unseen('acc-1', clientAt(feed.seen))).toEqual([]);
  });

  test('keeps most of it when new events come to recent events that were filled at the start', async () => {
    for (let n = 0; n < 60; n += 1) await emit(database, n);
    const middle = await positionNow();
    for (let n = 60; n < 100; n += 1) await emit(database, n);
    const reader = await startReader(database.url, { recent: { events: 100 } });
    expect(reader.feed.recent.reaches(middle)).toBe(true);
    for (let n = 100; n < 110; n += 1) {
      await emit(database, n);
      await reader.feed.read();
    }
    expect(reader.feed.recent.reaches(middle)).toBe(true);
    expect(
      reader.feed.recent.unseen('acc-1', clientAt(middle)).map(({ payload }) => Number(payload)),
    ).toEqual(Array.from({ length: 50 }, (_, i) => 60 + i));
  });

  test('has no gap where a transaction was open', async () => {
    const held = await database.connect();
    await held.query('begin');
    await held.query("select relay.emit('acc-1', 'test.held')");
    await emit(database, 1);
    const start = await positionNow({ inProgress: 1 });
    await emit(database, 2);
    const reader = await startReader(database.url);
    await held.query('commit');
    await reader.feed.read();
    expect(reader.feed.recent.reaches(start)).toBe(true);
    expect(
      reader.feed.recent.unseen('acc-1', clientAt(start)).map(({ event, payload }) => [event, payload]),
    ).toEqual([
      ['test.held', 'null'],
      ['test.event', '2'],
    ]);
  });
});
