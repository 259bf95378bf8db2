// A relay with clients and nothing to do: its CPU, and what it makes Postgres write.
import { setTimeout as delay } from 'node:timers/promises';
import type { Usage } from './child.ts';
import { tidy, withSession } from './cluster.ts';
import type { Figure } from './figures.ts';
import { peers } from './peers.ts';
import { type Bench, openForEveryAccount, serve } from './run.ts';

async function walWithin(url: string, seconds: number): Promise<number> {
  return withSession(url, async (session) => {
    const read = async () =>
      (await session.query<{ at: string }>('select pg_current_wal_insert_lsn() as at')).rows[0]!.at;
    const from = await read();
    await delay(seconds * 1_000);
    const { rows } = await session.query<{ bytes: number }>(
      'select pg_wal_lsn_diff($1, $2)::float8 as bytes',
      [await read(), from],
    );
    return rows[0]!.bytes;
  });
}

export async function idle(bench: Bench): Promise<Figure[]> {
  const section = 'idle, 100 clients';
  const seconds = bench.seconds(20);
  const databaseUrl = await bench.cluster.database(peers.recado);
  await tidy(databaseUrl, peers.recado);
  const served = await serve(bench, 'recado');
  try {
    await openForEveryAccount(served, 'recado');
    // Behind it: the first look of retention, the last checkpoint's record; and, collected, the garbage of the start.
    await delay(3_000);
    const before = await served.server.ask<Usage>('usageAfterCollection');
    const wal = await walWithin(databaseUrl, seconds);
    const after = await served.server.ask<Usage>('usage');
    await served.close();
    const walWithout = await walWithin(databaseUrl, seconds);
    return [
      {
        section,
        what: 'CPU of the relay',
        value: ((after.cpu - before.cpu) / 1e6 / seconds) * 100,
        unit: '% of a core',
        limit: { atMost: 1 },
      },
      {
        section,
        what: `WAL in ${seconds} s beyond that without a relay`,
        value: Math.max(0, wal - walWithout),
        unit: 'bytes',
        // Postgres's own record of running transactions is 56.
        limit: { atMost: 112 },
      },
    ];
  } finally {
    await served.close();
  }
}
