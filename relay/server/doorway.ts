// The connections of the first process: until a worker has one, and for as long as the sticky library keeps it here,
// which it does where a request announces a body, whose chunks it passes on one by one. Nothing of HTTP is read here,
// so what a worker's server would refuse is bounded by count and time.
import { createServer, type Server, type Socket } from 'node:net';
import type { Settings } from '../config/settings.ts';
import { networkOf } from '../transport/admission.ts';
import { HEADERS_WITHIN_MS } from '../transport/arrivals.ts';
import type { Refusals } from '../transport/refusals.ts';
import { MAX_FRAME_BYTES } from '../transport/socketio.ts';
import { MAX_HEADER_BYTES } from '../transport/sse.ts';

/** One request comes over a connection that is kept here, and no body is longer than a frame. */
const MOST_BYTES = MAX_HEADER_BYTES + MAX_FRAME_BYTES + 16 * 1024;
/** Longer than a long poll, and than a request is held for an empty budget. */
const QUIET_MS = 60_000;
/** After the answer was written. */
const CLOSE_WITHIN_MS = 2_000;

export function createDoorway(): Server {
  return createServer({ allowHalfOpen: true });
}

/** Call it after the sticky library has been set up, which takes away every listener for data. */
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
    let said = false;
    const speaks = () => {
      if (said) return;
      said = true;
      clearTimeout(patience);
      const rest = (silent.get(address) ?? 1) - 1;
      if (rest > 0) silent.set(address, rest);
      else silent.delete(address);
    };
    const patience = setTimeout(() => socket.destroy(), HEADERS_WITHIN_MS);
    socket.on('close', speaks);
    // Before the library's listener, and with its own rule.
    socket.prependOnceListener('data', (chunk: Buffer) => {
      speaks();
      const headers = chunk.subarray(0, chunk.indexOf('\r\n\r\n')).toString('latin1').toLowerCase();
      if (/content-length:|transfer-encoding:/.test(headers)) boundKept(socket, headers, address, refusals);
      else stopReading(socket);
    });
  });
}

/**
 * Its worker reads on. What came here before it is handed over would be lost; a paused socket still reads some, and
 * the handing over may have to wait for that of another.
 */
function stopReading(socket: Socket): void {
  const { _handle: handle } = socket as unknown as { _handle: { readStop(): void } | null };
  handle?.readStop();
}

function boundKept(socket: Socket, headers: string, address: string, refusals: Refusals): void {
  const refuse = () => {
    refusals.note('body_refused', { address });
    socket.destroy();
  };
  // What lasts would come through here for as long, with nobody to see whether it is read.
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
