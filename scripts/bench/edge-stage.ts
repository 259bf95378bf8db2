// A direct node, a Redis, hubs and edges on one database, and one process for the clients of all.
import { type Redis, startRedis } from '../../relay/test/redis.ts';
import { type Child, startChild } from './child.ts';
import { ACCOUNTS } from './peers.ts';
import { authOf, startServer } from './run.ts';

/** A server that clients connect to. */
export interface Node {
  readonly server: Child;
  readonly port: number;
}

export interface Stage {
  readonly databaseUrl: string;
  readonly redis: Redis;
  readonly clients: Child;
  startDirect(): Promise<Node>;
  startHub(): Promise<Child>;
  startEdge(settings?: Record<string, string>): Promise<Node>;
  /** Clients of as many accounts, in turn. */
  connect(node: Node, count: number): Promise<void>;
  close(): Promise<void>;
}

export async function openStage(databaseUrl: string): Promise<Stage> {
  const redis = await startRedis();
  const clients = await startChild('clients.ts', {});
  const started: Child[] = [clients];
  const auths = await Promise.all(Array.from({ length: ACCOUNTS }, (_, n) => authOf('recado', n + 1)));

  async function start(peer: 'recado' | 'hub', settings: Record<string, string>): Promise<Child> {
    const server = await startServer(peer, databaseUrl, settings);
    started.push(server);
    return server;
  }
  async function startNode(settings: Record<string, string>): Promise<Node> {
    const server = await start('recado', settings);
    return { server, port: await server.ask<number>('port') };
  }
  const stream = { STREAM_URL: redis.url };
  return {
    databaseUrl,
    redis,
    clients,
    startDirect: () => startNode({}),
    startHub: () => start('hub', stream),
    startEdge: (settings) => startNode({ ...stream, ...settings }),
    async connect({ port }, count) {
      await clients.ask('open', { port, protocol: 'socket.io', count, auths });
    },
    async close() {
      await Promise.all(started.map((child) => child.close()));
      await redis.close();
    },
  };
}
