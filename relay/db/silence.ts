// A database that falls silent: a router forgot the connection, or the machine is gone, and neither side is told.
import { Socket } from 'node:net';

const MOST_MS = 15_000;
/** After a freeze, the timer fires before the data that arrived meanwhile is read. */
const LOOK_AGAIN_MS = 500;
/** How long the longer limit stays after a connection fell silent. */
const PATIENT_FOR_MS = 60_000;

/**
 * How long a connection may be silent. Node has no TCP_USER_TIMEOUT, and TCP itself retries for minutes. If a new
 * connection falls silent too, the database may only be slow: each gets twice as long, until a minute after the last.
 */
export class Silence {
  readonly #leastMs: number;
  readonly #patientForMs: number;
  #limitMs: number;
  #fellSilentAt = 0;
  #socket: Socket | null = null;

  /** @param leastMs more than the pause between two queries */
  constructor(leastMs: number, patientForMs = PATIENT_FOR_MS) {
    this.#leastMs = leastMs;
    this.#patientForMs = patientForMs;
    this.#limitMs = leastMs;
  }

  /** For one new connection. */
  readonly open = (): Socket => {
    const socket = new Socket();
    const limitMs = this.#limitMs;
    socket.setTimeout(limitMs);
    socket.on('timeout', () => {
      const heard = socket.bytesRead;
      setTimeout(() => {
        if (socket.bytesRead > heard) return;
        this.#fellSilentAt = Date.now();
        socket.destroy(
          new Error(`the database said nothing for ${(limitMs + LOOK_AGAIN_MS) / 1_000} seconds`),
        );
      }, LOOK_AGAIN_MS).unref();
    });
    this.#limitMs = Math.max(Math.min(2 * limitMs, MOST_MS), this.#leastMs);
    this.#socket = socket;
    return socket;
  };

  /** Something was read. */
  end(): void {
    if (this.#limitMs === this.#leastMs || Date.now() - this.#fellSilentAt < this.#patientForMs) return;
    this.#limitMs = this.#leastMs;
    this.#socket?.setTimeout(this.#leastMs);
  }
}
