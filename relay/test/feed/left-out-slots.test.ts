// Which slots are left out, and when they are read again, without a node that reads beside it.
import type pg from 'pg';
import { openReader } from '../../db/connect.ts';
import { LockedSlots } from '../../feed/locked-slots.ts';
import { createLog } from '../../log.ts';
import type { Session } from '../../outbox/events.ts';
import { NOTHING, parseSnapshot } from '../../outbox/position.ts';
import { type Database, freshDatabase, until } from '../world.ts';
import { lockSlot } from './lock-slot.ts';

let database: Database;
let locker: pg.Client;

beforeAll(async () => {
  database = await freshDatabase();
  await database.query(`select relay.publish('note')`);
  // A slot then lasts two months: none begins during a test.
  await database.query(`select relay.set_retention('1 year')`);
  locker = await database.connect();
});
afterAll(() => database.close());

test('an old slot that is locked again while it is looked at stays left out', async () => {
  const reader = await openReader({ url: database.url, name: 'reader under test' });
  await reader.query("set lock_timeout = '50ms'");
  const slots = new LockedSlots({ log: createLog('silent', false) });
  let looks = 0;
  // Each time the first look has found it free.
  const lockedAgain: Session = {
    query: (async (query: unknown, values: unknown[]) => {
      if (typeof query === 'string' && query.includes('as skipped') && looks++ === 0)
        await lockSlot(locker, 4);
      return reader.query(query as string, values);
    }) as Session['query'],
  };
  const slot = await lockSlot(locker, 4);
  const read = reader.query(`select from relay.events_${slot}`).catch((error: unknown) => error);
  expect(await slots.leaveOut(reader, NOTHING, await read)).toBe(true);
  await locker.query('rollback');
  const takeBack = () => slots.takeBack(lockedAgain, NOTHING, 'an epoch');
  await until('it is looked at', async () => {
    await takeBack();
    return looks === 1;
  });
  expect(slots.leftOut).toEqual([slot]);
  await locker.query('rollback');
  await until('it is taken back', async () => {
    await takeBack();
    return slots.leftOut.length === 0;
  });
  await reader.end();
});

test('a slot is taken back although the clock was set back an hour meanwhile', async () => {
  const reader = await openReader({ url: database.url, name: 'reader under test' });
  await reader.query("set lock_timeout = '50ms'");
  const slots = new LockedSlots({ log: createLog('silent', false) });
  const slot = await lockSlot(locker, 4);
  const error = await reader.query(`select from relay.events_${slot}`).catch((thrown: unknown) => thrown);
  const { now } = Date;
  Date.now = () => now() + 3_600_000;
  try {
    await slots.leaveOut(reader, NOTHING, error);
  } finally {
    Date.now = now;
  }
  await locker.query('rollback');
  await until('it is taken back', async () => {
    await slots.takeBack(reader, NOTHING, 'an epoch');
    return slots.leftOut.length === 0;
  });
  await reader.end();
});

test('events that were read from a slot before it was locked too do not count as skipped', async () => {
  const reader = await openReader({ url: database.url, name: 'reader under test' });
  await reader.query("set lock_timeout = '50ms'");
  const slots = new LockedSlots({ log: createLog('silent', false) });
  const seen = async () => {
    const { rows } = await reader.query<{ now: string }>('select pg_current_snapshot()::text as now');
    return parseSnapshot(rows[0]!.now);
  };
  const failOn = (slot: number) =>
    reader.query(`select from relay.events_${slot}`).catch((error: unknown) => error);
  const first = await lockSlot(locker, 3);
  expect(await slots.leaveOut(reader, await seen(), await failOn(first))).toBe(true);
  const second = (first + 2) % 8;
  await database.query(
    `insert into relay.events (slot, account_id, event, payload) values ($1, 'other', 'note', '1')`,
    [second],
  );
  const readUpTo = await seen();
  await locker.query(`lock table relay.events_${second} in access exclusive mode`);
  expect(await slots.leaveOut(reader, readUpTo, await failOn(second))).toBe(true);
  expect(slots.leftOut).toEqual([first, second].sort());
  await locker.query('rollback');
  const epoch = async () => (await database.query('select relay.epoch() as epoch'))[0]!.epoch as string;
  const before = await epoch();
  await until('both are taken back', async () => {
    await slots.takeBack(reader, await seen(), before);
    return slots.leftOut.length === 0;
  });
  expect(await epoch()).toBe(before);
  await reader.end();
});
