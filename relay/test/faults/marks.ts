// The last event of each account: who has heard it has heard everything.

import { FIRST_MARK } from './database.ts';
import { type EventKey, eventKey } from './ledger.ts';
import type { Server } from './server.ts';

/** Rows of marks; no writer uses them. */
let row = FIRST_MARK;

/** @returns the mark of each account */
export async function markEnd(server: Server, accounts: readonly string[]): Promise<Map<string, EventKey>> {
  const marks = new Map<string, EventKey>();
  for (const account of accounts) {
    row += 1;
    marks.set(account, eventKey(row, 0));
    await server.query(
      `with mark as (insert into shop.journal (row, stamp, account, version) values ($2::int, 0, $1, 1) returning row)
       select relay.emit($1, 'app.finished', jsonb_build_object('row', row, 'version', 1, 'stamp', 0)) from mark`,
      [account, row],
    );
  }
  return marks;
}
