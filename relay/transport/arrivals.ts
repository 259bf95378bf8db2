// Network connections before their request is there. A connection that sends nothing, or its headers letter by letter,
// is nobody's yet: only so many of them for one address, and not for long.
import type { Server } from 'node:http';
import type { Socket } from 'node:net';
import { type AdmissionSettings, networkOf } from './admission.ts';
import type { Refusals } from './refusals.ts';

/** Headers, and a body, must be there in this time. */
export const HEADERS_WITHIN_MS = 10_000;
export const REQUEST_WITHIN_MS = 30_000;

export const TIMEOUTS = {
  headersTimeout: HEADERS_WITHIN_MS,
  requestTimeout: REQUEST_WITHIN_MS,
  // The two are looked after this often; by default each half minute only.
  connectionsCheckingInterval: 1_000,
} as const;

export interface Arrivals {
  /** Every connection that is open. */
  readonly connections: ReadonlySet<Socket>;
}

/** Watches the connections of a server, also those that another process hands it. */
export function watchArrivals(
  server: Server,
  { connectionsPerAddress, maxConnections, trustedProxies }: AdmissionSettings,
  refusals: Refusals,
): Arrivals {
  const connections = new Set<Socket>();
  /** Without a whole request; by address, unless that is a proxy's. */
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
  server.prependListener('request', ({ socket }) => arrived(socket));
  server.prependListener('upgrade', ({ socket }) => arrived(socket));
  return { connections };
}
