// An advisory lock for changes of Recado's objects in a database, so that only one process makes them at a time.
import { setTimeout as delay } from 'node:timers/promises';
import type pg from 'pg';
import { openSession } from '../db/connect.ts';
import { lockHolders, MIGRATION_LOCK } from '../db/lock-holders.ts';
import { RecadoError } from '../errors.ts';
import type { Log } from '../log.ts';
import { watchBlockers } from './blockers.ts';

/** A migration that retries for its busy tables holds it as long. */
const PATIENCE_MS = 600_000;

export interface LockOptions {
  databaseUrl: string;
  /** What the session does, as pg_stat_activity.application_name shows it. */
  name: string;
  log: Log;
}

/**
 * Runs `work` on a connection of its own, while no other process holds the lock.
 * @throws RecadoError `migrate_locked`: another one did not end in ten minutes
 */
export async function withLock<T>(
  { databaseUrl, name, log }: LockOptions,
  work: (session: pg.Client) => Promise<T>,
): Promise<T> {
  const session = await openSession({ url: databaseUrl, name });
  // relay.secure() runs more than once.
  const said = new Set<string>();
  session.on('notice', ({ message = '' }) => {
    if (said.has(message)) return;
    said.add(message);
    log.say('migrate_said', { message });
  });
  try {
    // With this search_path an unqualified name in our files fails. Waits for locks are short, since writers queue
    // behind a session that waits; then the work is retried.
    await session.query(`
      set search_path = pg_catalog; set timezone = 'UTC'; set client_min_messages = warning;
      set lock_timeout = '1s'; set statement_timeout = 0; set idle_in_transaction_session_timeout = 0`);
    // Trying in a loop, not waiting in pg_advisory_lock(): that would hold a snapshot, for which CREATE INDEX
    // CONCURRENTLY of the first runner would wait for ever.
    for (let attempt = 1; !(await tryLock(session)); attempt += 1) {
      if (attempt === 1) log.say('migrate_waiting', { holder: await holderOf(session) });
      if (attempt > PATIENCE_MS / 100) {
        throw new RecadoError(
          'migrate_locked',
          `Another "recado migrate" or "recado uninstall", or somebody who took its lock, has held this database for ${PATIENCE_MS / 60_000} minutes (${await holderOf(session)}): end that session if it hangs. Nothing was changed.`,
        );
      }
      await delay(100);
    }
    const { rows } = await session.query<{ pid: number }>('select pg_backend_pid() as pid');
    const watch = await watchBlockers(rows[0]!.pid, { databaseUrl, name: `watching ${name}`, log });
    try {
      return await work(session);
    } finally {
      await watch.close();
    }
  } finally {
    await session.end();
  }
}

async function holderOf(session: pg.Client): Promise<string> {
  return (await lockHolders(session, MIGRATION_LOCK)).join('; ') || 'its session has just ended';
}

async function tryLock(session: pg.Client): Promise<boolean> {
  const { rows } = await session.query<{ locked: boolean }>(
    `select pg_try_advisory_lock(${MIGRATION_LOCK}) as locked`,
  );
  return rows[0]!.locked;
}
