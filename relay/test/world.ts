// What the tests of the main road share: a database with the relay's schema, a relay on a free port, stock clients
// that write down what they hear. Everything made here is taken apart by the function that made it, or by close().
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import pg from 'pg';
import { packageRoot } from '../config.ts';

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

const SERVER = process.env.TEST_DATABASE_URL ?? 'postgres://dev:dev@127.0.0.1:5432/postgres';

/** A new database with the relay's schema. */
export async function freshDatabase(): Promise<Database> {
  const name = `recado_${process.pid}_${Math.random().toString(36).slice(2, 8)}`;
  const admin = new pg.Client({ connectionString: SERVER });
  await admin.connect();
  await admin.query(`create database ${name}`);
  const url = new URL(SERVER);
  url.pathname = `/${name}`;
  const database = openDatabase(url.href);
  await installRelay(database);
  return {
    ...database,
    async close() {
      await database.close();
      await admin.query(`drop database ${name} with (force)`);
      await admin.end();
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

/** The relay's migration and its SQL. */
export async function installRelay(database: Database): Promise<void> {
  const migration = await readFile(join(packageRoot, 'migrations/001_relay.sql'), 'utf8');
  await database.query(migration.slice(0, migration.indexOf('-- Down Migration')));
  const folder = join(packageRoot, 'sql/relay');
  for (const file of (await readdir(folder)).sort()) {
    await database.query(await readFile(join(folder, file), 'utf8'));
  }
}
