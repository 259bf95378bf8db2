// The feed against a real Postgres: what it hands on is compared with the table, which is the oracle.
import { openReader } from '../../db/connect.ts';
import { readAccountPage } from '../../outbox/pages.ts';
import { covers, sees } from '../../outbox/position.ts';
import { readStart } from '../../outbox/start.ts';
import { ends } from '../ends.ts';
import { testServer } from '../postgres.ts';
import { openDatabase, until } from '../world.ts';
import { database } from './database.ts';
import {
  createItems,
  currentXid,
  emit,
  expectEachOnce,
  Reader,
  readOnAndOn,
  startReader,
  writeAtRandom,
} from './reader.ts';

describe('on one database', () => {
  test('hands on each event that committed, once, those of one row in order, among many writers', async () => {
    await createItems(database);
    const reader = await startReader(database.url);
    // Open from before the first event until after the last one: here, and elsewhere in the cluster.
    const held = await database.connect();
    await held.query('begin');
    await held.query("insert into relay.events (account_id, event) values ('acc-1', 'test.held')");
    const elsewhere = openDatabase((await testServer()).url);
    ends.push(() => elsewhere.close());
    const other = await elsewhere.connect();
    await other.query('begin');
    await other.query('select pg_current_xact_id()');

    const stop = readOnAndOn(reader);
    const deadline = Date.now() + 1_200;
    const writers = await Promise.all(Array.from({ length: 10 }, () => database.connect()));
    const bulk = (async () => {
      for (let i = 0; i < 8; i += 1) {
        await database.query(
          "insert into relay.events (account_id, event) select 'acc-2', 'test.bulk' from generate_series(1, 150)",
        );
        await reader.feed.read();
      }
    })();
    await Promise.all([bulk, ...writers.map((client) => writeAtRandom(client, () => Date.now() > deadline))]);
    await stop();
    expect(reader.events.length).toBeGreaterThan(300);
    expect(reader.events.some(({ event }) => event === 'test.held')).toBe(false);

    await held.query('commit');
    await reader.feed.read();
    await other.query('rollback');
    await reader.feed.read();
    expect(reader.events.at(-1)!.event).toBe('test.held');
    await expectEachOnce(reader, database);
    expect(reader.lost).toEqual([]);
  });

  test('passes over a batch larger than a page: it counts as seen, and its accounts are named', async () => {
    const reader = await startReader(database.url, { page: { events: 10 } });
    reader.present.push('acc-1', 'acc-9');
    await emit(database, 'before');
    await reader.feed.read();
    const { seen } = reader.feed;
    await database.query(
      `insert into relay.events (account_id, event, payload)
       select 'acc-' || i % 3, 'test.event', to_jsonb(i) from generate_series(1, 35) i`,
    );
    await reader.feed.read();
    const [backlog] = reader.backlogs;
    expect(reader.events.map(({ payload }) => payload)).toEqual(['"before"']);
    expect(backlog!.seen).toBe(seen);
    expect(backlog!.bound).toBe(reader.feed.seen);
    expect(['acc-1', 'acc-9', 'acc-that-came-meanwhile'].map(backlog!.touches)).toEqual([true, false, true]);
    // Nothing of it is in memory, and nothing of it comes again.
    expect(reader.feed.recent.reaches(seen)).toBe(false);
    await emit(database, 'after');
    await reader.feed.read();
    expect(reader.events.map(({ payload }) => payload)).toEqual(['"before"', '"after"']);
  });

  test('an event for everybody in what is passed over concerns every account', async () => {
    const reader = await startReader(database.url, { page: { events: 10 } });
    reader.present.push('acc-9');
    await database.query(
      `insert into relay.events (account_id, event) select nullif('acc-' || i, 'acc-7'), 'relay:resync' from generate_series(1, 35) i`,
    );
    await reader.feed.read();
    expect(reader.backlogs.map(({ touches }) => touches('acc-9'))).toEqual([true]);
  });

  test.each([
    ['text', "to_jsonb(repeat('x', 4000))"],
    ['stored size', '(select jsonb_agg(n) from generate_series(1, 60) n)'],
    ['both', "to_jsonb((select string_agg(md5(n::text || i), '') from generate_series(1, 120) n))"],
  ])('ends a page by its bytes (%s), and goes on behind it', async (_, payload) => {
    const session = await openReader({ url: database.url, name: 'pages', queryTimeoutMs: 15_000 });
    ends.push(() => session.end());
    const { now } = await readStart(session);
    await database.query(
      `insert into relay.events (account_id, event, payload)
       select 'acc-1', 'test.event', ${payload} from generate_series(1, 60) i`,
    );
    const limits = { events: 5_000, bytes: 10_000, payloadBytes: 4 * 1024 * 1024 };
    const ids: bigint[] = [];
    let pages = 0;
    for (let more = true; more; pages += 1) {
      const range = { seen: now, bound: null, after: ids.at(-1) ?? 0n };
      const page = await readAccountPage(session, 'acc-1', range, limits);
      ids.push(...page.events.map(({ id }) => id));
      more = page.more;
    }
    expect(pages).toBeGreaterThan(3);
    expect(ids).toEqual([...new Set(ids)].sort((x, y) => (x < y ? -1 : 1)));
    expect(ids).toHaveLength(60);
  });

  test('a page is the same, whichever transactions are held for large', async () => {
    const session = await openReader({ url: database.url, name: 'pages', queryTimeoutMs: 15_000 });
    ends.push(() => session.end());
    const { now } = await readStart(session);
    for (const size of [3, 40, 1, 25])
      await database.query(
        `insert into relay.events (account_id, event, payload)
         select 'acc-1', 'test.event', to_jsonb(i) from generate_series(1, ${size}) i`,
      );
    const rows = await database.query<{ xid: string }>(
      "select distinct xid::text from relay.events where account_id = 'acc-1'",
    );
    const xids = rows.map(({ xid }) => BigInt(xid));
    const limits = { events: 20, bytes: 100_000, payloadBytes: 4 * 1024 * 1024 };
    const read = async (after: bigint, large: readonly bigint[]) => {
      const range = { seen: now, bound: null, after };
      return (await readAccountPage(session, 'acc-1', range, limits, large)).events.map(({ id }) => id);
    };
    const plain = await read(0n, []);
    const [middle] = plain.slice(10);
    for (const large of [xids.slice(0, 1), xids.slice(1, 3), xids, [1n]]) {
      expect(await read(0n, large)).toEqual(plain);
      expect(await read(middle!, large)).toEqual(await read(middle!, []));
    }
  });

  test('reads no payload beyond what may be sent, and says so by null', async () => {
    const reader = await startReader(database.url, { page: { payloadBytes: 1_000 } });
    await emit(database, 'x'.repeat(2_000));
    await emit(database, 'small');
    await reader.feed.read();
    expect(reader.events.map(({ payload }) => payload)).toEqual([null, '"small"']);
  });

  test('reads what was committed while its connection was gone, once', async () => {
    const reader = await startReader(database.url);
    await emit(database, 1);
    await reader.feed.read();
    for (const n of [2, 3]) {
      const { session } = reader;
      const gone = new Promise<void>((resolve) => session!.once('end', () => resolve()));
      await database.endSessions('feed under test');
      await gone;
      await emit(database, n);
      await until('the feed is back', () => reader.session !== session && reader.feed.ready);
    }
    expect(reader.events.map(({ payload }) => payload)).toEqual(['1', '2', '3']);
  });

  test('raises a commit that would not wait for the disk, for events only', async () => {
    const client = await database.connect();
    const setting = async () => (await client.query('show synchronous_commit')).rows[0].synchronous_commit;
    await client.query('set synchronous_commit = off');
    await client.query('begin');
    expect(await setting()).toBe('off');
    await client.query('savepoint s');
    await client.query("select relay.emit('acc-1', 'test.event')");
    expect(await setting()).toBe('local');
    await client.query('rollback to s');
    expect(await setting()).toBe('off');
    await client.query("select relay.emit('acc-1', 'test.event')");
    expect(await setting()).toBe('local');
    await client.query('commit');
    expect(await setting()).toBe('off');
  });

  test('never scans the table, also with a plan made while it was empty', async () => {
    const reader = await startReader(database.url);
    for (let i = 0; i < 12; i += 1) await reader.feed.read();
    await database.query(
      "insert into relay.events (account_id, event) select 'acc-' || i % 100, 'test.bulk' from generate_series(1, 20000) i",
    );
    await reader.feed.read();
    const { rows } = await reader.session!.query<{ 'QUERY PLAN': string }>({
      text: `explain (costs off) execute recado_feed('${reader.feed.seen.xmax}', '{1,2,3}', 0, null, 5000, 1000000, 1000000)`,
    });
    const plan = rows.map((row) => row['QUERY PLAN']).join('\n');
    expect(plan).toMatch(/Index Scan/);
    expect(plan).not.toMatch(/Seq Scan on events/);
  });

  test('starts over when events were emptied that it had not read', async () => {
    const reader = await startReader(database.url);
    await emit(database, 1);
    // What a transaction of another database might have written counts as unread until it ends.
    await until('nothing is in progress', async () => {
      await reader.feed.read();
      return reader.feed.seen.xip.length === 0;
    });
    // Emptied, but read: nothing is lost.
    await database.query(
      'update relay.installation set emptied_in = pg_current_snapshot(), emptied_through = (select max(xid::text::bigint)::text::xid8 from relay.events)',
    );
    await database.query("begin; set local relay.removing = 'on'; delete from relay.events; commit");
    await reader.feed.read();
    expect(reader.lost).toEqual([]);
    const seen = reader.feed.seen;

    const xid = await currentXid(database);
    await database.query(
      'update relay.installation set emptied_in = pg_current_snapshot(), emptied_through = $1::text::xid8',
      [xid.toString()],
    );
    await reader.feed.read();
    expect(reader.lost).toEqual(['retention']);
    expect(covers(reader.feed.seen, seen)).toBe(true);
    expect(sees(reader.feed.seen, xid)).toBe(true);
    await emit(database, 2);
    await reader.feed.read();
    expect(reader.lost).toEqual(['retention']);
    expect(reader.events.map(({ payload }) => payload)).toEqual(['1', '2']);
  });

  test('asks its listener before a batch: what was written while it connects is there too', async () => {
    let pause: (() => void) | null = null;
    const reader = new Reader(database.url, {
      before: async (text) => {
        // Between the first two things it asks for, whatever they are.
        if (text.includes('settle_epoch') && !pause) {
          await new Promise<void>((resolve) => (pause = resolve));
        }
      },
    });
    await until('the feed is connecting', () => pause);
    await database.query("select relay.revoke('acc-1')");
    pause!();
    await reader.feed.firstRead;
    await reader.feed.read();
    expect(reader.asked[0]?.events).toBeNull();
    expect(reader.asked.at(-1)?.revoked).toEqual(['acc-1']);
    await database.query("select relay.revoke('acc-2', subject => 'ana')");
    await reader.feed.read();
    expect(reader.asked.at(-1)).toEqual({ events: ['relay:revoke'], revoked: ['acc-1', 'acc-2'] });
  });
});
