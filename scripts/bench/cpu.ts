// CPU time of processes on this machine, as Linux counts it.
import { readdir, readFile } from 'node:fs/promises';
import { setTimeout as delay } from 'node:timers/promises';
import type pg from 'pg';
import { withSession } from './cluster.ts';

const LOOK_EVERY_MS = 200;

/** Nanoseconds, of all its threads; 0: there is no such process. */
export async function cpuOf(pid: number): Promise<number> {
  const threads = await readdir(`/proc/${pid}/task`).catch(() => []);
  const texts = await Promise.all(
    threads.map((thread) => readFile(`/proc/${pid}/task/${thread}/schedstat`, 'utf8').catch(() => '0')),
  );
  return texts.reduce((sum, text) => sum + Number(text.split(' ')[0]), 0);
}

/** Of the relay's sessions of this database. */
export async function cpuOfSessions(session: pg.Client): Promise<Map<number, number>> {
  const { rows } = await session.query<{ pid: number }>(
    `select pid from pg_stat_activity
      where datname = current_database() and application_name like 'recado %'`,
  );
  const used = await Promise.all(rows.map(async ({ pid }) => [pid, await cpuOf(pid)] as const));
  return new Map(used);
}

export interface Used {
  /** By the relay's sessions of the database, also by those that came and went. */
  readonly database: number;
  /** By each of the processes, in their order. */
  readonly processes: readonly number[];
}

/** What is used in so many seconds, as a percentage of one core. */
export async function measureCpu(
  databaseUrl: string,
  pids: readonly number[],
  seconds: number,
): Promise<Used> {
  return withSession(databaseUrl, async (session) => {
    const first = await cpuOfSessions(session);
    const before = await Promise.all(pids.map(cpuOf));
    const began = performance.now();
    const last = new Map(first);
    while (performance.now() - began < seconds * 1_000) {
      await delay(LOOK_EVERY_MS);
      for (const [pid, used] of await cpuOfSessions(session)) last.set(pid, used);
    }
    const after = await Promise.all(pids.map(cpuOf));
    const nanoseconds = (performance.now() - began) * 1e6;
    let database = 0;
    for (const [pid, used] of last) database += used - (first.get(pid) ?? 0);
    return {
      database: (database / nanoseconds) * 100,
      processes: after.map((used, n) => ((used - before[n]!) / nanoseconds) * 100),
    };
  });
}
