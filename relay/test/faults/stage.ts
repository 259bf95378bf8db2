// Where a run takes place: a folder, a Postgres, and relays that are started from a copy of the build.
import { execFile } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { copyRelay, type Edit } from './copy.ts';
import { prepareDatabase } from './database.ts';
import { RelayNode, SECRET } from './nodes.ts';
import { Server } from './server.ts';

export class Stage {
  readonly folder: string;
  readonly server: Server;
  readonly #main: string;
  readonly #nodes: RelayNode[] = [];

  private constructor(folder: string, server: Server, main: string) {
    this.folder = folder;
    this.server = server;
    this.#main = main;
  }

  static async set(edits: readonly Edit[]): Promise<Stage> {
    const folder = await mkdtemp(join(tmpdir(), 'recado-faults-'));
    const main = await copyRelay(folder, edits);
    const stage = new Stage(folder, await Server.start(folder), main);
    await stage.migrate();
    await prepareDatabase(stage.server);
    return stage;
  }

  /** What an operator does at each new version. */
  async migrate(): Promise<void> {
    await promisify(execFile)(process.execPath, [this.#main, 'migrate'], {
      env: { PATH: process.env.PATH, DATABASE_URL: this.server.url, JWT_SECRET: SECRET },
    });
  }

  /** Resolves when the relay serves clients. */
  async startNode(
    name: string,
    environment: Record<string, string> = {},
    limits: { descriptors?: number } = {},
  ): Promise<RelayNode> {
    const { folder, server } = this;
    const databaseUrl = (port: number) => server.urlThrough(port);
    const options = {
      name,
      environment,
      main: this.#main,
      folder,
      databaseUrl,
      databasePort: server.port,
      ...limits,
    };
    const node = await RelayNode.start(options);
    this.#nodes.push(node);
    return node;
  }

  /** Ends what it started; the logs stay where they are wanted. */
  async strike(keepLogs: boolean): Promise<void> {
    await Promise.all(this.#nodes.map((node) => node.stop()));
    await this.server.stop();
    if (!keepLogs) await rm(this.folder, { recursive: true, force: true });
  }
}
