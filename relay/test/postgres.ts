// Databases for tests. Each worker of jest has a server (postgres-server.js): one of those in TEST_DATABASE_URL (of
// superusers), or an embedded one. A test's database is a copy of a migrated template.
import { createConnection } from 'node:net';
import { text } from 'node:stream/consumers';
import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import { createPool } from '../db/connect.ts';
import { createLog } from '../log.ts';

export interface TestDatabase {
  readonly url: string;
  readonly pool: pg.Pool;
  /** Drops the database. @throws Error when somebody was still connected to it */
  close(): Promise<void>;
}

export interface TestServer {
  /** Of a superuser, to a database that is nobody's. */
  readonly url: string;
  readonly template: string;
}

let count = 0;
let server: Promise<TestServer> | undefined;

/**
 * @param options.empty without anything of ours in it
 * @param options.encoding of an empty one, where it is not the server's
 */
export async function createDatabase({
  empty = false,
  encoding,
}: {
  empty?: boolean;
  encoding?: 'LATIN1' | 'SQL_ASCII';
} = {}): Promise<TestDatabase> {
  const { url: serverUrl, template } = await testServer();
  count += 1;
  // The template's name begins like those of all databases of this run, so that the teardown finds them.
  const name = template.replace(/template$/, `${process.pid}_${count}`);
  const encoded = encoding ? `encoding '${encoding}' locale 'C'` : '';
  await onServer(serverUrl, (admin) =>
    admin.query(`create database ${name} template ${empty ? 'template0' : template} ${encoded}`),
  );
  const url = withDatabase(serverUrl, name);
  const pool = createPool({ url, name: 'test', log: createLog('silent', false) });
  // A copy of the template is another database.
  if (!empty) await pool.query('select relay.settle_epoch()');
  return {
    url,
    pool,
    async close() {
      await pool.end();
      await onServer(serverUrl, async (admin) => {
        const left = await stillConnected(admin, name);
        await admin.query(`drop database ${name} with (force)`);
        if (left.length > 0) throw new Error(`Still connected to the test's database: ${left.join(', ')}`);
      });
    },
  };
}

/** The server of this worker. */
export function testServer(): Promise<TestServer> {
  server ??= askForServer();
  return server;
}

async function askForServer(): Promise<TestServer> {
  const socket = createConnection(Number(process.env.RECADO_TEST_SERVER), '127.0.0.1');
  socket.write(String(process.env.JEST_WORKER_ID));
  const answer = JSON.parse(await text(socket)) as TestServer | { error: string };
  if ('error' in answer) throw new Error(`The tests have no Postgres: ${answer.error}`);
  return answer;
}

export function withDatabase(
  url: string,
  database: string,
  user?: { name: string; password: string },
): string {
  const changed = new URL(url);
  changed.pathname = `/${database}`;
  if (user) Object.assign(changed, { username: user.name, password: user.password });
  return changed.href;
}

async function onServer<T>(url: string, work: (admin: pg.Client) => Promise<T>): Promise<T> {
  const admin = new pg.Client({ connectionString: url });
  await admin.connect();
  try {
    return await work(admin);
  } finally {
    await admin.end();
  }
}

/** Names of the sessions that remain; those just closed are given some time, since a backend ends after its client. */
async function stillConnected(admin: pg.Client, database: string): Promise<string[]> {
  for (const deadline = Date.now() + 20_000; ; await sleep(10)) {
    const { rows } = await admin.query<{ name: string }>(
      // Not autovacuum, which comes to a table that grew.
      `select application_name as name from pg_stat_activity where datname = $1 and backend_type = 'client backend'`,
      [database],
    );
    if (rows.length === 0 || Date.now() > deadline) return rows.map(({ name }) => name);
  }
}
