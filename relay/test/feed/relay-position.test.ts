// relay.position(), which an application reads with a list, beside what the feed hands on afterwards.
import { covers, hasSeen, parsePosition } from '../../outbox/position.ts';
import { ends } from '../ends.ts';
import { type Database, freshDatabase, until } from '../world.ts';
import { currentXid, emit, startReader } from './reader.ts';

let database: Database;
beforeEach(async () => {
  database = await freshDatabase();
  ends.push(() => database.close());
});

describe('relay.position()', () => {
  const unseenIn = async (text: string): Promise<string[]> => {
    const position = parsePosition(text)!;
    const rows = await database.query<{ id: string; xid: string; payload: string }>(
      'select id, xid::text as xid, payload::text as payload from relay.events order by id',
    );
    return rows
      .filter((row) => !hasSeen(position, { id: BigInt(row.id), xid: BigInt(row.xid) }))
      .map(({ payload }) => payload);
  };

  test('is what the transaction of the list sees, in REPEATABLE READ', async () => {
    const reader = await startReader(database.url);
    const held = await database.connect();
    await held.query('begin');
    await held.query("select relay.emit('acc-1', 'test.event', '\"open\"')");
    await emit(database, 'before');
    const client = await database.connect();
    await client.query('begin isolation level repeatable read');
    await client.query('select 1 from relay.events');
    await emit(database, 'after');
    await held.query('commit');
    const { rows } = await client.query<{ text: string }>('select relay.position() as text');
    expect(await unseenIn(rows[0]!.text)).toEqual(['"open"', '"after"']);
    await reader.feed.read();
    expect(parsePosition(rows[0]!.text)!.epoch).toBe(reader.feed.epoch);
    expect(covers(reader.feed.seen, parsePosition(rows[0]!.text)!.seen)).toBe(true);
  });

  test.each(['read committed', 'repeatable read'])(
    'does not see its own open writes, in %s',
    async (level) => {
      await emit(database, 'before');
      const client = await database.connect();
      await client.query(`begin isolation level ${level}`);
      await client.query("select relay.emit('acc-1', 'test.event', '\"own\"')");
      if (level === 'read committed') await emit(database, 'after');
      const { rows } = await client.query<{ text: string }>('select relay.position() as text');
      await client.query('commit');
      expect(await unseenIn(rows[0]!.text)).toEqual(['"own"']);
    },
  );

  test('sees neither more nor less than the statement that selects the list with it', async () => {
    // A statement that waits until another transaction has committed in the middle of it.
    const other = await database.connect();
    await other.query('select pg_advisory_lock(1)');
    const slow = database.query<{ list: string[]; text: string }>(
      `with list as materialized (select coalesce(array_agg(payload::text), '{}') as list from relay.events),
            pause as materialized (select pg_advisory_xact_lock(1), list from list)
       select list, relay.position() as text from pause`,
    );
    await until('the statement waits', async () => {
      const rows = await other.query(
        "select from pg_stat_activity where wait_event = 'advisory' and datname = current_database()",
      );
      return rows.rowCount === 1;
    });
    await emit(database, 'meanwhile');
    await other.query('select pg_advisory_unlock(1)');
    const [row] = await slow;
    expect(row!.list).toEqual([]);
    expect(await unseenIn(row!.text)).toEqual(['"meanwhile"']);
  });

  test('is cut: it names no transaction above the largest event', async () => {
    await emit(database);
    const [event] = await database.query<{ xid: string }>('select xid::text as xid from relay.events');
    for (let i = 0; i < 3; i += 1) await currentXid(database);
    const [row] = await database.query<{ text: string }>('select relay.position() as text');
    const { seen } = parsePosition(row!.text)!;
    expect(seen.xmax).toBe(BigInt(event!.xid) + 1n);
    expect(seen.xip.every((xid) => xid < seen.xmax)).toBe(true);
  });

  test('is where the feed is that has read the same', async () => {
    const reader = await startReader(database.url);
    await emit(database);
    await reader.feed.read();
    const [row] = await database.query<{ text: string }>('select relay.position() as text');
    const { epoch, seen } = parsePosition(row!.text)!;
    expect(epoch).toBe(reader.feed.epoch);
    expect(seen.xmax).toBe(reader.feed.seen.xmax);
    await reader.feed.read();
    expect(covers(reader.feed.seen, seen)).toBe(true);
  });
});
