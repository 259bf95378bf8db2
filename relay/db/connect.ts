// Connections to Postgres: how they are made, how values are parsed, and which failures a retry cures.
import { setTimeout as delay } from 'node:timers/promises';
import pg from 'pg';
import { errorCode, errorField, errorText, RecadoError } from '../errors.ts';
import type { Log } from '../log.ts';
import type { Silence } from './silence.ts';

/** xid8, pg_snapshot and pg_current_xact_id(), on which positions rest, came with 13. */
const OLDEST_POSTGRES = 13;

export interface ConnectOptions {
  url: string;
  /** What the session does, as pg_stat_activity.application_name shows it. */
  name: string;
}

/**
 * What a value of a column becomes.
 *
 * int8, xid8 and numeric stay text, as the driver has it: a number would be rounded, and a bigint cannot be put into
 * JSON. Code that calculates calls BigInt(…) where it reads the row. timestamptz is a Date. `timestamp` and `date` stay text
 * too: the driver would read them in the time zone of this process.
 */
const types: pg.CustomTypesConfig = {
  getTypeParser(oid: number, format?: 'text' | 'binary') {
    const zoneless = oid === pg.types.builtins.DATE || oid === pg.types.builtins.TIMESTAMP;
    return zoneless ? String : pg.types.getTypeParser(oid, format);
  },
};

function clientConfig({ url, name }: ConnectOptions): pg.ClientConfig {
  return {
    connectionString: url,
    application_name: name,
    types,
    keepAlive: true,
    keepAliveInitialDelayMillis: 10_000,
    connectionTimeoutMillis: 10_000,
  };
}

export interface PoolOptions extends ConnectOptions {
  log: Log;
  max?: number;
  /** After which a query is given up, because its connection is half-open. */
  queryTimeoutMs?: number;
  onConnect?: pg.PoolConfig['onConnect'];
}

/** For short queries. An idle connection that breaks is logged, and the pool replaces it. */
export function createPool(options: PoolOptions): pg.Pool {
  const { max = 10, onConnect, queryTimeoutMs } = options;
  const pool = new pg.Pool({
    ...clientConfig(options),
    max,
    ...(onConnect && { onConnect }),
    ...(queryTimeoutMs !== undefined && { query_timeout: queryTimeoutMs }),
  });
  // Without listeners, a connection that breaks would end the process: an idle one emits its error on the pool, one in
  // use on its client. That client's next query fails, so the error is not logged here.
  pool.on('connect', (client) => client.on('error', () => undefined));
  pool.on('error', (error) =>
    options.log.say('database_connection_lost', { name: options.name, error: errorText(error) }),
  );
  return pool;
}

export interface SessionOptions extends ConnectOptions {
  /** After which a query is given up, because its connection is half-open. */
  queryTimeoutMs?: number;
  /** Ends the connection sooner if nothing comes back. Only for a session that queries all the time. */
  silence?: Silence;
}

/** A connection of its own, open. When it breaks, its next query fails. */
export async function openSession(options: SessionOptions): Promise<pg.Client> {
  const { queryTimeoutMs, silence } = options;
  const client = new pg.Client({
    ...clientConfig(options),
    ...(queryTimeoutMs !== undefined && { query_timeout: queryTimeoutMs }),
    ...(silence && { stream: silence.open }),
  });
  client.on('error', () => undefined); // Without a listener a broken connection ends the process.
  try {
    await client.connect();
  } catch (error) {
    await client.end().catch(() => undefined);
    throw error;
  }
  return client;
}

// Generic plans only: Postgres may otherwise plan every read again, which takes longer than the read.
// A database of encoding SQL_ASCII stores any bytes, and refuses to send invalid UTF-8 to a client that reads UTF-8: one
// such row would stop all reading. Sent as bytes they pass, and become U+FFFD here.
/**
 * Whatever the role's or the database's defaults are: under "serializable" the application's transactions would fail
 * because of ours, and read-only sessions cannot settle an epoch.
 */
export const TRANSACTION_SETTINGS =
  "set default_transaction_isolation = 'read committed'; set default_transaction_read_only = off;";

const READER_SETTINGS = `
  ${TRANSACTION_SETTINGS}
  set enable_seqscan = off; set jit = off; set max_parallel_workers_per_gather = 0; set timezone = UTC;
  set plan_cache_mode = force_generic_plan;
  -- Waits for a locked table only briefly: after a client gives up, its query stays in the lock's queue. A locked old
  -- slot delays live events by this much, and silences a hub, so it must be shorter than edges wait for a hub.
  set lock_timeout = '500ms'; set statement_timeout = '14s';
  select set_config('client_encoding', 'SQL_ASCII', false) where current_setting('server_encoding') = 'SQL_ASCII'`;

/**
 * A session for reading relay.events. Its settings come before anything is prepared, since a plan made without them
 * stays: a slot that was empty then would always be read by sequential scans (44 ms at 200,000 rows).
 */
export async function openReader(options: SessionOptions): Promise<pg.Client> {
  const client = await openSession(options);
  try {
    await client.query(READER_SETTINGS);
  } catch (error) {
    await client.end().catch(() => undefined);
    throw error;
  }
  return client;
}

/** A pool of such sessions, for replays and edges. Its size limits how many queries run at a time. */
export function createReaderPool(options: Omit<PoolOptions, 'onConnect'>): pg.Pool {
  return createPool({
    ...options,
    onConnect: async (client) => {
      await client.query(READER_SETTINGS);
    },
  });
}

/** Runs `work` between BEGIN and COMMIT on one connection. What it throws is thrown on, after a ROLLBACK. */
export async function transaction<T>(pool: pg.Pool, work: (client: pg.PoolClient) => Promise<T>): Promise<T> {
  const client = await pool.connect();
  let broken: Error | undefined;
  try {
    await client.query('begin');
    const result = await work(client);
    await client.query('commit');
    return result;
  } catch (error) {
    // A connection on which even ROLLBACK fails must not be reused.
    await client.query('rollback').catch((failure: Error) => {
      broken = failure;
    });
    throw error;
  } finally {
    client.release(broken);
  }
}

/**
 * Resolves when the database answers and is new enough to be used. A database that is down, starting or not yet in
 * the DNS is tried again, and so is one whose connection breaks in `check`.
 *
 * @param check what else is asked before the start
 * @param patienceMs how long to keep trying; absent: without limit, as a service does
 * @throws RecadoError where waiting cannot help: `database_authentication_failed`, `database_access_refused`,
 *   `database_missing`, `database_tls_failed`, `postgres_too_old`; when patience ended: `database_unreachable`; the
 *   signal's reason when aborted
 */
export async function waitForDatabase(
  options: ConnectOptions & {
    log: Log;
    signal?: AbortSignal;
    patienceMs?: number;
    check?: () => Promise<void>;
  },
): Promise<void> {
  const { log, signal, check, patienceMs = Number.POSITIVE_INFINITY } = options;
  const began = Date.now();
  for (let attempt = 1; ; attempt += 1) {
    signal?.throwIfAborted();
    const client = newClient(options);
    client.on('error', () => undefined);
    try {
      await client.connect();
      await refuseOldServer(client);
      // A pooler may have few sessions, and the check wants its own.
      await client.end();
      await check?.();
      if (attempt > 1) log.say('database_reachable', { ...placeOf(client), ms: Date.now() - began });
      return;
    } catch (error) {
      if (error instanceof RecadoError) throw error;
      const final = whyWaitingIsVain(error, placeOf(client));
      if (final) throw final;
      const pause = Math.min(5_000, 125 * 2 ** attempt) * (0.8 + Math.random() * 0.4);
      if (Date.now() + pause > began + patienceMs) {
        const { host, port } = placeOf(client);
        throw new RecadoError(
          'database_unreachable',
          `Postgres on ${host}:${port} did not answer within ${Math.round(patienceMs / 1_000)} seconds (${errorText(error)}): check host and port in DATABASE_URL, the firewall, and that Postgres runs.`,
          { cause: error },
        );
      }
      log.say('database_unreachable', {
        ...placeOf(client),
        error: errorText(error),
        attempt,
        retryInMs: Math.round(pause),
      });
      await delay(pause, undefined, signal && { signal }).catch(() => signal?.throwIfAborted());
    } finally {
      await client.end().catch(() => undefined);
    }
  }
}

/** @throws RecadoError `database_tls_failed`: the driver reads the certificates when it reads the address */
function newClient(options: ConnectOptions): pg.Client {
  try {
    return new pg.Client(clientConfig(options));
  } catch (error) {
    if (errorField(error, 'syscall') === undefined) throw error;
    throw new RecadoError(
      'database_tls_failed',
      `DATABASE_URL names the certificate file ${errorField(error, 'path') ?? ''}, which cannot be read (${errorText(error)}): correct sslrootcert, sslcert or sslkey, or give this process the file.`,
      { cause: error },
    );
  }
}

/** @throws RecadoError `postgres_too_old` */
async function refuseOldServer(client: pg.Client): Promise<void> {
  const { rows } = await client.query<{ number: number; version: string }>(
    "select current_setting('server_version_num')::int as number, current_setting('server_version') as version",
  );
  const { number, version } = rows[0]!;
  if (number < OLDEST_POSTGRES * 10_000) {
    throw new RecadoError(
      'postgres_too_old',
      `The database is Postgres ${version}, but ${OLDEST_POSTGRES} or newer is needed: upgrade it, or set DATABASE_URL to another one.`,
    );
  }
}

interface Place {
  host: string;
  port: number;
  database: string | undefined;
  user: string | undefined;
}

/** Where a client was to connect, without its password. */
function placeOf({ host, port, database, user }: pg.Client): Place {
  return { host, port, database, user };
}

function whyWaitingIsVain(error: unknown, { host, port, database, user }: Place): RecadoError | null {
  const code = errorCode(error);
  const said = errorText(error);
  const refuse = (ours: string, sentence: string) => new RecadoError(ours, sentence, { cause: error });
  if (code === '28P01') {
    return refuse(
      'database_authentication_failed',
      `Postgres on ${host}:${port} refused the password of role "${user}": correct user and password in DATABASE_URL.`,
    );
  }
  if (code === '28000' || code === '42501') {
    return refuse(
      'database_access_refused',
      `Postgres on ${host}:${port} does not let role "${user}" into database "${database}" (${said}): correct DATABASE_URL, or have the role or pg_hba.conf changed.`,
    );
  }
  if (code === '3D000') {
    return refuse(
      'database_missing',
      `There is no database "${database}" on ${host}:${port}: create it with "createdb -h ${host} -p ${port} -U ${user} ${database}", or correct DATABASE_URL.`,
    );
  }
  const tls =
    /^(ERR_TLS|ERR_SSL|CERT_|DEPTH_ZERO|SELF_SIGNED|UNABLE_TO_(GET|VERIFY)|HOSTNAME_MISMATCH)/.test(
      String(code),
    ) || said === 'The server does not support SSL connections';
  if (tls) {
    return refuse(
      'database_tls_failed',
      said === 'The server does not support SSL connections'
        ? `Postgres on ${host}:${port} does not speak TLS: take sslmode out of DATABASE_URL, or switch ssl on in the server.`
        : `The certificate of Postgres on ${host}:${port} was not accepted (${said}). sslmode=require checks it here. Name the authority in DATABASE_URL with sslrootcert=/path/to/ca.crt; or add uselibpqcompat=true, with which sslmode=require encrypts and checks nothing, as in psql; or say sslmode=no-verify, which does the same.`,
    );
  }
  return null;
}
