// The Postgres of a run: a real one, that can be crashed and comes back on the same port with the same data.
import { join } from 'node:path';
import pg from 'pg';
import { type EmbeddedPostgres, startEmbedded } from '../../db/embedded.ts';

/**
 * `max_prepared_transactions`: some writers commit in two phases. `wal_writer_delay`: the longest there is, so that a
 * crash takes an asynchronous commit with it.
 */
const SETTINGS = {
  max_connections: '150',
  max_prepared_transactions: '20',
  shared_buffers: '64MB',
  wal_writer_delay: '10s',
};

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
