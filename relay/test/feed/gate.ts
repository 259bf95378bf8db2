// The gate as its database sees it: what writers notify, and who holds the lock.
import type pg from 'pg';
import { ends } from '../ends.ts';
import { type Database, freshDatabase, until } from '../world.ts';

const EVENT = 'gate.test';
export const INSERT = `insert into relay.events (account_id, event, payload) values ('acc-1', '${EVENT}', 'null')`;

export let database: Database;

beforeEach(async () => {
  database = await freshDatabase();
  ends.push(() => database.close());
  await database.query('select relay.publish(event => $1)', [EVENT]);
});

/** Counts notifications. A marker after them shows that none is still on its way. */
export class NotificationCounter {
  readonly #session: pg.Client;
  readonly #heard: string[] = [];
  #markers = 0;

  private constructor(session: pg.Client) {
    this.#session = session;
    session.on('notification', ({ payload }) => this.#heard.push(payload ?? ''));
  }

  static async listen(): Promise<NotificationCounter> {
    const session = await database.connect();
    await session.query('listen relay');
    return new NotificationCounter(session);
  }

  /** Notifications since the last call, of everything that committed before this one. */
  async next(counted = ''): Promise<number> {
    this.#markers += 1;
    const marker = `marker ${this.#markers}`;
    await this.#session.query("select pg_notify('relay', $1)", [marker]);
    await until('the marker is heard', () => this.#heard.includes(marker));
    return this.#heard.splice(0).filter((payload) => payload === counted).length;
  }
}

interface Holding {
  mode: string;
  granted: boolean;
  name: string;
}

/** Who has, or waits for, the gate's lock (0) or that of its holder (1). */
export async function holdings(which: 0 | 1): Promise<Holding[]> {
  return database.query<Record<string, unknown> & Holding>(
    `select l.mode, l.granted, a.application_name as name
       from pg_locks as l join pg_stat_activity as a using (pid)
      where l.locktype = 'advisory' and l.database = (select oid from pg_database where datname = current_database())
        and (l.classid::bigint << 32) + l.objid::bigint = relay.gate_key() + $1::int`,
    [which],
  );
}
