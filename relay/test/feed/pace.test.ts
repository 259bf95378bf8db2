// A node that does not hold the gate reads at a pace while the holder tells it to.
import { createPool, openSession } from '../../db/connect.ts';
import { Gate, PACE } from '../../feed/notify-gate.ts';
import { startWakeup, type Wakeup } from '../../feed/wakeup.ts';
import { createLog } from '../../log.ts';
import { createMetrics } from '../../metrics.ts';
import { holdStill, setForward } from '../clocks.ts';
import { ends } from '../ends.ts';
import { type Database, freshDatabase, until } from '../world.ts';

const log = createLog('silent', false);
let database: Database;
beforeAll(async () => {
  database = await freshDatabase();
});
afterAll(() => database.close());

class Node {
  readonly metrics = createMetrics();
  readonly pool = createPool({ url: database.url, name: 'gate of a test', max: 1, log });
  readonly wakeup: Wakeup;
  reads = 0;
  /** What each read does. It answers how many transactions it found. */
  read: () => number = () => 0;

  constructor(safetyReadMs: number, paceMs = 1) {
    this.wakeup = startWakeup({
      databaseUrl: database.url,
      connect: openGateSession,
      pool: this.pool,
      mayCloseGate: true,
      wake: () =>
        queueMicrotask(() => {
          this.reads += 1;
          this.wakeup.onRead({ transactions: this.read() });
        }),
      safetyReadMs,
      paceMs,
      log,
      metrics: this.metrics,
    });
    ends.push(async () => {
      await this.wakeup.close();
      await this.pool.end();
    });
  }

  async listens(): Promise<void> {
    await until('it listens', () => this.wakeup.listening);
  }

  async notified(): Promise<number> {
    return (await this.metrics.wakeups.get()).values[0]?.value ?? 0;
  }

  async lost(): Promise<number> {
    return (await this.metrics.listenFailures.get()).values[0]?.value ?? 0;
  }

  async reads20Times(): Promise<void> {
    const { reads } = this;
    await until('it has read at a pace', () => this.reads > reads + 20);
  }
}

const openGateSession = () => openSession({ url: database.url, name: 'gate of a test' });

test('a node that starts to listen, or does again, reads at a pace: it may have missed a notification', async () => {
  const clock = holdStill(performance);
  const node = new Node(60_000);
  await node.listens();
  await node.reads20Times();
  // The first pace is over: at most one read of it comes yet.
  clock.forward(3_600_000);
  await database.endSessions('recado wakeup');
  await until('it noticed', async () => (await node.lost()) > 0);
  await node.listens();
  await node.reads20Times();
});

test('a node reads at a pace when the holder of the gate tells it to', async () => {
  const clock = holdStill(performance);
  const node = new Node(60_000);
  await node.listens();
  clock.forward(3_600_000);
  // The pace with which it began is over: at most one read of it comes yet.
  await database.query("select pg_notify('relay', $1)", [PACE]);
  await node.reads20Times();
});

test('a clock that is set forward ends no pace', async () => {
  holdStill(performance);
  const node = new Node(60_000);
  await node.listens();
  setForward(Date);
  await node.reads20Times();
});

test('a holder that tells once a second is not taken for a frozen one, however frequent the safety reads', async () => {
  const clock = holdStill(performance);
  const pool = createPool({ url: database.url, name: 'holder of a test', max: 1, log });
  const holder = new Gate({ connect: openGateSession, pool, log, metrics: createMetrics() });
  ends.push(async () => {
    await holder.end();
    await pool.end();
  });
  expect(await holder.close()).toBe(true);
  // It reads by the safety timer only.
  const node = new Node(50, 60_000);
  await node.listens();
  await holder.tellOthers();
  await until('it is told', async () => (await node.notified()) > 0);
  node.read = () => {
    void holder.tellOthers();
    return 1;
  };
  for (const told of [1, 2]) {
    const { reads } = node;
    await until('it has read often', () => node.reads > reads + 5);
    clock.forward(1_000);
    await until('it is told again', async () => (await node.notified()) > told);
  }
  expect(holder.state).toBe('closed');
});
