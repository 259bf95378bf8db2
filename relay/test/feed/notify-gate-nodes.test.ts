// The gate among its nodes, killed and frozen ones included.
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { packageRoot } from '../../package.ts';
import type { Relay } from '../../server/relay.ts';
import { ends } from '../ends.ts';
import { Client, SECRET, startNode, token, until } from '../world.ts';
import { database, holdings, INSERT, NotificationCounter } from './gate.ts';

describe('nodes', () => {
  async function node(environment: Record<string, string> = {}): Promise<Relay> {
    const relay = await startNode(database.url, environment);
    ends.push(() => relay.close());
    await relay.ready();
    return relay;
  }

  async function client(port: number): Promise<Client> {
    const connected = new Client(port, { token: await token() });
    ends.push(() => connected.close());
    return connected.live();
  }

  async function holds(relay: Relay): Promise<boolean> {
    return (await relay.metrics.gateClosed.get()).values[0]?.value === 1;
  }

  let told = 0;
  beforeEach(() => {
    told = 0;
  });

  async function tell(): Promise<void> {
    told += 1;
    await database.query(INSERT);
  }

  /** Two writers at full speed, until the condition holds. */
  async function writeUntil(what: string, condition: () => Promise<boolean>): Promise<void> {
    let done = false;
    const write = async () => {
      const writer = await database.connect();
      while (!done) {
        await writer.query(`do $$ begin for n in 1 .. 50 loop ${INSERT}; commit; end loop; end $$`);
        told += 50;
      }
    };
    const writing = [write(), write()];
    try {
      await until(what, condition);
    } finally {
      done = true;
      await Promise.all(writing);
    }
  }

  test('it closes under load and opens again, and nothing is lost or told twice on the way', async () => {
    const relay = await node();
    const listening = await client(relay.port);
    await writeUntil('the gate is closed', () => holds(relay));
    await until('the gate is open', async () => !(await holds(relay)));
    await tell();
    await listening.hears(told);
    await tell();
    expect(await listening.hears(told)).toHaveLength(told);
  });

  test('clients of every node hear at once of a writer that saw it closed and commits when it is open', async () => {
    const unhurried = { SAFETY_READ_MS: '60000' };
    const relays = [await node(unhurried), await node(unhurried)] as const;
    const clients = [await client(relays[0].port), await client(relays[1].port)] as const;
    const isClosed = async () => (await Promise.all(relays.map(holds))).includes(true);
    const writer = await database.connect();
    await writeUntil('the gate is closed', isClosed);
    await writer.query('begin');
    await writer.query(INSERT);
    await until('the gate is open', async () => !(await isClosed()));
    await writer.query('commit');
    for (const listening of clients) await listening.hears(told + 1);
  });

  test('of two nodes one holds it, and clients of both hear everything once', async () => {
    const relays = [await node(), await node()] as const;
    const clients = [await client(relays[0].port), await client(relays[1].port)] as const;
    const holding = async () => (await Promise.all(relays.map(holds))).filter(Boolean).length;
    await writeUntil('the gate is closed', async () => (await holding()) > 0);
    expect(await holding()).toBeLessThan(2);
    // The last one is announced by the gate's holder, or found by a safety read.
    await tell();
    for (const listening of clients) expect(await listening.hears(told)).toHaveLength(told);
  });

  /** A node that can be killed, told to hold the gate by load. */
  async function holderProcess(): Promise<ChildProcess> {
    const child = spawn(process.execPath, [join(packageRoot, 'dist/relay/main.js'), 'relay'], {
      env: { ...process.env, DATABASE_URL: database.url, JWT_SECRET: SECRET, HOST: '127.0.0.1', PORT: '0' },
      stdio: 'ignore',
    });
    const gone = once(child, 'exit');
    ends.push(async () => {
      child.kill('SIGKILL');
      await gone;
    });
    await until(
      'the process reads',
      async () =>
        (
          await database.query(
            "select from pg_stat_activity where datname = current_database() and application_name = 'recado feed'",
          )
        ).length > 0,
      30_000,
    );
    await untilClosed();
    return child;
  }

  async function untilClosed(): Promise<void> {
    // The holder's lock comes before the request that closes the gate.
    await writeUntil('the process has closed the gate', async () =>
      (await holdings(0)).some(({ mode }) => mode === 'ExclusiveLock'),
    );
  }

  test('a holder that is killed leaves the gate open', async () => {
    const child = await holderProcess();
    const relay = await node();
    const listening = await client(relay.port);
    told = 0;
    await tell();
    await listening.hears(told);
    child.kill('SIGKILL');
    await until('its locks are gone', async () => (await holdings(1)).length === 0);
    const counter = await NotificationCounter.listen();
    await tell();
    expect(await counter.next()).toBe(1);
    expect(await listening.hears(told)).toHaveLength(told);
  });

  test('a holder that is frozen is found out by its silence, and ended by the other node', async () => {
    const child = await holderProcess();
    // Before a node is started, which may take longer than an idle holder keeps the gate.
    child.kill('SIGSTOP');
    while ((await holdings(1)).length === 0) {
      // It has opened the gate meanwhile.
      child.kill('SIGCONT');
      await untilClosed();
      child.kill('SIGSTOP');
    }
    const relay = await node();
    const listening = await client(relay.port);
    told = 0;
    const frozen = (await holdings(1)).map(({ name }) => name);
    expect(frozen).toEqual(['recado gate']);
    const counter = await NotificationCounter.listen();
    await tell();
    expect(await counter.next()).toBe(0); // The gate is closed, and nobody notifies the others.
    await listening.hears(told);
    await until('the holder is ended', async () => {
      await tell();
      return (await holdings(1)).length === 0;
    });
    await counter.next();
    await tell();
    expect(await counter.next()).toBe(1);
    expect(await listening.hears(told)).toHaveLength(told);
    child.kill('SIGCONT');
    // It goes on, with the gate it lost: it hears what is written, and may close the gate again.
    await writeUntil('somebody holds the gate', async () => (await holdings(1)).length > 0);
    expect(await listening.hears(told)).toHaveLength(told);
  });
});
