// Ten minutes at 2,000 events a second through a ring of two minutes, beside a writer that keeps its transaction
// open until its slot is due and a reader that locks every slot as pg_dump does; then two turns of the ring with the
// only relay frozen. Run alone: --only retention.
import { setTimeout as delay } from 'node:timers/promises';
import pg from 'pg';
import { tidy, withSession } from './cluster.ts';
import { type Figure, median } from './figures.ts';
import { ACCOUNTS, EVENT, peers } from './peers.ts';
import { type Bench, openForEveryAccount, serve } from './run.ts';

const WRITERS = 4;
/** Each writer commits so many events every 10 ms: 2,000 a second. */
const AT_ONCE = 5;
/** A writer that waits longer than this for a lock fails, and is counted. */
const PATIENCE = '20ms';

interface Written {
  events: number;
  waited: number;
}

/** Writes on a beat until it is told to end. */
async function writeSteadily(url: string, written: Written, ended: AbortSignal): Promise<void> {
  await withSession(url, async (session) => {
    await session.query(`set lock_timeout = '${PATIENCE}'`);
    for (let due = performance.now(); !ended.aborted; due += 10) {
      const pause = due - performance.now();
      if (pause > 0) await delay(pause);
      try {
        await session.query({
          name: 'write',
          text: `insert into relay.events (account_id, event, payload)
                 select 1 + floor(random() * ${ACCOUNTS}), '${EVENT}', '{"id": 123, "isBusy": true}'
                   from generate_series(1, ${AT_ONCE})`,
        });
        written.events += AT_ONCE;
      } catch (error) {
        if ((error as pg.DatabaseError).code !== '55P03') throw error;
        written.waited += 1;
      }
    }
  });
}

async function sizeOfRing(session: pg.ClientBase): Promise<number> {
  const { rows } = await session.query<{ bytes: number }>(
    `select sum(pg_total_relation_size(inhrelid))::float8 as bytes
       from pg_inherits where inhparent = 'relay.events'::regclass`,
  );
  return rows[0]!.bytes / 2 ** 20;
}

/** Keeps a transaction open in which something was done. */
async function holdOpen(url: string, seconds: number, statements: string): Promise<void> {
  await withSession(url, async (session) => {
    await session.query(`begin isolation level repeatable read; ${statements}`);
    await delay(seconds * 1_000);
    await session.query('commit');
  });
}

export async function retention(bench: Bench): Promise<Figure[]> {
  const quick = bench.seconds(10) < 10;
  const ring = quick ? 60 : 120;
  const turn = (ring / 6) * 8;
  const whole = quick ? 3 * turn : 600;
  const url = await bench.cluster.database(peers.recado);
  await tidy(url, peers.recado);
  await withSession(url, (session) => session.query(`select relay.set_retention($1)`, [`${ring} seconds`]));
  const served = await serve(bench, 'recado');
  const written: Written = { events: 0, waited: 0 };
  const ended = new AbortController();
  const watcher = new pg.Client({ connectionString: url });
  await watcher.connect();
  try {
    await openForEveryAccount(served, 'recado');
    const writing = Promise.all(
      Array.from({ length: WRITERS }, () => writeSteadily(url, written, ended.signal)),
    );
    const began = performance.now();
    const now = () => (performance.now() - began) / 1_000;
    const sizes: { at: number; size: number }[] = [];
    const watch = async (until: number) => {
      while (now() < until) {
        sizes.push({ at: now(), size: await sizeOfRing(watcher) });
        if (sizes.length % 15 === 0) {
          const received = (await served.clients.ask<{ events: number }>('count')).events;
          bench.say(
            `retention, ${Math.round(now())} s: ${sizes.at(-1)!.size.toFixed(0)} MiB, ${written.events} written, ${received} received`,
          );
        }
        await delay(2_000);
      }
    };
    await watch(turn);
    const disturbing = Promise.all([
      holdOpen(url, turn, `insert into relay.events (account_id, event) values ('1', '${EVENT}')`).then(
        () => {
          written.events += 1;
        },
      ),
      delay((turn / 4) * 1_000).then(() =>
        holdOpen(url, turn / 4, 'lock table relay.events in access share mode'),
      ),
    ]);
    await watch(whole);
    await disturbing;
    const after = (from: number, to: number) =>
      sizes.filter(({ at }) => at >= from && at < to).map(({ size }) => size);
    const first = Math.max(...after(0, turn));
    const last = median(after(whole - turn / 4, whole));
    const largest = Math.max(...after(turn, whole));

    bench.say(`retention: the relay is frozen for ${Math.round(2 * turn)} s`);
    process.kill(served.server.pid, 'SIGSTOP');
    await watch(whole + 2 * turn);
    process.kill(served.server.pid, 'SIGCONT');
    ended.abort();
    await writing;
    await served.clients.ask('reach', { total: written.events, withinMs: 120_000 });
    const { events } = await served.clients.ask<{ events: number }>('count');
    const section = `retention, ring of ${ring} s`;
    return [
      { section, what: `size at most in the first turn (${Math.round(turn)} s)`, value: first, unit: 'MiB' },
      { section, what: 'size at most later, beside the long transactions', value: largest, unit: 'MiB' },
      {
        section,
        what: `size after ${Math.round(whole)} s ÷ first turn's`,
        value: last / first,
        unit: '',
        limit: { atMost: 1.1 },
      },
      {
        section,
        what: `writers that waited ${PATIENCE} for a lock`,
        value: written.waited,
        unit: '',
        limit: { atMost: 0 },
      },
      {
        section,
        what: `of ${written.events} events, emptied unread or sent twice`,
        value: Math.abs(written.events - events),
        unit: '',
        limit: { atMost: 0 },
      },
    ];
  } finally {
    ended.abort();
    await watcher.end();
    await served.close();
    await withSession(url, (session) => session.query(`select relay.set_retention('24 hours')`));
  }
}
