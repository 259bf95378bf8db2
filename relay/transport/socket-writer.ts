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
import type { Encoded } from '../delivery/encode.ts';

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

const wires = new WeakMap<Connection, Wire>();

/**
 * The wire of a client. One for each connection, not for each socket: a client may leave and join over the same
 * connection as often as it likes, and what waits for it is still the same.
 */
export function wireOf(conn: Connection): Wire {
  const wire = wires.get(conn) ?? new Wire(conn);
  wires.set(conn, wire);
  return wire;
}

/** So few packets that wait in engine.io are not added up. */
const FEW_PACKETS = 100;

/** A client's connection, as bytes that are written and wait to be read. */
export class Wire {
  readonly #connection: Connection;
  /** The transport for which the two below were looked up; it changes when polling is upgraded. */
  #transport: Connection['transport'] | null = null;
  /** null: not a websocket, or not as expected. */
  #webSocket: WebSocketInside | null = null;
  #network: NetworkSocket | null = null;
  /** Bytes handed to engine.io that its transport has not taken yet; null: never any. */
  #inEngine: number | null = null;

  constructor(connection: Connection) {
    this.#connection = connection;
  }

  /**
   * Writes the packets, in order with whatever else is written to the client.
   * @returns bytes that wait for the client to read
   */
  write(encoded: Encoded): number {
    const network = this.#idleNetworkSocket();
    if (network) {
      network.write(encoded.joined);
      return network.writableLength;
    }
    const connection = this.#connection;
    if (this.#inEngine === null) {
      connection.on('flush', () => {
        this.#inEngine = 0;
      });
    }
    for (const packet of encoded.packets) {
      this.#inEngine = (this.#inEngine ?? 0) + Buffer.byteLength(packet);
      connection.write(packet, { compress: false });
    }
    return this.backlog();
  }

  /** Bytes that wait for the client to read: in engine.io and in the network socket. */
  backlog(): number {
    const inEngine = this.#connection.readyState === 'open' ? (this.#inEngine ?? 0) : 0;
    this.#lookBeneath();
    return inEngine + (this.#webSocket?.bufferedAmount ?? 0);
  }

  /** The same, with what Socket.IO itself wants to say: refusals and acknowledgements. */
  waiting(): number {
    const { writeBuffer } = this.#connection as unknown as EngineInside;
    if (!Array.isArray(writeBuffer) || writeBuffer.length < FEW_PACKETS) return this.backlog();
    let bytes = 0;
    for (const { data } of writeBuffer as { data?: unknown }[])
      if (typeof data === 'string') bytes += data.length;
    return Math.max(this.backlog(), bytes);
  }

  /** Resolves when the client has read some of its backlog, or is gone. */
  async drained(): Promise<void> {
    const connection = this.#connection;
    this.#lookBeneath();
    const network = this.#network;
    await new Promise<void>((resolve) => {
      const done = () => {
        connection.off('drain', done);
        connection.off('close', done);
        resolve();
      };
      connection.once('drain', done);
      connection.once('close', done);
      if (connection.readyState !== 'open' || this.backlog() === 0) done();
      // Called when all that was written before is gone. The 'drain' of a network socket comes only after much.
      else if (network?.writable) network.write('', done);
    });
  }

  /**
   * Sends the client away so that it comes back: a stock client does not reconnect after `disconnect()`.
   * @param discard do not wait for what is still to be read
   */
  close(discard = false): void {
    this.#lookBeneath();
    const webSocket = this.#webSocket;
    // The closing handshake would wait behind what the client does not read, and keep it in memory.
    if (discard && webSocket) webSocket.terminate();
    else this.#connection.close(discard);
  }

  /**
   * The network socket of an open websocket on which nothing is queued above it, so that bytes written to it keep
   * their place among engine.io's own frames; null: take the ordinary path. No frame may be compressed, since
   * compression makes `ws` queue.
   */
  #idleNetworkSocket(): NetworkSocket | null {
    this.#lookBeneath();
    const network = this.#network;
    if (!network || this.#webSocket?.readyState !== 1) return null;
    const { transport, readyState, writeBuffer, upgrading } = this.#connection as unknown as EngineInside;
    if (readyState !== 'open' || transport.writable !== true) return null;
    if (!Array.isArray(writeBuffer) || writeBuffer.length > 0 || upgrading) return null;
    return network.writable ? network : null;
  }

  /** Once for each transport, not for each write. */
  #lookBeneath(): void {
    const { transport } = this.#connection;
    if (this.#transport === transport) return;
    this.#transport = transport;
    this.#webSocket = webSocketOf(transport);
    const { perMessageDeflate } = transport as unknown as EngineInside['transport'];
    this.#network = perMessageDeflate ? null : (this.#webSocket?._socket ?? null);
  }
}

/** What of engine.io's connection is looked at, beyond its types. */
interface EngineInside {
  readonly readyState: string;
  readonly transport: { readonly writable?: unknown; readonly perMessageDeflate?: unknown };
  readonly writeBuffer?: unknown;
  readonly upgrading?: unknown;
}

interface WebSocketInside {
  readonly readyState: number;
  readonly bufferedAmount: number;
  readonly _socket: NetworkSocket;
  terminate(): void;
}

/** The `ws` socket of a transport, if that is what it uses. */
function webSocketOf(transport: unknown): WebSocketInside | null {
  if (!isRecord(transport) || transport.name !== 'websocket') return null;
  const inside = transport.socket;
  if (!isRecord(inside) || typeof inside.terminate !== 'function') return null;
  // Not the type of bufferedAmount: it is counted together anew whenever it is looked at.
  if (typeof inside.readyState !== 'number' || !('bufferedAmount' in inside)) return null;
  if (!(inside._socket instanceof NetworkSocket)) return null;
  return inside as unknown as WebSocketInside;
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null;
}
