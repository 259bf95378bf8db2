// The Socket.IO adapter: what is different from the stock one.
//
// 1. Resume. Connection state recovery is on, so that the stock client remembers the last trailing string it got
//    (our position) and sends it back, but nothing is restored here: a fresh socket id, no rooms, no packets. The
//    stock recovery returns them before the token is verified, loses what arrives while a middleware runs, and goes
//    deaf when the old half-open socket dies at last.
// 2. Batched broadcast. The system call per socket is the cost of fan-out, so the frames of a batch are encoded
//    once, joined, and written once to each member's network socket. Wherever Socket.IO's internals are not as
//    expected, or the socket is not idle, the ordinary path is taken.
import { randomBytes } from 'node:crypto';
import { Socket as NetworkSocket } from 'node:net';
import type { Socket } from 'socket.io';
import { Adapter, type Session } from 'socket.io-adapter';
import type { Encoded } from './encoded.ts';

/** A session id as hard to guess as Socket.IO's own. */
export function newSessionId(): string {
  return randomBytes(15).toString('base64url');
}

export class RelayAdapter extends Adapter {
  /** Told to the namespace as "recovered"; the middleware decides whether it stays so. */
  override async restoreSession(pid: string, _position: string): Promise<Session> {
    return { sid: newSessionId(), pid, rooms: [], data: {}, missedPackets: [] };
  }
}

type Connection = Socket['conn'];

/** Bytes handed to engine.io that its transport has not taken yet. */
const waiting = new WeakMap<Connection, number>();

/**
 * Writes the packets to one socket, in order with whatever else is written to it.
 * @returns bytes that wait for the client to read
 */
export function write(socket: Socket, encoded: Encoded): number {
  const connection = socket.conn;
  const network = idleNetworkSocket(connection);
  if (network) {
    network.write(encoded.joined);
    return network.writableLength;
  }
  if (!waiting.has(connection)) {
    waiting.set(connection, 0);
    connection.on('flush', () => waiting.set(connection, 0));
  }
  for (const packet of encoded.packets) {
    waiting.set(connection, waiting.get(connection)! + Buffer.byteLength(packet));
    connection.write(packet, { compress: false });
  }
  return backlog(socket);
}

/** Bytes that wait for the client to read: in engine.io and in the network socket. */
export function backlog(socket: Socket): number {
  const connection = socket.conn;
  const inEngine = connection.readyState === 'open' ? (waiting.get(connection) ?? 0) : 0;
  return inEngine + (webSocketOf(connection)?.bufferedAmount ?? 0);
}

/** Resolves when the client has read some of its backlog, or is gone. */
export async function drained(socket: Socket): Promise<void> {
  const connection = socket.conn;
  const network = webSocketOf(connection)?._socket;
  await new Promise<void>((resolve) => {
    const done = () => {
      connection.off('drain', done);
      connection.off('close', done);
      resolve();
    };
    connection.once('drain', done);
    connection.once('close', done);
    if (connection.readyState !== 'open' || backlog(socket) === 0) done();
    // Called when all that was written before is gone. The 'drain' of a network socket comes only after much.
    else if (network?.writable) network.write('', done);
  });
}

/**
 * Sends the client away so that it comes back: a stock client does not reconnect after `disconnect()`.
 * @param discard do not wait for what is still to be read
 */
export function closeTransport(socket: Socket, discard = false): void {
  const webSocket = webSocketOf(socket.conn);
  // The closing handshake would wait behind what the client does not read, and keep it in memory.
  if (discard && webSocket) webSocket.terminate();
  else socket.conn.close(discard);
}

interface WebSocketInside {
  readonly readyState: number;
  readonly bufferedAmount: number;
  readonly _socket: NetworkSocket | null;
  terminate(): void;
}

/** The `ws` socket beneath a connection, if that is what its transport uses. */
function webSocketOf(connection: Connection): WebSocketInside | null {
  const transport: unknown = connection.transport;
  if (!isRecord(transport) || transport.name !== 'websocket') return null;
  const inside = transport.socket;
  if (!isRecord(inside) || typeof inside.terminate !== 'function') return null;
  // Not the type of bufferedAmount: it is counted together anew whenever it is looked at.
  if (typeof inside.readyState !== 'number' || !('bufferedAmount' in inside)) return null;
  if (!(inside._socket instanceof NetworkSocket)) return null;
  return inside as unknown as WebSocketInside;
}

/**
 * The network socket of an open websocket on which nothing is queued above it, so that bytes written to it keep
 * their place among engine.io's own frames; null: take the ordinary path. No frame may be compressed, since
 * compression makes `ws` queue.
 */
function idleNetworkSocket(connection: Connection): NetworkSocket | null {
  const webSocket = webSocketOf(connection);
  if (webSocket?.readyState !== 1 || connection.readyState !== 'open') return null;
  const { transport } = connection as unknown as Record<string, Record<string, unknown>>;
  const { writeBuffer, upgrading } = connection as unknown as Record<string, unknown>;
  if (transport?.writable !== true || transport.perMessageDeflate) return null;
  if (!Array.isArray(writeBuffer) || writeBuffer.length > 0 || upgrading) return null;
  return webSocket._socket?.writable ? webSocket._socket : null;
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null;
}
