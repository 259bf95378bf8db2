// The ring: which slots are emptied, which are not, and what becomes of a client whose events are gone.
import type pg from 'pg';
import { openReader } from '../../db/connect.ts';
import { readAccountPage } from '../../outbox/pages.ts';
import { isTooOld, parsePosition, parseSnapshot } from '../../outbox/position.ts';
import { ends } from '../ends.ts';
import { Client, type Database, freshDatabase, startNode, token, until } from '../world.ts';

const EVENT = 'retention.test';
const PAGE = { events: 100, bytes: 1_000_000, payloadBytes: 1_000_000 };

let database: Database;

beforeEach(async () => {
  database = await freshDatabase();
  await database.query('select relay.publish(event => $1)', [EVENT]);
});
afterEach(async () => {
  await database.close();
});

type Runner = { query(text: string, values: unknown[]): Promise<unknown> };

/** An event as if captured so long ago. */
async function record(slot: number, age: string, through: Runner = database): Promise<void> {
  await through.query(
    `insert into relay.events (slot, created_at, account_id, event, payload)
     values ($1, clock_timestamp() - $2::interval, 'acc-1', $3, '1')`,
    [slot, age, EVENT],
  );
}

async function now(): Promise<string> {
  return (await database.query<{ now: string }>('select pg_current_snapshot()::text as now'))[0]!.now;
}

async function empty(slot: number, seen: string, through: Runner = database): Promise<string> {
  const result = (await through.query('select relay.empty_slot($1, $2::pg_snapshot) as said', [
    slot,
    seen,
  ])) as { said: string }[] | { rows: { said: string }[] };
  return (Array.isArray(result) ? result : result.rows)[0]!.said;
}

/** Where no writer is, or soon will be. */
async function restingSlots(): Promise<number[]> {
  const rows = await database.query<{ slot: number }>(
    `select s as slot from generate_series(0, 7) as s
      where s <> all (select relay.slot_at(clock_timestamp() + d * interval '24 minutes') from generate_series(-1, 2) as d)`,
  );
  return rows.map(({ slot }) => slot);
}

async function count(slot: number): Promise<number> {
  return (await database.query<{ n: number }>(`select count(*)::int as n from relay.events_${slot}`))[0]!.n;
}

async function emptiedThrough(): Promise<string | null> {
  const [row] = await database.query<{ mark: string | null }>(
    'select emptied_through::text as mark from relay.installation',
  );
  return row!.mark;
}

describe('a slot is emptied', () => {
  test('when everything in it is old and seen; the mark is its largest transaction, and no space is kept', async () => {
    await record(3, '25 hours');
    await record(3, '25 hours');
    const [{ largest } = { largest: '' }] = await database.query<{ largest: string }>(
      'select xid::text as largest from relay.events order by xid desc limit 1',
    );
    expect(await empty(3, await now())).toBe('emptied');
    expect(await count(3)).toBe(0);
    expect(await emptiedThrough()).toBe(largest);
    const [{ bytes } = { bytes: -1 }] = await database.query<{ bytes: number }>(
      "select pg_relation_size('relay.events_3')::int as bytes",
    );
    expect(bytes).toBe(0);
    expect(await empty(3, await now())).toBe('empty');
  });

  test('and the mark never goes back when an older slot follows', async () => {
    await record(1, '30 hours');
    await record(2, '30 hours');
    const seen = await now();
    expect(await empty(2, seen)).toBe('emptied');
    const mark = await emptiedThrough();
    expect(await empty(1, seen)).toBe('emptied');
    expect(await emptiedThrough()).toBe(mark);
  });

  test('one at a time by rotate(), until none is left', async () => {
    const resting = await restingSlots();
    for (const slot of resting.slice(0, 3)) await record(slot, '25 hours');
    const seen = await now();
    const rotate = async () =>
      (
        await database.query<{ outcome: string }>('select outcome from relay.rotate($1::pg_snapshot)', [seen])
      ).filter(({ outcome }) => outcome === 'emptied').length;
    expect([await rotate(), await rotate(), await rotate(), await rotate()]).toEqual([1, 1, 1, 0]);
  });

  test('not by rotate() while writers are in it, or soon will be, however old its content', async () => {
    const [{ slot } = { slot: -1 }] = await database.query<{ slot: number }>(
      'select relay.slot_at(clock_timestamp()) as slot',
    );
    await record(slot, '25 hours');
    const rotated = await database.query<{ slot: number }>('select slot from relay.rotate($1::pg_snapshot)', [
      await now(),
    ]);
    expect(rotated.map((row) => row.slot)).not.toContain(slot);
    const [{ written } = { written: -1 }] = await database.query<{ written: number }>(
      `insert into relay.events (account_id, event) values ('acc-1', $1) returning slot as written`,
      [EVENT],
    );
    expect(written).toBe(slot);
  });
});

describe('a slot is kept', () => {
  test('when its newest event is young', async () => {
    await record(0, '25 hours');
    await record(0, '23 hours');
    expect(await empty(0, await now())).toBe('in use');
    expect(await count(0)).toBe(2);
  });

  test('when a young event is not the newest by transaction: the clock went back', async () => {
    await record(0, '23 hours');
    await record(0, '25 hours');
    expect(await empty(0, await now())).not.toBe('emptied');
    expect(await count(0)).toBe(2);
  });

  test('when one event in it was not read by who asks, however old all are', async () => {
    await record(0, '25 hours');
    const seen = await now();
    await record(0, '30 hours');
    expect(await empty(0, seen)).toBe('not read yet');
    expect(await count(0)).toBe(2);
    expect(await emptiedThrough()).toBeNull();
  });

  test('when its events were written while the reader saw their transaction in progress', async () => {
    const writer = await database.connect();
    await writer.query('begin');
    await record(0, '25 hours', writer);
    const seen = await now();
    await record(1, '25 hours'); // A later one, so that xmax alone would say that both were seen.
    await writer.query('commit');
    expect(await empty(0, seen)).toBe('not read yet');
    expect(await count(0)).toBe(1);
  });

  test('while a writer has it open; nobody waits, neither who asks nor other writers of the slot', async () => {
    await record(0, '25 hours');
    const [long, other, asking] = [
      await database.connect(),
      await database.connect(),
      await database.connect(),
    ];
    await long.query('begin');
    await record(0, '25 hours', long);
    for (const session of [other, asking]) await session.query("set lock_timeout = '1ms'");
    expect(await empty(0, await now(), asking)).toBe('busy');
    await record(0, '25 hours', other);
    await long.query('commit');
    // What was not there when it looked is still there.
    expect(await count(0)).toBe(3);
    expect(await empty(0, await now())).toBe('emptied');
  });

  test('while a reader holds its lock, as pg_dump does for all tables', async () => {
    await record(0, '25 hours');
    const dump = await database.connect();
    await dump.query('begin isolation level repeatable read; lock table relay.events in access share mode');
    expect(await empty(0, await now())).toBe('busy');
    expect((await dump.query('select from relay.events')).rowCount).toBe(1);
    await dump.query('commit');
    expect(await empty(0, await now())).toBe('emptied');
  });

  test('in all eight slots, when relays were down for longer than the ring and have read nothing', async () => {
    for (let slot = 0; slot < 8; slot += 1) await record(slot, '80 hours');
    const rows = await database.query<{ outcome: string }>(
      "select outcome from relay.rotate('1:1:'::pg_snapshot)",
    );
    // All but where writers are, or soon will be.
    expect(rows.length).toBeGreaterThanOrEqual(6);
    expect(new Set(rows.map(({ outcome }) => outcome))).toEqual(new Set(['not read yet']));
    for (let slot = 0; slot < 8; slot += 1) expect(await empty(slot, '1:1:')).toBe('not read yet');
    expect(await emptiedThrough()).toBeNull();
  });
});

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

    const relay = await startNode(database.url);
    ends.push(() => relay.close());
    await relay.ready();
    const client = new Client(relay, { token: await token(), position });
    ends.push(() => client.close());
    await client.live();
    await until('it is told', () => client.heard.length > 0);
    expect(client.heard[0]).toMatchObject({ event: 'relay:resync', payload: { reason: 'retention' } });
  });

  test('a client that comes back while its events are still there gets them, retention or not', async () => {
    const relay = await startNode(database.url);
    ends.push(() => relay.close());
    await relay.ready();
    const [{ position } = { position: '' }] = await database.query<{ position: string }>(
      'select relay.position() as position',
    );
    await record(2, '80 hours');
    const client = new Client(relay, { token: await token(), position });
    ends.push(() => client.close());
    expect(await client.hears(1)).toEqual([1]);
  });
});

describe('a transaction older than the retention', () => {
  test('makes nobody refetch when it commits at last, and its events arrive', async () => {
    const relay = await startNode(database.url);
    ends.push(() => relay.close());
    await relay.ready();
    const client = new Client(relay, { token: await token() });
    ends.push(() => client.close());
    await client.live();
    const held = await database.connect();
    await held.query('begin');
    await held.query(`insert into relay.events (account_id, event, payload) values ('acc-1', $1, '"held"')`, [
      EVENT,
    ]);
    const [resting = -1] = await restingSlots();
    await record(resting, '25 hours');
    await client.hears(1);
    await until('the slot is empty', async () => (await count(resting)) === 0);
    // Beside it, and after it was emptied: one whose position names the held one as open.
    const away = new Client(relay, { token: await token(), position: client.heard.at(-1)!.position });
    ends.push(() => away.close());
    await away.live();
    await held.query('commit');
    expect(await client.hears(2)).toEqual([1, 'held']);
    expect(await away.hears(1)).toEqual(['held']);
    const late = new Client(relay, { token: await token(), position: client.heard[0]!.position });
    ends.push(() => late.close());
    await late.live();
    for (const one of [client, away, late]) expect(one.of('relay:resync')).toEqual([]);
  });
});

describe('a relay', () => {
  test('empties what it has read, slot after slot, by itself', async () => {
    const slots = (await restingSlots()).slice(0, 3);
    for (const slot of slots) await record(slot, '25 hours');
    const relay = await startNode(database.url);
    ends.push(() => relay.close());
    await until(
      'the slots are empty',
      async () => (await database.query('select from relay.events')).length === 0,
    );
    await until(
      'it has counted them',
      async () => (await relay.metrics.slotsEmptied.get()).values[0]?.value === 3,
    );
  });

  test('that was cut off for two turns of the ring tells its clients everything before anything is emptied', async () => {
    const relay = await startNode(database.url);
    ends.push(() => relay.close());
    await relay.ready();
    const client = new Client(relay, { token: await token() });
    ends.push(() => client.close());
    await client.live();
    // In one statement, so that the relay, which cannot be stopped in here, has read none of it when it is old.
    await database.query(
      `insert into relay.events (slot, created_at, account_id, event, payload)
       select n % 8, clock_timestamp() - (64 - n) * interval '1 hour' - interval '24 hours', 'acc-1', $1, to_jsonb(n)
         from generate_series(0, 63) as n`,
      [EVENT],
    );
    expect(await client.hears(64)).toEqual(Array.from({ length: 64 }, (_, n) => n));
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
