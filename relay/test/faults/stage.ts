// Where a run takes place: a folder, a Postgres, and relays that are started from a copy of the build.
import { execFile } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { copyRelay, type Edit } from './copy.ts';
import { prepareDatabase } from './database.ts';
import type { Link } from './links.ts';
import { type NodeOptions, RelayNode, SECRET } from './nodes.ts';
import { Server } from './server.ts';
import { StreamServer } from './stream-server.ts';

/** What lies between the database and nodes that are edges. */
export interface Beyond {
  readonly server: StreamServer;
  readonly hubs: readonly RelayNode[];
  /** Of each hub and each edge. */
  readonly links: ReadonlyMap<RelayNode, Link>;
}

export class Stage {
  readonly folder: string;
  readonly server: Server;
  readonly #main: string;
  readonly #nodes: RelayNode[] = [];
  #stream: StreamServer | null = null;

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

  /** Resolves when the relay serves clients, or the hub has read. */
  async startNode(
    name: string,
    environment: Record<string, string> = {},
    more: Partial<Pick<NodeOptions, 'command' | 'descriptors'>> = {},
  ): Promise<RelayNode> {
    const { folder, server } = this;
    const databaseUrl = (port: number) => server.urlThrough(port);
    const options: NodeOptions = {
      name,
      command: 'relay',
      environment,
      main: this.#main,
      folder,
      databaseUrl,
      databasePort: server.port,
      ...more,
    };
    const node = await RelayNode.start(options);
    this.#nodes.push(node);
    return node;
  }

  /** Two hubs, and three edges that have their events from them. */
  async startEdges(environment: Record<string, string>): Promise<{ nodes: RelayNode[]; stream: Beyond }> {
    const server = await StreamServer.start();
    this.#stream = server;
    const links = new Map<RelayNode, Link>();
    const start = async (name: string, command: 'relay' | 'hub') => {
      const link = await server.link();
      const url = `redis://127.0.0.1:${link.port}`;
      const node = await this.startNode(name, { ...environment, STREAM_URL: url }, { command });
      links.set(node, link);
      return node;
    };
    const hubs = await Promise.all(['hub-1', 'hub-2'].map((name) => start(name, 'hub')));
    const nodes = await Promise.all(['a', 'b', 'c'].map((name) => start(name, 'relay')));
    return { nodes, stream: { server, hubs, links } };
  }

  /** Ends what it started; the logs stay where they are wanted. */
  async strike(keepLogs: boolean): Promise<void> {
    await Promise.all(this.#nodes.map((node) => node.stop()));
    await this.#stream?.stop();
    await this.server.stop();
    if (!keepLogs) await rm(this.folder, { recursive: true, force: true });
  }
}
