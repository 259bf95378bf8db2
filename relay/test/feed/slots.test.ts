// The ring: which slots are emptied, and which are not.
import { count, database, EVENT, emptiedThrough, empty, now, record, restingSlots } from './slots.ts';

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
    // A commit waits a moment for NOTIFY's lock. A lock_timeout that ends a wait for the slot counts as busy.
    for (const session of [other, asking]) await session.query("set statement_timeout = '10s'");
    expect(await empty(0, await now(), asking)).toBe('busy');
    await record(0, '25 hours', other);
    await long.query('commit');
    // What was not there when it looked is still there.
    expect(await count(0)).toBe(3);
    expect(await empty(0, await now())).toBe('emptied');
  });

  test('while another program keeps it locked; who asks does not wait', async () => {
    await record(0, '25 hours');
    const [locker, asking] = [await database.connect(), await database.connect()];
    await locker.query('begin; lock table relay.events_0 in access exclusive mode');
    await asking.query("set statement_timeout = '10s'");
    expect(await empty(0, await now(), asking)).toBe('busy');
    await locker.query('rollback');
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

  test('while a relay has to search it for skipped events', async () => {
    await record(0, '25 hours');
    const [leftOut] = await database.query('select relay.leave_out(0, pg_current_snapshot()) as id');
    expect(await empty(0, await now())).toBe('busy');
    await database.query('select relay.take_back(array[$1::bigint])', [leftOut!.id]);
    expect(await empty(0, await now())).toBe('emptied');
  });

  test('because it is busy, without a lock on the row that others write', async () => {
    await record(0, '25 hours');
    const [reader, asking] = [await database.connect(), await database.connect()];
    await reader.query('begin; lock table relay.events_0 in access share mode');
    await asking.query('begin');
    expect(await empty(0, await now(), asking)).toBe('busy');
    await database.query('select from relay.installation for update nowait');
    await asking.query('rollback');
    await reader.query('rollback');
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
