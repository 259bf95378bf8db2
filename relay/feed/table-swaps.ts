// A migration or a restore may put another table in the place of a captured one. The triggers are gone then, and only
// the table's owner can create them again. Until then every account is told to refetch.
import type pg from 'pg';
import { errorText } from '../errors.ts';
import type { Log } from '../log.ts';

const LOOK_EVERY_MS = 1_000;

/** @returns how to stop it */
export function watchTableSwaps({ pool, log }: { pool: pg.Pool; log: Log }): { close(): Promise<void> } {
  let closed = false;
  let looking: Promise<void> = Promise.resolve();
  let failed = false;

  async function look(): Promise<void> {
    try {
      const { rows } = await pool.query<{ table_name: string }>(
        'select table_name from relay.notice_swaps() as table_name',
      );
      for (const { table_name: table } of rows) log.say('table_replaced', { table });
      failed = false;
    } catch (error) {
      // Once while a database is away, not once a second.
      if (!closed && !failed) log.say('table_watch_failed', { error: errorText(error) });
      failed = true;
    }
    if (!closed) timer = setTimeout(begin, LOOK_EVERY_MS);
  }
  function begin(): void {
    looking = look();
  }
  let timer = setTimeout(begin, LOOK_EVERY_MS);

  return {
    async close() {
      closed = true;
      clearTimeout(timer);
      await looking;
    },
  };
}
