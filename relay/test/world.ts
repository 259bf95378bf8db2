// What the tests of the main road share: a database with the relay's schema, a relay on a free port, stock clients
// that write down what they hear. Everything made here is taken apart by the function that made it, or by close().
import pg from 'pg';
import { createDatabase } from './postgres.ts';

/** Resolves when the condition holds. Asked again and again, so it may look at anything. */
export async function until<T>(
  what: string,
  condition: () => T | Promise<T>,
  withinMs = 15_000,
): Promise<NonNullable<T>> {
  const deadline = Date.now() + withinMs;
  for (;;) {
    const value = await condition();
    if (value) return value;
    if (Date.now() > deadline) throw new Error(`Waited ${withinMs} ms in vain: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

export interface Database {
  readonly url: string;
  /** One statement, on a connection of a small pool. */
  query<Row extends pg.QueryResultRow = Record<string, unknown>>(
    text: string,
    values?: unknown[],
  ): Promise<Row[]>;
  /** A connection of its own, closed with the database. */
  connect(): Promise<pg.Client>;
  close(): Promise<void>;
}

/** A new database with the relay's schema, empty. Its close() fails when somebody is still connected. */
export async function freshDatabase(): Promise<Database> {
  const { url, close } = await createDatabase();
  const database = openDatabase(url);
  return {
    ...database,
    async close() {
      await database.close();
      await close();
    },
  };
}

export function openDatabase(url: string): Database {
  const pool = new pg.Pool({ connectionString: url, max: 4 });
  pool.on('error', () => undefined);
  const clients: pg.Client[] = [];
  return {
    url,
    query: async (text, values) => (await pool.query(text, values)).rows as never,
    async connect() {
      const client = new pg.Client({ connectionString: url });
      client.on('error', () => undefined);
      await client.connect();
      clients.push(client);
      return client;
    },
    async close() {
      await Promise.all(clients.map((client) => client.end().catch(() => undefined)));
      await pool.end();
    },
  };
}
