// Retention of running relays, and what becomes of a client whose events are gone.
import type pg from 'pg';
import { openReader } from '../../db/connect.ts';
import { readAccountPage } from '../../outbox/pages.ts';
import { isTooOld, parsePosition, parseSnapshot } from '../../outbox/position.ts';
import { ends } from '../ends.ts';
import { useNodes } from '../nodes.ts';
import { token, until } from '../world.ts';
import { count, database, EVENT, empty, now, PAGE, record, restingSlots } from './slots.ts';

const { start, node, client: connect } = useNodes(() => database);

describe('who comes too late', () => {
  test('a reader in an older snapshot finds nothing, and knows from the mark that it is too old', async () => {
    const reader = await openReader({ url: database.url, name: 'retention test' });
    ends.push(() => reader.end());
    const before = parseSnapshot(await now());
    await record(5, '25 hours');
    await reader.query('begin isolation level repeatable read; select pg_current_snapshot()');
    expect(await empty(5, await now())).toBe('emptied');
    const range = { seen: before, bound: null, after: 0n };
    const inOldSnapshot = await readAccountPage(reader, 'acc-1', range, PAGE);
    // TRUNCATE is not MVCC-safe: the row is gone, and the mark of this snapshot says nothing yet.
    expect(inOldSnapshot.events).toEqual([]);
    expect(isTooOld(before, inOldSnapshot.emptied)).toBe(false);
    await reader.query('commit');
    const page = await readAccountPage(reader, 'acc-1', range, PAGE);
    expect(isTooOld(before, page.emptied)).toBe(true);
  });

  test('a list loaded in a snapshot from before the slot was emptied leads to a resync, not to a gap', async () => {
    await record(5, '25 hours');
    const app = await database.connect();
    await app.query('begin isolation level repeatable read; select count(*) from public.doctors');
    await record(5, '25 hours'); // Not on the app's list.
    expect(await empty(5, await now())).toBe('emptied');
    const { rows } = await app.query<{ position: string }>('select relay.position() as position');
    await app.query('commit');
    const { position } = rows[0]!;
    expect(parsePosition(position)).not.toBeNull();

    const relay = await node();
    const client = await connect(relay, { token: await token(), position }).live();
    await until('it is told', () => client.heard.length > 0);
    expect(client.heard[0]).toMatchObject({ event: 'relay:resync', payload: { reason: 'retention' } });
  });

  test('a client that comes back while its events are still there gets them, retention or not', async () => {
    const relay = await node();
    const [{ position } = { position: '' }] = await database.query<{ position: string }>(
      'select relay.position() as position',
    );
    await record(2, '80 hours');
    const client = connect(relay, { token: await token(), position });
    expect(await client.hears(1)).toEqual([1]);
  });
});

describe('a transaction older than the retention', () => {
  test('makes nobody refetch when it commits at last, and its events arrive', async () => {
    const relay = await node();
    const client = await connect(relay, { token: await token() }).live();
    const held = await database.connect();
    await held.query('begin');
    await held.query(`insert into relay.events (account_id, event, payload) values ('acc-1', $1, '"held"')`, [
      EVENT,
    ]);
    const [resting = -1] = await restingSlots();
    let told = 0;
    let position: string;
    // Others on this server may have transactions in progress, which might have written what is emptied now.
    do {
      await record(resting, '25 hours');
      told += 1;
      await client.hears(told);
      position = String(client.heard.at(-1)!.position);
    } while (parsePosition(position)!.seen.xip.length > 1);
    // As a relay asks, whose next look may be minutes away.
    await until('the slot is empty', async () => {
      await database.query('select relay.rotate(pg_current_snapshot())');
      return (await count(resting)) === 0;
    });
    // Beside it, and after it was emptied: one whose position names the held one as open.
    const away = await connect(relay, { token: await token(), position }).live();
    await held.query('commit');
    expect(await client.hears(told + 1)).toEqual([...Array(told).fill(1), 'held']);
    expect(await away.hears(1)).toEqual(['held']);
    const late = await connect(relay, { token: await token(), position }).live();
    for (const one of [client, away, late]) expect(one.of('relay:resync')).toEqual([]);
  });
});

describe('a relay', () => {
  test('empties what it has read, slot after slot, by itself', async () => {
    const slots = (await restingSlots()).slice(0, 3);
    for (const slot of slots) await record(slot, '25 hours');
    const relay = await start();
    await until(
      'the slots are empty',
      async () => (await database.query('select from relay.events')).length === 0,
    );
    await until(
      'it has counted them',
      async () => (await relay.metrics.slotsEmptied.get()).values[0]?.value === 3,
    );
  });

  test('starts and empties slots when somebody has written a retention of nothing into the table', async () => {
    await database.query("update relay.installation set retention = '0'");
    await record(5, '1 second');
    const relay = await node();
    await until(
      'it has emptied the slot',
      async () => (await relay.metrics.slotsEmptied.get()).values[0]?.value === 1,
    );
  });

  test('looks again soon at a slot that somebody reads at the moment', async () => {
    const [resting = -1] = await restingSlots();
    await record(resting, '25 hours');
    const reader = await database.connect();
    await reader.query(`begin; select from relay.events_${resting}`);
    await start();
    await until('it has looked', async () => {
      const looked = await database.query(
        `select from pg_stat_activity where datname = current_database() and query like 'select outcome%' and state = 'idle'`,
      );
      return looked.length > 0;
    });
    await reader.query('commit');
    await until('the slot is empty', async () => (await count(resting)) === 0);
  });

  test('that was cut off for two turns of the ring tells its clients everything before anything is emptied', async () => {
    const relay = await node();
    const client = await connect(relay, { token: await token() }).live();
    // In one statement, so that the relay, which cannot be stopped in here, has read none of it when it is old.
    await database.query(
      `insert into relay.events (slot, created_at, account_id, event, payload)
       select n % 8, clock_timestamp() - (64 - n) * interval '1 hour' - interval '24 hours', 'acc-1', $1, to_jsonb(n)
         from generate_series(0, 63) as n`,
      [EVENT],
    );
    expect(await client.hears(64)).toEqual(Array.from({ length: 64 }, (_, n) => n));
    // What others on this server have in progress might have written what is emptied now.
    for (let n = 65; String(client.heard.at(-1)!.position).includes('.'); n += 1) {
      await database.query(`select relay.emit('acc-1', $1)`, [EVENT]);
      await client.hears(n);
    }
    // As a relay asks, whose next look is minutes away. A slot that is being read or vacuumed is emptied the next time.
    const resting = await restingSlots();
    await until('all is emptied where no writer is expected', async () => {
      await database.query('select relay.rotate(pg_current_snapshot())');
      return (await database.query('select from relay.events where slot = any ($1)', [resting])).length === 0;
    });
    expect(client.of('relay:resync')).toEqual([]);
  });
});

describe('set_retention()', () => {
  async function slotNow(): Promise<{ slot: number; seconds: number }> {
    const [row] = await database.query<{ slot: number; seconds: number }>(
      `insert into relay.events (account_id, event) values ('acc-1', $1)
       returning slot, floor(date_part('epoch', created_at))::float8 as seconds`,
      [EVENT],
    );
    return row!;
  }

  test.each([
    ['1 minute', 10],
    ['2 minutes', 20],
    ['24 hours', 14_400],
    ['7 days', 100_800],
  ])('of %s makes slots of %i seconds', async (keptFor, slotSeconds) => {
    await database.query('select relay.set_retention($1)', [keptFor]);
    const { slot, seconds } = await slotNow();
    // The clock may pass a border between the two columns.
    const expected = [seconds, seconds - 1].map((at) => Math.floor(at / slotSeconds) % 8);
    expect(expected).toContain(slot);
  });

  test('decides what is old at once, by content', async () => {
    await record(0, '2 hours');
    expect(await empty(0, await now())).toBe('in use');
    await database.query("select relay.set_retention('1 hour')");
    expect(await empty(0, await now())).toBe('emptied');
  });

  test.each(['59 seconds', '2 years', null])('refuses %s in a sentence', async (keptFor) => {
    await expect(database.query('select relay.set_retention($1)', [keptFor])).rejects.toThrow(
      'expected between 1 minute and 1 year',
    );
  });

  test('gives up behind an open transaction, and changes nothing', async () => {
    const writer: pg.Client = await database.connect();
    await writer.query('begin');
    await record(0, '1 hour', writer);
    await expect(database.query("select relay.set_retention('1 hour')")).rejects.toThrow('lock timeout');
    await writer.query('commit');
    const [row] = await database.query('select retention::text from relay.installation');
    expect(row).toEqual({ retention: '24:00:00' });
  });
});
