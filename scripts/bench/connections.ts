// Clients that cost little, so that a thousand of them do not become what is measured: they speak on a bare network
// socket, and count what carries the event.
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { protocols } from './protocols.ts';

export interface Wanted {
  readonly port: number;
  readonly protocol: keyof typeof protocols;
  readonly count: number;
  /** What a client says when it joins: one for all, or one each. */
  readonly auths: readonly unknown[];
}

const SHARED = Buffer.alloc(64 * 1024);

export class Connections {
  readonly #sockets: Socket[] = [];
  #events = 0;
  #lost = 0;
  #awaited: { total: number; reached: () => void }[] = [];

  /** Events received by all. */
  get events(): number {
    return this.#events;
  }

  /** Connections that somebody else ended. */
  get lost(): number {
    return this.#lost;
  }

  async open({ port, protocol, count, auths }: Wanted): Promise<void> {
    // In small groups: a listening queue is short.
    for (let first = 0; first < count; first += 50) {
      const group = Array.from({ length: Math.min(50, count - first) }, (_, n) =>
        this.#openOne(port, protocol, auths[(first + n) % auths.length]),
      );
      await Promise.all(group);
    }
  }

  /** Resolves when so many events have been received since the start; with false when that takes too long. */
  async reach(total: number, withinMs: number): Promise<boolean> {
    if (this.#events >= total) return true;
    return new Promise<boolean>((resolve) => {
      const awaited = {
        total,
        reached: () => {
          clearTimeout(late);
          resolve(true);
        },
      };
      const late = setTimeout(() => {
        this.#awaited = this.#awaited.filter((other) => other !== awaited);
        resolve(false);
      }, withinMs);
      this.#awaited.push(awaited);
    });
  }

  close(): void {
    for (const socket of this.#sockets.splice(0)) socket.removeAllListeners('close').destroy();
  }

  async #openOne(port: number, protocol: Wanted['protocol'], auth: unknown): Promise<void> {
    let joined: () => void = () => {};
    const joining = new Promise<void>((resolve) => {
      joined = resolve;
    });
    let buffered: Buffer | null = null;
    const heard = {
      joined,
      event: () => {
        this.#events += 1;
      },
      reply: (data: Buffer) => void socket.write(data),
    };
    const speaker = protocols[protocol](heard, port, auth);
    const onRead = (chunk: Buffer) => {
      const data = buffered ? Buffer.concat([buffered, chunk]) : chunk;
      const rest = speaker.read(data);
      buffered = rest < data.length ? Buffer.from(data.subarray(rest)) : null;
      while (this.#awaited[0] && this.#events >= this.#awaited[0].total) this.#awaited.shift()!.reached();
    };
    const socket = connect({
      port,
      host: '127.0.0.1',
      noDelay: true,
      // All read into one buffer, without streams: half the CPU.
      onread: {
        buffer: SHARED,
        callback(bytes) {
          onRead(SHARED.subarray(0, bytes));
          return true;
        },
      },
    });
    await once(socket, 'connect');
    this.#sockets.push(socket);
    socket.on('error', () => undefined);
    socket.on('close', () => {
      this.#lost += 1;
    });
    socket.write(speaker.greeting);
    const closed = once(socket, 'close').then(() => {
      throw new Error('The server closed a connection instead of accepting it.');
    });
    closed.catch(() => undefined);
    await Promise.race([joining, closed]);
  }
}
