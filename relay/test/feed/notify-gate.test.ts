// The gate's race, step by step over connections of their own.
import { createPool, openSession } from '../../db/connect.ts';
import { Gate, PACE } from '../../feed/notify-gate.ts';
import { createLog, type Log } from '../../log.ts';
import { createMetrics } from '../../metrics.ts';
import { holdStill } from '../clocks.ts';
import { ends } from '../ends.ts';
import { Link } from '../faults/links.ts';
import { hearing } from '../hearing.ts';
import { deadPort, through, until } from '../world.ts';
import { database, holdings, INSERT, NotificationCounter } from './gate.ts';

const log = createLog('silent', false);

function openGate(url = database.url, gateLog: Log = log): Gate {
  const pool = createPool({ url, name: 'gate test', max: 2, log });
  const gate = new Gate({
    connect: () => openSession({ url, name: 'recado gate' }),
    pool,
    log: gateLog,
    metrics: createMetrics(),
  });
  ends.push(async () => {
    await gate.end();
    await pool.end();
  });
  return gate;
}

/** Closed, and nobody in the way. */
async function closeFirmly(gate: Gate): Promise<void> {
  expect(await gate.close()).toBe(true);
  await until('the lock is granted', async () =>
    (await holdings(0)).some(({ mode, granted }) => mode === 'ExclusiveLock' && granted),
  );
}

describe('step by step', () => {
  test('a commit notifies while the gate is open, and does not while it is closed', async () => {
    const gate = openGate();
    const counter = await NotificationCounter.listen();
    await database.query(INSERT);
    expect(await counter.next()).toBe(1);
    await closeFirmly(gate);
    await database.query(INSERT);
    expect(await counter.next()).toBe(0);
    await gate.open();
    await database.query(INSERT);
    expect(await counter.next()).toBe(1);
  });

  test('the log tells once that the database is away, and once that it is back', async () => {
    const port = Number(new URL(database.url).port);
    const road = await Link.to(port);
    ends.push(() => road.close());
    const said: string[] = [];
    const gate = openGate(
      through(road, database.url),
      hearing((name, fields) => said.push(`${name} ${JSON.parse(fields).step}`)),
    );
    await gate.queueUsage();
    expect(said).toEqual([]);
    road.point(await deadPort());
    road.cut();
    for (let second = 1; second <= 3; second += 1) {
      expect(await gate.queueUsage()).toBe(0);
      expect(await gate.close()).toBe(false);
    }
    expect(said.splice(0)).toEqual(['gate_failed look', 'gate_failed switch']);
    road.point(port);
    for (let second = 1; second <= 3; second += 1) {
      await gate.queueUsage();
      await gate.close();
    }
    const recovered = ['gate_recovered look', 'gate_changed undefined', 'gate_recovered switch'];
    expect(said).toEqual(recovered);
  });

  test('for some seconds after it was opened, commits are expected that do not notify', async () => {
    const gate = openGate();
    const counter = await NotificationCounter.listen();
    const writer = await database.connect();
    expect(gate.silences).toBe(false);
    await closeFirmly(gate);
    expect(gate.silences).toBe(true);
    await writer.query('begin');
    await writer.query(INSERT); // Sees it closed.
    await gate.open();
    expect(gate.state).toBe('open');
    expect(gate.silences).toBe(true);
    await writer.query('commit');
    expect(await counter.next()).toBe(0);
    await database.query(INSERT);
    expect(await counter.next()).toBe(1);
    await until('nobody is expected to be silent', () => !gate.silences, 10_000);
  });

  test('a writer that has its transaction, and looks at the gate after it was opened, notifies', async () => {
    const gate = openGate();
    const counter = await NotificationCounter.listen();
    const writer = await database.connect();
    await closeFirmly(gate);
    await writer.query('begin; select pg_current_xact_id()');
    await gate.open();
    await writer.query(INSERT);
    await writer.query('commit');
    expect(await counter.next()).toBe(1);
  });

  test('writers stop notifying once the lock is requested, though one that notifies is still open', async () => {
    const gate = openGate();
    const counter = await NotificationCounter.listen();
    const early = await database.connect();
    await early.query('begin');
    await early.query(INSERT);
    expect(await gate.close()).toBe(true);
    expect(gate.state).toBe('closed');
    await until('the request waits', async () =>
      (await holdings(0)).some(({ mode, granted }) => mode === 'ExclusiveLock' && !granted),
    );

    await database.query(INSERT);
    expect(await counter.next()).toBe(0);
    await early.query(INSERT);
    await early.query('commit');
    expect(await counter.next()).toBe(1);
  });

  test('reopening does not wait for a writer that the request waits for', async () => {
    const gate = openGate();
    const counter = await NotificationCounter.listen();
    const early = await database.connect();
    await early.query('begin');
    await early.query(INSERT);
    await gate.close();
    await gate.open();
    await database.query(INSERT);
    expect(await counter.next()).toBe(1);
    expect(await holdings(1)).toEqual([]);
    await early.query('commit');
  });

  test('one node holds it', async () => {
    const [first, second] = [openGate(), openGate()];
    expect(await first.close()).toBe(true);
    expect(await second.close()).toBe(false);
    expect(second.state).toBe('open');
    expect(await holdings(1)).toHaveLength(1);
  });

  test('another node ends a holder, which then goes on as if it had opened by itself', async () => {
    const [first, second] = [openGate(), openGate()];
    const counter = await NotificationCounter.listen();
    await closeFirmly(first);
    await second.endOtherHolder();
    await until('the first has noticed', () => first.state === 'open');
    expect(first.silences).toBe(true);
    expect(await holdings(1)).toEqual([]);
    await database.query(INSERT);
    expect(await counter.next()).toBe(1);
    await closeFirmly(second);
  });

  test('the other nodes are told to keep a pace once for many batches', async () => {
    const gate = openGate();
    const counter = await NotificationCounter.listen();
    await closeFirmly(gate);
    holdStill(performance);
    await Promise.all([gate.tellOthers(), gate.tellOthers()]);
    await gate.tellOthers();
    expect(await counter.next(PACE)).toBe(1);
  });
});

describe('a transaction', () => {
  test('notifies once, however many events it has', async () => {
    const counter = await NotificationCounter.listen();
    const writer = await database.connect();
    await writer.query('begin');
    for (let n = 0; n < 5; n += 1) await writer.query(INSERT);
    expect((await holdings(0)).filter(({ mode }) => mode === 'ShareLock')).toHaveLength(1);
    await writer.query('commit');
    expect(await counter.next()).toBe(1);
    expect(await holdings(0)).toEqual([]);
  });

  test('notifies after a savepoint with its first event was rolled back', async () => {
    const counter = await NotificationCounter.listen();
    const writer = await database.connect();
    await writer.query('begin; savepoint a');
    await writer.query(INSERT);
    await writer.query('rollback to savepoint a');
    await writer.query(INSERT);
    await writer.query('commit');
    expect(await counter.next()).toBe(1);
  });

  test('does not notify for no rows', async () => {
    const counter = await NotificationCounter.listen();
    await database.query(
      "insert into relay.events (account_id, event) select 'acc-1', 'gate.test' from generate_series(1, 0)",
    );
    expect(await counter.next()).toBe(0);
  });

  test('does not notify, and takes no lock, where it is muted', async () => {
    const counter = await NotificationCounter.listen();
    const writer = await database.connect();
    await writer.query('set relay.ring = off');
    await writer.query('begin');
    await writer.query(INSERT);
    expect(await holdings(0)).toEqual([]);
    await writer.query('commit');
    expect(await counter.next()).toBe(0);
    await writer.query('reset relay.ring');
    await writer.query(INSERT);
    expect(await counter.next()).toBe(1);
  });

  test('with an event waits for the disk, even under synchronous_commit = off', async () => {
    const writer = await database.connect();
    await writer.query('set synchronous_commit = off; begin');
    await writer.query(INSERT);
    const { rows } = await writer.query('show synchronous_commit');
    expect(rows).toEqual([{ synchronous_commit: 'local' }]);
    await writer.query('commit');
    expect((await writer.query('show synchronous_commit')).rows).toEqual([{ synchronous_commit: 'off' }]);
  });
});
