// What every section is given, and how it starts the server and the clients of a peer.
import { signToken } from '../../relay/auth/sign.ts';
import type { Calm } from './calm.ts';
import { type Child, startChild } from './child.ts';
import type { Cluster } from './cluster.ts';
import type { Figure } from './figures.ts';
import { ACCOUNTS, type Peer, type PeerName, peers } from './peers.ts';

export interface Bench {
  readonly cluster: Cluster;
  readonly rounds: number;
  /** Seconds of one measurement; a part of it with --quick. */
  seconds(whole: number): number;
  say(line: string): void;
  /** For measurements that are worth nothing where the host takes the processors away meanwhile. */
  readonly calm: Calm;
}

export type Section = (bench: Bench) => Promise<Figure[]>;

const SECRET = 'the bench signs its tokens with this sentence';

export interface Served {
  readonly server: Child;
  readonly clients: Child;
  readonly port: number;
  close(): Promise<void>;
}

/** A server in a process of its own; settings beside those that all have. */
export function startServer(
  peer: PeerName | 'hub',
  databaseUrl: string,
  settings: Record<string, string> = {},
): Promise<Child> {
  return startChild('server.ts', {
    PEER: peer,
    DATABASE_URL: databaseUrl,
    JWT_SECRET: SECRET,
    HOST: '127.0.0.1',
    PORT: '0',
    CONNECTIONS_PER_ADDRESS: '10000',
    ...settings,
  });
}

/** The peer's server and a process for clients. */
export async function serve(
  bench: Bench,
  name: Exclude<PeerName, 'none' | 'outbox' | 'muted'>,
): Promise<Served> {
  const databaseUrl =
    name === 'ws' || name === 'wire' ? bench.cluster.url : await bench.cluster.database(peers[name]);
  const server = await startServer(name, databaseUrl);
  const clients = await startChild('clients.ts', {});
  return {
    server,
    clients,
    port: await server.ask<number>('port'),
    async close() {
      await clients.close();
      await server.close();
    },
  };
}

/** What a client of the account says in its handshake. */
export async function authOf(
  name: PeerName,
  account: number,
  who: { subject?: string; topics?: readonly string[] } = {},
): Promise<Record<string, unknown>> {
  if (name !== 'recado') return { account };
  const token = await signToken({
    secret: SECRET,
    accountId: String(account),
    expiresIn: 3_600,
    claim: 'accountId',
    ...who,
  });
  return { token };
}

/** One cheap client for each account, so that every event is received once. */
export async function openForEveryAccount(served: Served, name: PeerName): Promise<void> {
  const auths = await Promise.all(Array.from({ length: ACCOUNTS }, (_, n) => authOf(name, n + 1)));
  await served.clients.ask('open', { port: served.port, protocol: 'socket.io', count: ACCOUNTS, auths });
}

/** The peers in another order each round, so that none is always first. */
export function inOrder<T>(of: readonly T[], round: number): T[] {
  return of.map((_, n) => of[(n + round) % of.length]!);
}

export type { Peer };
