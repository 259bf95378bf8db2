// The last event of each account: who has heard it has heard everything.
import { type EventKey, eventKey } from './ledger.ts';
import type { Server } from './server.ts';

/** Rows of marks; no writer uses them. */
let row = 2_000_000;

/** @returns the mark of each account */
export async function markEnd(server: Server, accounts: readonly string[]): Promise<Map<string, EventKey>> {
  const marks = new Map<string, EventKey>();
  for (const account of accounts) {
    row += 1;
    marks.set(account, eventKey(row, 0));
    await server.query(
      `select relay.emit($1, 'app.finished', jsonb_build_object('row', $2::int, 'version', 1, 'stamp', 0))`,
      [account, row],
    );
  }
  return marks;
}
