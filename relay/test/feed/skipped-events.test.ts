// What follows from reading past a locked slot of relay.events, and what must not.
import { tail } from '../../commands/tail.ts';
import { readSettings } from '../../config/settings.ts';
import { ends } from '../ends.ts';
import { until } from '../world.ts';
import { lockBehindWriter, lockSlot } from './lock-slot.ts';
import { Reader, silent, startReader } from './reader.ts';
import { database, emit, locker } from './with-locker.ts';

/** @param distances of slots from the one that writers are in */
const emitInto = (...distances: number[]) =>
  database.query(
    `insert into relay.events (slot, account_id, event, payload)
     select (relay.slot_at(clock_timestamp()) + distance) % 8, 'acc', 'note', to_jsonb(distance) from unnest($1::int[]) as distance`,
    [distances],
  );

const epoch = async () => (await database.query('select relay.epoch() as epoch'))[0]!.epoch;

/** Reads until no slot has to be searched. */
async function search(reader: Reader): Promise<void> {
  await until('the slot is searched', async () => {
    await reader.feed.read();
    return (await database.query('select from relay.left_out')).length === 0;
  });
}

test('a relay whose memory cannot be filled is ready without it', async () => {
  await emit(1);
  const reader = new Reader(database.url, {
    before(text) {
      if (text.includes('with newest as')) throw new Error('canceling statement due to statement timeout');
    },
  });
  await reader.feed.firstRead;
  await emit(2);
  await reader.feed.read();
  expect(reader.events.map(({ payload }) => payload)).toEqual(['2']);
});

test('a transaction with its last event in the locked slot is no other history when the session breaks', async () => {
  await emitInto(5, 6);
  const before = await epoch();
  await lockSlot(locker, 6);
  const reader = await startReader(database.url);
  await locker.query('rollback');
  await search(reader);
  const { session } = reader;
  await database.endSessions('feed under test');
  await until('it has another session', () => reader.session !== session);
  await until('it reads again', () =>
    reader.feed.read().then(
      () => true,
      () => false,
    ),
  );
  expect(await epoch()).toBe(before);
  expect(await database.query('select from relay.events')).toHaveLength(2);
  expect(reader.lost).toEqual([]);
});

test('what was skipped is told while another slot is locked and somebody held the row of the epoch', async () => {
  await emit(1);
  const reader = await startReader(database.url);
  const skipped = { distance: 4, account: 'acc', event: 'note', payload: '2' };
  const commit = await lockBehindWriter(database, locker, skipped);
  await emit(3);
  await reader.feed.read();
  await commit();
  await emit(4);
  await reader.feed.read();
  const second = await database.connect();
  await lockSlot(second, 3);
  await emit(5);
  await reader.feed.read();
  const holder = await database.connect();
  await holder.query('begin; select from relay.installation for update');
  await locker.query('rollback');
  await until('it waits for the row', async () => {
    void reader.feed.read().catch(() => undefined);
    const waiting = await database.query(
      `select from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock' and query like '%refetch_all%'`,
    );
    return waiting.length > 0;
  });
  await until('it has given up for now', async () => {
    await reader.feed.read();
    return true;
  });
  expect(reader.lost).toEqual([]);
  await holder.query('rollback');
  await until('it is told', async () => {
    await reader.feed.read();
    return reader.lost.length > 0;
  });
  await second.query('rollback');
});

/** @returns the lines that it prints */
async function startTail(): Promise<string[]> {
  const lines: string[] = [];
  const settings = readSettings({ DATABASE_URL: database.url, JWT_SECRET: 'x'.repeat(32) });
  const { close } = await tail({
    databaseUrl: database.url,
    settings,
    log: silent,
    print: (line) => lines.push(line),
  });
  ends.push(close);
  return lines;
}

test('recado tail, of which nobody has a position, makes nobody refetch', async () => {
  const relay = await startReader(database.url);
  await emitInto(7);
  await relay.feed.read();
  const before = await epoch();
  const slot = await lockSlot(locker, 7);
  const lines = await startTail();
  await emit(2);
  await until('it prints what came', () => lines.length === 1);
  expect(await database.query('select from relay.left_out')).toEqual([]);
  await locker.query('rollback');
  await database.query(
    `insert into relay.events (slot, account_id, event, payload) values ($1, 'acc', 'note', '3')`,
    [slot],
  );
  await until('it reads the slot again', () => lines.length === 2);
  expect(await epoch()).toBe(before);
});

test('recado tail says that it has skipped events', async () => {
  const lines = await startTail();
  const skipped = { distance: 4, account: 'acc', event: 'note', payload: '1' };
  const commit = await lockBehindWriter(database, locker, skipped);
  await emit(2);
  await until('it reads past the slot', () => lines.length === 1);
  await commit();
  await emit(3);
  await until('it has passed what it skipped', () => lines.length === 2);
  await locker.query('rollback');
  await until('it says so', () => lines.length === 3);
  expect(lines[2]).toBe('-- events in a locked partition were skipped: select from relay.events');
  await emit(4);
  await until('it goes on', () => lines.length === 4);
});
