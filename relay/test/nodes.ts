// Relays, clients and links that end with the test that opened them, the last one first.
import type { ManagerOptions, SocketOptions } from 'socket.io-client';
import type { Relay } from '../server/relay.ts';
import { ends } from './ends.ts';
import { Link } from './faults/links.ts';
import { Client, type Database, listens, startNode } from './world.ts';

export function useNodes(database: () => Database) {
  /** Whether or not the database answers. */
  async function start(env: Record<string, string> = {}, url = database().url): Promise<Relay> {
    const relay = await startNode(url, env);
    ends.push(() => relay.close());
    return relay;
  }
  /** Resolves when it is ready. */
  async function node(env?: Record<string, string>, url?: string): Promise<Relay> {
    const relay = await start(env, url);
    await relay.ready();
    return relay;
  }
  return {
    /** What else must end. */
    ends,
    start,
    node,
    /** Resolves when it is ready, and listens. */
    async listeningNode(): Promise<Relay> {
      const relay = await node();
      await listens(relay);
      return relay;
    },
    client(
      relay: Pick<Relay, 'port'> | number,
      auth: SocketOptions['auth'],
      options: Partial<ManagerOptions & SocketOptions> = {},
    ): Client {
      const made = new Client(relay, auth, options);
      ends.push(() => made.close());
      return made;
    },
    async link(port: number): Promise<Link> {
      const made = await Link.to(port);
      ends.push(() => made.close());
      return made;
    },
  };
}
