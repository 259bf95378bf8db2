// What the tests of the main road share: a database with the relay's schema, a relay on a free port, stock clients
// that write down what they hear. Everything made here is taken apart by the function that made it, or by close().
import type { Socket as NetworkSocket } from 'node:net';
import pg from 'pg';
import { io, type ManagerOptions, type Socket, type SocketOptions } from 'socket.io-client';
import { type SignOptions, signToken } from '../auth/sign.ts';
import { readSettings } from '../config/settings.ts';
import { createLog } from '../log.ts';
import { type Relay, startRelay } from '../server/relay.ts';
import type { Link } from './faults/links.ts';
import { createDatabase } from './postgres.ts';

/** Resolves when the condition holds. Asked again and again, so it may look at anything. */
export async function until<T>(
  what: string,
  condition: () => T | Promise<T>,
  withinMs = 30_000,
): Promise<NonNullable<T>> {
  // Some tests set Date.now().
  const deadline = performance.now() + withinMs;
  for (;;) {
    const value = await condition();
    if (value) return value;
    if (performance.now() > deadline) throw new Error(`Waited ${withinMs} ms in vain: ${what}`);
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
  /** Ends the sessions of that name. Another test may have a database on the same server, and sessions of the same name. */
  endSessions(name: string): Promise<void>;
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
    async endSessions(name) {
      await pool.query(
        `select pg_terminate_backend(pid) from pg_stat_activity
          where datname = current_database() and application_name = $1`,
        [name],
      );
    },
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

// ---------------------------------------------------------------------------------------------------------
// Relays and clients

/** Of the operator endpoints. */
export const OPERATOR_TOKEN = 'a token for operators of tests';
export const OPERATOR = { authorization: `Bearer ${OPERATOR_TOKEN}` };

export const SECRET = 'a secret for tests that has more than thirty-two bytes';

const silent = createLog(process.env.TEST_LOG ? 'debug' : 'silent', false);

/** A relay in this process, on a free port unless PORT says otherwise. */
export async function startNode(databaseUrl: string, env: Record<string, string> = {}): Promise<Relay> {
  const keyed = env.JWT_JWKS_URL === undefined ? { JWT_SECRET: SECRET } : {};
  const defaults = {
    OPERATOR_TOKEN,
    DATABASE_URL: databaseUrl,
    HOST: '127.0.0.1',
    PORT: '0',
    SAFETY_READ_MS: '200',
  };
  const settings = readSettings({ ...defaults, ...keyed, ...env });
  return startRelay({ databaseUrl, jwt: settings.jwt, settings, log: silent });
}

/** Resolves when commits wake it. It is ready without that, and a scrape would use up its look at the contract. */
export async function listens({ port }: Pick<Relay, 'port'>): Promise<void> {
  await until('it listens', async () => {
    const answer = await fetch(`http://127.0.0.1:${port}/readyz`);
    const { checks } = (await answer.json()) as { checks: { listen: string } };
    return checks.listen === 'ok';
  });
}

/** One of the relay's counters, summed over its labels or of one. */
export async function metric(
  relay: Relay,
  name:
    | 'replayQueries'
    | 'replays'
    | 'resyncs'
    | 'slowConsumers'
    | 'feedFailures'
    | 'backlogs'
    | 'refused'
    | 'unknownEvents',
  labels: Record<string, string> = {},
): Promise<number> {
  const { values } = await relay.metrics[name].get();
  return values
    .filter((value) => Object.entries(labels).every(([key, text]) => (value.labels as never)[key] === text))
    .reduce((sum, { value }) => sum + value, 0);
}

export function token(accountId = 'acc-1', options: Partial<SignOptions> = {}): Promise<string> {
  return signToken({ secret: SECRET, accountId, expiresIn: 3600, claim: 'accountId', ...options });
}

export interface Heard {
  readonly event: string;
  /** Everything but the trailing position. */
  readonly payload: unknown;
  readonly position: unknown;
}

/** A stock client that writes down what it hears. */
export class Client {
  readonly socket: Socket;
  readonly heard: Heard[] = [];
  readonly connects: { recovered: boolean; pid: string }[] = [];
  readonly disconnects: string[] = [];
  readonly refusals: { code: string | undefined; message: string }[] = [];

  /** @param auth as io() takes it: an object, or a function that is asked before each attempt */
  constructor(
    relay: Pick<Relay, 'port'> | number,
    auth: SocketOptions['auth'],
    options: Partial<ManagerOptions & SocketOptions> = {},
  ) {
    const port = typeof relay === 'number' ? relay : relay.port;
    this.socket = io(`http://127.0.0.1:${port}`, {
      transports: ['websocket'],
      forceNew: true,
      reconnectionDelay: 20,
      reconnectionDelayMax: 200,
      ...(auth && { auth }),
      ...options,
    });
    this.socket.onAny((event: string, ...args: unknown[]) => {
      this.heard.push({ event, payload: args[0], position: args.at(-1) });
    });
    this.socket.on('connect', () => {
      const { recovered } = this.socket;
      this.connects.push({ recovered, pid: (this.socket as unknown as { _pid: string })._pid });
    });
    this.socket.on('disconnect', (reason) => this.disconnects.push(reason));
    this.socket.on('connect_error', (error: Error & { data?: { code?: string } }) => {
      this.refusals.push({ code: error.data?.code, message: error.message });
    });
  }

  /** Of events that are not the relay's own. */
  get payloads(): unknown[] {
    return this.heard.filter(({ event }) => !event.startsWith('relay:')).map(({ payload }) => payload);
  }

  /** Payloads of one kind of event. */
  of(event: string): unknown[] {
    return this.heard.filter((heard) => heard.event === event).map(({ payload }) => payload);
  }

  /** What the client would send back as its offset. */
  get offset(): string | undefined {
    return (this.socket as unknown as { _lastOffset?: string })._lastOffset;
  }

  /** Cuts the connection beneath the websocket. The client comes back by itself. */
  cut(): void {
    this.network.destroy();
  }

  get network(): NetworkSocket {
    const { transport } = this.socket.io.engine as unknown as {
      transport: { ws?: { _socket: NetworkSocket } };
    };
    return transport.ws!._socket;
  }

  /** Connected as often as that, and in possession of a position. */
  async live(times = 1): Promise<this> {
    await until(
      `a client is connected for the ${times}th time, got ${this.connects.length}`,
      () => this.connects.length >= times && this.socket.connected && this.offset !== undefined,
    );
    return this;
  }

  async hears(count: number): Promise<unknown[]> {
    await until(`a client hears ${count} events`, () => this.payloads.length >= count).catch((error) => {
      throw new Error(
        `${error.message}; it heard ${this.payloads.length}, the last ones ${JSON.stringify(this.heard.slice(-5))}`,
      );
    });
    return this.payloads;
  }

  close(): void {
    this.socket.disconnect();
  }
}

/** The database's address by way of a link to it. */
export function through(link: Link, url: string): string {
  const changed = new URL(url);
  changed.hostname = '127.0.0.1';
  changed.port = String(link.port);
  return changed.href;
}

export { deadPort } from './port.ts';
