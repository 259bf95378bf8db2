// Limits how many edges read the database at a time, however many fall back to it at once.
import { setTimeout as sleep } from 'node:timers/promises';
import type { Session } from '../outbox/events.ts';

/** What the cores of a small database can serve beside its own work. */
const READERS = 3;
/** How long an edge waits for its turn, which delays its clients. After that it reads without one. */
const WAIT_MS = 500;
const ASK_EVERY_MS = 30;

/** Runs `work` while fewer than READERS other edges do. A session that breaks gives its turn back. */
export async function fewAtATime<T>(session: Session, work: () => Promise<T>): Promise<T> {
  const turn = await takeTurn(session);
  try {
    return await work();
  } finally {
    if (turn !== null) await session.query('select pg_advisory_unlock($1, $2)', [KEY, turn]);
  }
}

/** The first key of the advisory locks. The second key is the number of the turn. */
const KEY = 0x5ecad0;

async function takeTurn(session: Session): Promise<number | null> {
  for (const deadline = Date.now() + WAIT_MS; Date.now() < deadline; ) {
    const { rows } = await session.query<{ turn: number }>({
      name: 'recado_turn',
      text: 'select turn from generate_series(1, $2::int) as turn where pg_try_advisory_lock($1::int, turn) limit 1',
      values: [KEY, READERS],
    });
    if (rows[0]) return rows[0].turn;
    await sleep(ASK_EVERY_MS * (0.5 + Math.random()));
  }
  return null;
}
