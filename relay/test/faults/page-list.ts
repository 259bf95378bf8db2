// The list of a page and its position, as an API hands them out.
import { setTimeout as sleep } from 'node:timers/promises';
import { type EventKey, eventKey } from './ledger.ts';
import { useSession } from './session.ts';

export async function loadList(
  databaseUrl: string,
  account: string,
): Promise<{ position: string; known: Set<EventKey> }> {
  for (;;) {
    try {
      return await useSession(databaseUrl, async (client) => {
        await client.query('begin isolation level repeatable read');
        const position = await client.query<{ position: string }>('select relay.position() as position');
        const list = await client.query<{ row: number; stamp: number }>(
          'select row, stamp::int from shop.journal where account = $1',
          [account],
        );
        await client.query('commit');
        const known = new Set(list.rows.map(({ row, stamp }) => eventKey(row, stamp)));
        return { position: position.rows[0]!.position, known };
      });
    } catch {
      // The database is down; a browser's reload would show an error, and the user tries again.
      await sleep(200);
    }
  }
}
