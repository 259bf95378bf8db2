// A database for each test.
import { ends } from '../ends.ts';
import { type Database, freshDatabase } from '../world.ts';

export let database: Database;
beforeEach(async () => {
  database = await freshDatabase();
  ends.push(() => database.close());
});
