// The Postgres of a run: a real one, that can be crashed and comes back on the same port with the same data.
import { join } from 'node:path';
import pg from 'pg';
import { type EmbeddedPostgres, startEmbedded } from '../../db/embedded.ts';
import { migrate } from '../../db/migrate.ts';
import { createLog } from '../../log.ts';

/** `max_prepared_transactions`: some writers commit in two phases. A failed lock wait ends soon, so that writers go on. */
const SETTINGS = { max_connections: '120', max_prepared_transactions: '20', shared_buffers: '64MB' };

export class Server {
  readonly port: number;
  readonly url: string;
  readonly #dataDir: string;
  #postgres: EmbeddedPostgres;
  #turn: Promise<void> = Promise.resolve();

  private constructor(dataDir: string, postgres: EmbeddedPostgres) {
    this.#dataDir = dataDir;
    this.#postgres = postgres;
    this.port = postgres.port;
    this.url = postgres.url;
  }

  static async start(folder: string): Promise<Server> {
    const dataDir = join(folder, 'postgres');
    return new Server(dataDir, await startEmbedded({ dataDir, settings: SETTINGS }));
  }

  /** The address that leads through a link. */
  urlThrough(port: number): string {
    const url = new URL(this.url);
    url.port = String(port);
    return url.href;
  }

  /** Stops as a power cut would, and starts again. One crash after the other. */
  async crash(downMs: number): Promise<void> {
    const before = this.#turn;
    const crash = async () => {
      await before;
      await this.#postgres.stop('immediate');
      await new Promise((resolve) => setTimeout(resolve, downMs));
      this.#postgres = await startEmbedded({ dataDir: this.#dataDir, port: this.port, settings: SETTINGS });
      if (this.#postgres.port !== this.port) {
        throw new Error(`Another program took port ${this.port} while Postgres was down; run again.`);
      }
    };
    this.#turn = crash();
    await this.#turn;
  }

  /** One statement on a connection of its own. */
  async query<Row extends pg.QueryResultRow>(text: string, values: unknown[] = []): Promise<Row[]> {
    return this.use(async (client) => (await client.query<Row>(text, values)).rows);
  }

  async use<T>(work: (client: pg.Client) => Promise<T>): Promise<T> {
    const client = new pg.Client({ connectionString: this.url });
    client.on('error', () => undefined);
    try {
      await client.connect();
      return await work(client);
    } finally {
      await client.end().catch(() => undefined);
    }
  }

  async stop(): Promise<void> {
    await this.#turn.catch(() => undefined);
    await this.#postgres.stop('immediate');
  }
}

/** The relay's schema, the tables the writers write to, and the contract of both. */
export async function prepareDatabase(server: Server): Promise<void> {
  await migrate({ databaseUrl: server.url, log: createLog('silent', false) });
  await server.use(async (session) => {
    await session.query(TABLES);
    for (const [table, perAccount, above] of [
      ['items', ITEMS_PER_ACCOUNT, 0],
      ['stock', STOCK_PER_ACCOUNT, FIRST_STOCK],
    ] as const) {
      await session.query(
        `insert into shop.${table} (id, account)
         select $3::int + (a.number - 1) * $2::int + i, a.account
           from unnest($1::text[]) with ordinality as a(account, number), generate_series(1, $2::int) as i`,
        [ACCOUNTS, perAccount, above],
      );
    }
    await session.query(CONTRACT);
  });
}

export const ACCOUNTS = ['1', '2', '3', '4', 'clínica', 'a-b-c', '10', '007'];
export const ITEMS_PER_ACCOUNT = 60;
export const STOCK_PER_ACCOUNT = 400;
/** Ids of the two tables, and those of notes, do not overlap, so that a row is named by its id alone. */
export const FIRST_STOCK = 100_000;
/** Rows that exist for a moment: the id of each is used once. */
export const FIRST_NOTE = 1_000_000;

// `version` counts the committed changes of a row. `stamp` is the number of the statement that wrote it: none is used
// twice, also not after a rollback or a crash, so (row, stamp) names an event, committed or not.
const TABLES = `
  create schema shop;
  create table shop.items (id int primary key, account text not null, version bigint not null default 0,
                           stamp bigint not null default 0, filler text not null default '');
  create table shop.stock (id int primary key, account text not null, version bigint not null default 0,
                           stamp bigint not null default 0);
  create table shop.notes (id int primary key, account text not null, version bigint not null default 0,
                           stamp bigint not null default 0);
  create index on shop.items (account);
  create index on shop.stock (account)`;

const PAYLOAD = "jsonb_build_object('row', new.id, 'version', new.version, 'stamp', new.stamp)";

// One event per row, one INSERT per statement, one deferred to the commit, one without a table.
const CONTRACT = `
  select relay.publish(event => 'items.changed', on_table => 'shop.items', operation => 'UPDATE',
    condition => 'old.version is distinct from new.version', account => 'new.account',
    payload => $$${PAYLOAD} || jsonb_build_object('filler', new.filler, 'size', length(new.filler))$$);
  select relay.publish(event => 'stock.changed', on_table => 'shop.stock', operation => 'UPDATE', level => 'statement',
    condition => 'old.version is distinct from new.version', account => 'new.account', payload => $$${PAYLOAD}$$);
  select relay.publish(event => 'notes.created', on_table => 'shop.notes', operation => 'INSERT', at => 'commit',
    account => 'new.account', payload => $$${PAYLOAD}$$);
  select relay.publish(event => 'app.said');
  select relay.publish(event => 'app.finished')`;
