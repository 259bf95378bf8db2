// A database for each test, and a session that locks a slot of relay.events there.
import type pg from 'pg';
import { ends } from '../ends.ts';
import { type Database, freshDatabase } from '../world.ts';

export let database: Database;
export let locker: pg.Client;

beforeEach(async () => {
  database = await freshDatabase();
  ends.push(() => database.close());
  await database.query(`select relay.publish('note')`);
  // A slot then lasts two months: none begins during a test.
  await database.query(`select relay.set_retention('1 year')`);
  locker = await database.connect();
});

export const emit = (n: number) => database.query(`select relay.emit('acc', 'note', $1)`, [n]);
