// The feed on a database whose history is another one than before.
import { until } from '../world.ts';
import { database } from './database.ts';
import { emit, startReader } from './reader.ts';

describe('on one database', () => {
  test('notices relay.new_epoch() beneath it, without losing its connection', async () => {
    const reader = await startReader(database.url);
    await emit(database, 'old');
    await reader.feed.read();
    const before = reader.feed.epoch;
    await database.query('select relay.new_epoch()');
    await reader.feed.read();
    expect(reader.lost).toEqual(['epoch']);
    const [row] = (await database.query('select relay.epoch() as epoch')) as [{ epoch: string }];
    expect(reader.feed.epoch).toBe(row.epoch);
    expect(row.epoch).not.toBe(before);
    await emit(database, 'new');
    await reader.feed.read();
    expect(reader.events.map(({ payload }) => payload)).toEqual(['"old"', '"new"']);
    expect(reader.lost).toEqual(['epoch']);
  });

  test('a new epoch is told though the connection breaks in the warm-up after it', async () => {
    let breaks = false;
    const reader = await startReader(database.url, {
      before(text) {
        if (!breaks || !text.includes('with newest as')) return;
        breaks = false;
        throw new Error('The connection breaks.');
      },
    });
    await emit(database, 'old');
    await reader.feed.read();
    breaks = true;
    await database.query('select relay.new_epoch()');
    reader.feed.wake();
    await until('the feed knows', () => reader.lost.length > 0);
    await until('the feed reads', () => reader.feed.ready);
    expect(breaks).toBe(false);
    expect(reader.lost).toEqual(['epoch']);
  });

  test('begins a new epoch after the database became another one: nothing old comes back, all refetch', async () => {
    const reader = await startReader(database.url);
    await emit(database, 'old');
    await reader.feed.read();
    const before = reader.feed.epoch;
    // What a restored dump or a promotion looks like: the epoch that is computed is not the recorded one.
    await database.query('update relay.installation set id = gen_random_uuid()');
    await reader.feed.read();
    expect(reader.lost).toEqual([]);
    await database.endSessions('feed under test');
    await until('the feed knows', () => reader.lost.length > 0);
    await until('the feed reads', () => reader.feed.ready);
    expect(reader.lost).toEqual(['epoch']);
    expect(reader.feed.epoch).not.toBe(before);
    expect(await database.query('select * from relay.events')).toEqual([]);
    await emit(database, 'new');
    await reader.feed.read();
    expect(reader.events.map(({ payload }) => payload)).toEqual(['"old"', '"new"']);
    expect(reader.lost).toEqual(['epoch']);
    // A second node, and the same one again, find it settled.
    const second = await startReader(database.url);
    expect(second.feed.epoch).toBe(reader.feed.epoch);
    expect(await database.query('select * from relay.events')).toHaveLength(1);
  });
});
