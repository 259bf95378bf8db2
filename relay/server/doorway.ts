// Limits the connections of the first process. It holds each one until a worker takes it. The sticky library keeps
// those whose request announces a body, and passes on the chunks one by one. The first process does not parse HTTP, so
// count and time limits stand in for what a worker's server would refuse.
import type { Worker } from 'node:cluster';
import type { Server as HttpServer } from 'node:http';
import { createServer, type Server, Socket } from 'node:net';
import type { Duplex } from 'node:stream';
import type { Settings } from '../config/settings.ts';
import { networkOf } from '../transport/limits/admission.ts';
import { HEADERS_WITHIN_MS } from '../transport/limits/arrivals.ts';
import type { Refusals } from '../transport/limits/refusals.ts';
import { MAX_FRAME_BYTES } from '../transport/socketio.ts';
import { MAX_HEADER_BYTES } from '../transport/sse.ts';

/** A connection kept here carries one request, and no body is longer than a frame. */
const MOST_BYTES = MAX_HEADER_BYTES + MAX_FRAME_BYTES + 16 * 1024;
/** Longer than a long poll, and longer than an empty budget delays a request. */
const QUIET_MS = 60_000;
/** Time for the client to close after the answer. */
const CLOSE_WITHIN_MS = 2_000;

export function createDoorway(): Server {
  return createServer({ allowHalfOpen: true });
}

/** Call it after the sticky library's set-up, which removes every listener for data. */
export function watchDoorway(
  server: Server,
  { connectionsPerAddress, maxConnections, trustedProxies }: Settings['http'],
  refusals: Refusals,
): void {
  /** Connections that have sent nothing yet. */
  const silent = new Map<string, number>();
  server.maxConnections = maxConnections;
  server.on('drop', (data) => {
    refusals.note('relay_full', { address: networkOf(data?.remoteAddress) });
  });
  server.on('connection', (socket: Socket) => {
    const address = networkOf(socket.remoteAddress);
    const others = silent.get(address) ?? 0;
    socket.on('error', () => socket.destroy());
    if (trustedProxies === 0 && others >= connectionsPerAddress) {
      refusals.note('too_many_connections', { address });
      socket.destroy();
      return;
    }
    silent.set(address, others + 1);
    let isSilent = true;
    const onFirstBytes = () => {
      if (!isSilent) return;
      isSilent = false;
      clearTimeout(patience);
      const rest = (silent.get(address) ?? 1) - 1;
      if (rest > 0) silent.set(address, rest);
      else silent.delete(address);
    };
    const patience = setTimeout(() => socket.destroy(), HEADERS_WITHIN_MS);
    socket.on('close', onFirstBytes);
    // Runs before the library's listener, and decides by the library's own rule which connections stay here.
    socket.prependOnceListener('data', (chunk: Buffer) => {
      onFirstBytes();
      const headers = chunk.subarray(0, chunk.indexOf('\r\n\r\n')).toString('latin1').toLowerCase();
      if (/content-length:|transfer-encoding:/.test(headers)) boundKept(socket, headers, address, refusals);
      else stopReading(socket);
    });
  });
}

/**
 * For a worker: ends the library's stand-in for a connection that is kept in the first process, once it has answered. The
 * library never ends the readable side, so each stand-in would stay, and count for its address.
 */
export function endStandIns(server: HttpServer): void {
  server.on('connection', (connection: Duplex) => {
    if (!(connection instanceof Socket)) connection.once('finish', () => connection.destroy());
  });
}

/**
 * Leaves the rest of the data to the worker: whatever is read here before the hand-over is lost. Pausing the socket is
 * not enough, since it still reads some data, and the hand-over may have to wait for another one.
 */
function stopReading(socket: Socket): void {
  // A field that Node does not document.
  const handle: { readStop(): void } | null = Reflect.get(socket, '_handle');
  handle?.readStop();
}

function boundKept(socket: Socket, headers: string, address: string, refusals: Refusals): void {
  const refuse = () => {
    refusals.note('body_refused', { address });
    socket.destroy();
  };
  // An event stream or websocket would run through this process while it lasts, and nobody would check whether the
  // client reads.
  if (/^get [^? ]*\/events[? ]|\nupgrade:/.test(headers)) {
    refuse();
    return;
  }
  socket.on('data', () => {
    if (socket.bytesRead > MOST_BYTES) refuse();
  });
  socket.setTimeout(QUIET_MS, () => socket.destroy());
  socket.once('finish', () => setTimeout(() => socket.destroy(), CLOSE_WITHIN_MS).unref());
}

/**
 * Closes the connections that were on their way to a worker that has ended: the one it has not acknowledged, and those
 * queued behind it. Node would keep them open for ever, without an answer.
 */
export function closeUndelivered(worker: Worker): void {
  // Fields that Node does not document.
  const sent: { handle: { close(): void } } | null | undefined = Reflect.get(
    worker.process,
    '_pendingMessage',
  );
  const queue: { handle?: Socket | null }[] | null | undefined = Reflect.get(worker.process, '_handleQueue');
  sent?.handle.close();
  for (const { handle } of queue ?? []) handle?.destroy();
}
