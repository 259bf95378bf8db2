// The Postgres of a run: a real one, that can be crashed and comes back on the same port, with the same data or with
// what was there earlier.
import { execFile } from 'node:child_process';
import { readFile, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import type pg from 'pg';
import { type EmbeddedPostgres, startEmbedded } from '../../db/embedded.ts';
import { useSession } from './session.ts';

/**
 * `max_prepared_transactions`: some writers commit in two phases. `wal_writer_delay`: the longest there is, so that a
 * crash takes an asynchronous commit with it. `restore_command`: there is no archive, so recovery from one ends at once.
 */
const SETTINGS = {
  max_connections: '150',
  max_prepared_transactions: '20',
  shared_buffers: '64MB',
  wal_writer_delay: '10s',
  max_wal_size: '256MB',
  restore_command: 'false',
};

export class Server {
  readonly port: number;
  readonly url: string;
  readonly #dataDir: string;
  readonly #copyDir: string;
  #postgres: EmbeddedPostgres;
  #turn: Promise<void> = Promise.resolve();
  #copying: Promise<void> = Promise.resolve();

  private constructor(dataDir: string, postgres: EmbeddedPostgres) {
    this.#dataDir = dataDir;
    this.#copyDir = `${dataDir}-earlier`;
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
    await this.#whileDown(() => sleep(downMs));
  }

  /** Keeps a copy of what is there. @param promote the server goes on as a promoted standby */
  async keepCopy(promote: boolean): Promise<void> {
    await this.#whileDown(async () => {
      await promisify(execFile)('cp', ['-a', this.#dataDir, this.#copyDir]);
      if (promote) await this.#promote();
    });
  }

  /** Goes back to the copy. @param promote it goes on as a promoted standby, or as restored to a point in time, does */
  async goBack(promote: boolean): Promise<void> {
    await this.#whileDown(async () => {
      await rm(this.#dataDir, { recursive: true });
      await rename(this.#copyDir, this.#dataDir);
      if (promote) await this.#promote();
    });
    // Whoever prepared these has committed them in the history that is gone.
    const prepared = await this.query<{ gid: string }>('select gid from pg_prepared_xacts');
    for (const { gid } of prepared) await this.query(`rollback prepared '${gid}'`).catch(() => undefined);
  }

  /** The end of recovery from an archive begins a timeline, as a promotion does. */
  async #promote(): Promise<void> {
    await writeFile(join(this.#dataDir, 'cluster/data/recovery.signal'), '');
  }

  async #whileDown(work: () => Promise<void>): Promise<void> {
    const before = this.#turn;
    const crash = async () => {
      await before;
      await this.#postgres.stop('immediate');
      await work();
      this.#postgres = await startEmbedded({ dataDir: this.#dataDir, port: this.port, settings: SETTINGS });
      if (this.#postgres.port !== this.port) {
        throw new Error(`Another program took port ${this.port} while Postgres was down; run again.`);
      }
    };
    this.#turn = crash();
    await this.#turn;
  }

  /** Its process ids, of the server and of its sessions. */
  async pids(): Promise<number[]> {
    const { pid } = this.#postgres;
    const children = await readFile(`/proc/${pid}/task/${pid}/children`, 'utf8').catch(() => '');
    return [pid, ...children.trim().split(' ').filter(Boolean).map(Number)];
  }

  /** Work that needs the copy, one after the other. */
  async inTurn(work: () => Promise<void>): Promise<void> {
    const turn = this.#copying.then(work);
    this.#copying = turn.catch(() => undefined);
    await turn;
  }

  /** A statement, until it is done: Postgres may be down, or a lock taken. */
  async insist(statement: string, values: unknown[] = []): Promise<void> {
    for (let attempt = 1; ; attempt += 1) {
      try {
        await this.query(statement, values);
        return;
      } catch (error) {
        if (attempt === 100) throw error;
        await sleep(200);
      }
    }
  }

  /** One statement on a connection of its own. */
  async query<Row extends pg.QueryResultRow>(text: string, values: unknown[] = []): Promise<Row[]> {
    return this.use(async (client) => (await client.query<Row>(text, values)).rows);
  }

  async use<T>(work: (client: pg.Client) => Promise<T>): Promise<T> {
    return useSession(this.url, work);
  }

  async stop(): Promise<void> {
    await this.#turn.catch(() => undefined);
    await this.#postgres.stop('immediate');
  }
}
