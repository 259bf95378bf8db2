// Writes frames to Socket.IO clients. The system call for each socket dominates the cost of fan-out, so the frames of a
// batch are encoded once, joined, and written with one call to each client's network socket. If Socket.IO's internals
// are not as expected, or something is queued, the packets go through engine.io as usual.
import { Socket as NetworkSocket } from 'node:net';
import type { Socket } from 'socket.io';
import type { Encoded } from '../delivery/encode.ts';

/** engine.io's socket: one client, whatever its transport. */
export type EngineConnection = Socket['conn'];

const writers = new WeakMap<EngineConnection, SocketWriter>();

/**
 * One writer for each connection, not for each Socket.IO socket: a client may leave and rejoin over the same connection
 * any number of times, and keeps its backlog.
 */
export function writerOf(connection: EngineConnection): SocketWriter {
  const writer = writers.get(connection) ?? new SocketWriter(connection);
  writers.set(connection, writer);
  return writer;
}

/** With fewer packets queued in engine.io, their size is not worth adding up. */
const FEW_PACKETS = 100;

export class SocketWriter {
  readonly #connection: EngineConnection;
  /** The transport that the next two fields belong to. An upgrade from polling replaces it. */
  #transport: EngineConnection['transport'] | null = null;
  /** null if it is not a websocket, or its internals are not as expected. */
  #webSocket: WebSocketInternals | null = null;
  #network: NetworkSocket | null = null;
  /** Bytes queued in engine.io; null before the first write through it. */
  #inEngine: number | null = null;

  constructor(connection: EngineConnection) {
    this.#connection = connection;
  }

  get polls(): boolean {
    return this.#connection.transport.name === 'polling';
  }

  /**
   * Writes the packets, in order with all other writes to the client.
   * @returns bytes that the client has not read yet
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

  /** Bytes that the client has not read yet: in engine.io and in the network socket. */
  backlog(): number {
    const inEngine = this.#connection.readyState === 'open' ? (this.#inEngine ?? 0) : 0;
    this.#lookInside();
    return inEngine + (this.#webSocket?.bufferedAmount ?? 0);
  }

  /** The backlog, including what Socket.IO itself has queued: errors and acknowledgements. */
  waiting(): number {
    const { writeBuffer } = insideOf(this.#connection);
    if (!Array.isArray(writeBuffer) || writeBuffer.length < FEW_PACKETS) return this.backlog();
    let bytes = 0;
    for (const { data } of writeBuffer) if (typeof data === 'string') bytes += data.length;
    return Math.max(this.backlog(), bytes);
  }

  /** Resolves when the client has read some of its backlog, or has left. */
  async drained(): Promise<void> {
    const connection = this.#connection;
    this.#lookInside();
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
      // The callback runs once everything before it is sent. 'drain' would only come after a large backlog.
      else if (network?.writable) network.write('', done);
    });
  }

  /**
   * Closes the transport, after which a stock client reconnects. After `disconnect()` it would not.
   * @param discard drop the backlog instead of waiting until the client has read it
   */
  close(discard = false): void {
    this.#lookInside();
    const webSocket = this.#webSocket;
    // The closing handshake would queue behind the unread backlog and keep it in memory.
    if (discard && webSocket) webSocket.terminate();
    else this.#connection.close(discard);
  }

  /**
   * The network socket of an open websocket, if engine.io and `ws` have nothing queued, so that bytes written to it
   * stay in order with engine.io's own frames; null means write through engine.io. Compression would make `ws` queue.
   */
  #idleNetworkSocket(): NetworkSocket | null {
    this.#lookInside();
    const network = this.#network;
    if (!network || this.#webSocket?.readyState !== 1) return null;
    const { transport, readyState, writeBuffer, upgrading } = insideOf(this.#connection);
    if (readyState !== 'open' || transport.writable !== true) return null;
    if (!Array.isArray(writeBuffer) || writeBuffer.length > 0 || upgrading) return null;
    return network.writable ? network : null;
  }

  /** Looks up the internals once for each transport, not for each write. */
  #lookInside(): void {
    const { transport } = this.#connection;
    if (this.#transport === transport) return;
    this.#transport = transport;
    this.#webSocket = webSocketOf(transport);
    const { perMessageDeflate } = insideOf(this.#connection).transport;
    this.#network = perMessageDeflate ? null : (this.#webSocket?._socket ?? null);
  }
}

/** Fields of engine.io's connection that its types do not declare, or declare private. */
interface EngineInternals {
  readonly readyState: string;
  readonly transport: { readonly writable?: unknown; readonly perMessageDeflate?: unknown };
  readonly writeBuffer?: readonly { data?: unknown }[];
  readonly upgrading?: unknown;
}

function insideOf(connection: EngineConnection): EngineInternals {
  return connection as unknown as EngineInternals;
}

interface WebSocketInternals {
  readonly readyState: number;
  readonly bufferedAmount: number;
  readonly _socket: NetworkSocket;
  terminate(): void;
}

/** The `ws` socket of a transport, if it has one. */
function webSocketOf(transport: unknown): WebSocketInternals | null {
  if (!isRecord(transport) || transport.name !== 'websocket') return null;
  const { socket } = transport;
  return isWebSocket(socket) ? socket : null;
}

function isWebSocket(value: unknown): value is WebSocketInternals {
  if (!isRecord(value) || typeof value.terminate !== 'function') return false;
  // Does not read bufferedAmount, which is a getter that adds up all queues.
  if (typeof value.readyState !== 'number' || !('bufferedAmount' in value)) return false;
  return value._socket instanceof NetworkSocket;
}

function isRecord(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null;
}
