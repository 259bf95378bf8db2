// Limits connections whose first request has not arrived. One that sends nothing, or its headers byte by byte, belongs
// to no client yet, so there is a limit for each address and a time-out.
import type { Server } from 'node:http';
import type { Socket } from 'node:net';
import { type AdmissionSettings, networkOf } from './admission.ts';
import type { Refusals } from './refusals.ts';

/** Headers, and the whole request, must arrive within this time. */
export const HEADERS_WITHIN_MS = 10_000;
export const REQUEST_WITHIN_MS = 30_000;

export const TIMEOUTS = {
  headersTimeout: HEADERS_WITHIN_MS,
  requestTimeout: REQUEST_WITHIN_MS,
  // How often Node enforces the two; its default is 30 seconds.
  connectionsCheckingInterval: 1_000,
} as const;

export interface Arrivals {
  /** Every open connection. */
  readonly connections: ReadonlySet<Socket>;
  /** Call it after engine.io is attached, which takes over the request listeners that it finds. */
  watchRequests(): void;
}

/** Watches a server's connections, including those that another process hands over. */
export function watchArrivals(
  server: Server,
  { connectionsPerAddress, maxConnections, trustedProxies }: AdmissionSettings,
  refusals: Refusals,
): Arrivals {
  const connections = new Set<Socket>();
  /** Connections without a complete request, with their address. */
  const waiting = new Map<Socket, string>();
  const byAddress = new Map<string, number>();

  const arrived = (connection: Socket) => {
    const address = waiting.get(connection);
    if (address === undefined) return;
    waiting.delete(connection);
    const rest = (byAddress.get(address) ?? 1) - 1;
    if (rest > 0) byAddress.set(address, rest);
    else byAddress.delete(address);
  };
  const onClose = function (this: Socket) {
    connections.delete(this);
    arrived(this);
  };

  server.on('connection', (connection: Socket) => {
    const address = networkOf(connection.remoteAddress);
    const others = byAddress.get(address) ?? 0;
    const full = connections.size >= maxConnections;
    if (full || (trustedProxies === 0 && others >= connectionsPerAddress)) {
      refusals.note(full ? 'relay_full' : 'too_many_connections', { address });
      connection.destroy();
      return;
    }
    connections.add(connection);
    waiting.set(connection, address);
    byAddress.set(address, others + 1);
    connection.on('close', onClose);
  });
  return {
    connections,
    watchRequests() {
      server.prependListener('request', ({ socket }) => arrived(socket));
      server.prependListener('upgrade', ({ socket }) => arrived(socket));
    },
  };
}
