// A transaction pooler may run each transaction in another session: no notification arrives, a SET stays behind for the
// application's next query, and an advisory lock is never released. So it is recognised before Recado does any of that.
import { randomBytes } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import type pg from 'pg';
import { errorText, RecadoError } from '../errors.ts';
import { type ConnectOptions, openSession } from './connect.ts';

const HEARD_WITHIN_MS = 3_000;
/** A pooler may have several idle sessions and give out any of them. */
const ROUNDS = 8;

const REMEDY =
  'Set DATABASE_URL to the direct address of Postgres (its own port, often 5432), or to a pool in session mode.';

/**
 * Checks two things. First, which session runs a statement: this changes no state, and finds all known poolers. Then,
 * whether a NOTIFY arrives, on a session that the first check found to be ours alone.
 *
 * @throws RecadoError `transaction_pooler`
 */
export async function refusePooler(options: ConnectOptions): Promise<void> {
  const first = await openSession({ ...options, queryTimeoutMs: HEARD_WITHIN_MS });
  try {
    // A pooler invents the process id that it gives a client. If it is the backend's own, there is no pooler.
    const { pid, standby } = await whoRuns(first);
    // A standby refuses LISTEN, and the feed waits until it is promoted.
    if (standby) return;
    const direct = pid === processOf(first);
    const second = await openSession({ ...options, queryTimeoutMs: HEARD_WITHIN_MS });
    try {
      if (!direct && (await areShared(first, second)))
        throw refusal('gives each transaction another session');
      if (!(await isHeard(first, second))) throw refusal('does not deliver a NOTIFY');
    } catch (error) {
      if (direct || errorText(error) !== 'Query read timeout') throw error;
      throw refusal('had no second session to spare');
    } finally {
      await second.end().catch(() => undefined);
    }
  } finally {
    await first.end().catch(() => undefined);
  }
}

function refusal(what: string): RecadoError {
  return new RecadoError(
    'transaction_pooler',
    `DATABASE_URL leads through a pooler that ${what}, so what Recado sets or locks would stay behind in the application's connections, and no notification would reach it. ${REMEDY} Nothing was changed.`,
  );
}

/** Whether a transaction of the second session gets the first one's backend, or makes the first one get another. */
async function areShared(first: pg.Client, second: pg.Client): Promise<boolean> {
  for (let round = 0; round < ROUNDS; round += 1) {
    const before = await backendOf(first);
    // Refused in statement mode.
    const began = await second.query('begin').then(
      () => true,
      () => false,
    );
    if (!began) return true;
    try {
      if ((await backendOf(second)) === before || (await backendOf(first)) !== before) return true;
    } finally {
      await second.query('rollback');
    }
  }
  return false;
}

async function isHeard(listener: pg.Client, other: pg.Client): Promise<boolean> {
  const channel = `recado_${randomBytes(8).toString('hex')}`;
  const stop = new AbortController();
  const heard = new Promise<true>((resolve) => listener.once('notification', () => resolve(true)));
  try {
    await listener.query(`listen ${channel}`);
    await other.query(`notify ${channel}`);
    const tooLate = delay(HEARD_WITHIN_MS, false as const, { signal: stop.signal }).catch(
      () => false as const,
    );
    return await Promise.race([heard, tooLate]);
  } finally {
    stop.abort();
    await listener.query(`unlisten ${channel}`);
  }
}

async function whoRuns(session: pg.Client): Promise<{ pid: number; standby: boolean }> {
  const { rows } = await session.query<{ pid: number; standby: boolean }>(
    'select pg_backend_pid() as pid, pg_is_in_recovery() as standby',
  );
  return rows[0]!;
}

const backendOf = async (session: pg.Client) => (await whoRuns(session)).pid;

function processOf(session: pg.Client): number | null {
  return 'processID' in session && typeof session.processID === 'number' ? session.processID : null;
}
