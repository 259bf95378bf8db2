// Empties old slots of relay.events: every node asks from time to time, and the database decides.
import type pg from 'pg';
import { errorText } from '../errors.ts';
import type { Log } from '../log.ts';
import type { Metrics } from '../metrics.ts';
import { snapshotText } from '../outbox/position.ts';
import type { Feed } from './feed.ts';

export interface RetentionOptions {
  pool: pg.Pool;
  feed: Feed;
  log: Log;
  metrics: Metrics;
}

/** Writers use a slot for a sixth of the retention. In that time, a node looks this many times. */
const LOOKS_PER_SLOT = 10;
const MOST_OFTEN_MS = 1_000;
const LEAST_OFTEN_MS = 5 * 60_000;

/** @returns how to stop it */
export function startRetention(options: RetentionOptions): { close(): Promise<void> } {
  const { pool, feed, log, metrics } = options;
  let timer: NodeJS.Timeout | undefined;
  let closed = false;
  let busyPause = MOST_OFTEN_MS;
  let looking: Promise<void> = Promise.resolve();

  async function look(): Promise<void> {
    let pause = LEAST_OFTEN_MS;
    try {
      // A node that is not ready has not asked: it tries again soon.
      pause = feed.ready ? await readPause(pool) : MOST_OFTEN_MS;
      let outcomes: readonly string[] = [];
      while (!closed && feed.ready) {
        outcomes = await rotate(pool, feed);
        if (!outcomes.includes('emptied')) break;
        metrics.slotsEmptied.inc();
      }
      // Most readers hold an old slot for a moment, but a dump reads for hours, and each look reads the whole slot.
      const busy = outcomes.includes('busy');
      if (busy) pause = Math.min(pause, busyPause);
      busyPause = busy ? pause * 2 : MOST_OFTEN_MS;
    } catch (error) {
      if (!closed) {
        metrics.retentionFailures.inc();
        log.say('retention_failed', { error: errorText(error) });
      }
    }
    if (!closed) timer = setTimeout(begin, pause);
  }
  function begin(): void {
    looking = look();
  }
  timer = setTimeout(begin, MOST_OFTEN_MS);

  return {
    async close() {
      closed = true;
      clearTimeout(timer);
      await looking;
    },
  };
}

async function readPause(pool: pg.Pool): Promise<number> {
  const { rows } = await pool.query<{ ms: number }>(
    `select date_part('epoch', retention) * 1000 as ms from relay.installation`,
  );
  const slot = rows[0]!.ms / 6;
  return Math.min(LEAST_OFTEN_MS, Math.max(MOST_OFTEN_MS, slot / LOOKS_PER_SLOT));
}

/** @returns what became of the slots that were looked at; one that was emptied is the last */
async function rotate(pool: pg.Pool, feed: Feed): Promise<string[]> {
  const { rows } = await pool.query<{ outcome: string }>(
    'select outcome from relay.rotate($1::pg_snapshot)',
    [snapshotText(feed.seen)],
  );
  return rows.map(({ outcome }) => outcome);
}
