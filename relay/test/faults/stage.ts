// Where a run takes place: a folder, a Postgres, and relays that are started from a copy of the build.
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { copyRelay, type Edit } from './copy.ts';
import { RelayNode } from './nodes.ts';
import { prepareDatabase, Server } from './server.ts';

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
    const server = await Server.start(folder);
    await prepareDatabase(server);
    return new Stage(folder, server, main);
  }

  /** Resolves when the relay serves clients. */
  async startNode(name: string, environment: Record<string, string> = {}): Promise<RelayNode> {
    const { folder, server } = this;
    const databaseUrl = (port: number) => server.urlThrough(port);
    const options = { name, environment, main: this.#main, folder, databaseUrl, databasePort: server.port };
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
