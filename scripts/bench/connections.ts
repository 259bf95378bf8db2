// Clients that cost little, so that a thousand of them do not become what is measured: they speak websocket and
// Socket.IO on a bare network socket, and count the frames that carry the event without parsing them.
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';

export interface Wanted {
  readonly port: number;
  readonly protocol: 'socket.io' | 'ws';
  readonly count: number;
  /** What a client says when it joins: `auth` of its handshake. One for all, or one each. */
  readonly auths: readonly unknown[];
}

const REQUEST = (port: number, path: string) =>
  [
    `GET ${path} HTTP/1.1`,
    `Host: 127.0.0.1:${port}`,
    'Connection: Upgrade',
    'Upgrade: websocket',
    'Sec-WebSocket-Version: 13',
    'Sec-WebSocket-Key: cmVjYWRvIGJlbmNobWFyaw==',
    '\r\n',
  ].join('\r\n');

/** First letters of a frame with our event, `42["doctors.busy"`, and of what Socket.IO says besides. */
const EVENT_FRAME = Buffer.from('42["d');
const PING = '2'.charCodeAt(0);
const OPEN = '0'.charCodeAt(0);

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
    let upgraded = false;
    const onOther = (type: number, second: number | undefined) => {
      if (type === PING) socket.write(maskedText('3'));
      else if (type === OPEN) socket.write(maskedText(`40${JSON.stringify(auth)}`));
      // 40: accepted. The room is joined by then, or in the same tick.
      else if (second === OPEN) joined();
    };
    const onRead = (chunk: Buffer) => {
      let data = buffered ? Buffer.concat([buffered, chunk]) : chunk;
      buffered = null;
      if (!upgraded) {
        const end = data.indexOf('\r\n\r\n');
        if (end < 0) {
          buffered = Buffer.from(data);
          return;
        }
        upgraded = true;
        data = data.subarray(end + 4);
        if (protocol === 'ws') joined();
      }
      const rest = this.#takeFrames(data, onOther);
      if (rest < data.length) buffered = Buffer.from(data.subarray(rest));
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
    socket.write(REQUEST(port, protocol === 'ws' ? '/' : '/socket.io/?EIO=4&transport=websocket'));
    const closed = once(socket, 'close').then(() => {
      throw new Error('The server closed a connection instead of accepting it.');
    });
    closed.catch(() => undefined);
    await Promise.race([joining, closed]);
  }

  /** @returns where the first frame begins that is not complete */
  #takeFrames(data: Buffer, onOther: (type: number, second: number | undefined) => void): number {
    let at = 0;
    while (at + 2 <= data.length) {
      let length = data[at + 1]! & 0x7f;
      let header = 2;
      if (length === 126) {
        if (at + 4 > data.length) break;
        length = data.readUInt16BE(at + 2);
        header = 4;
      } else if (length === 127) {
        if (at + 10 > data.length) break;
        length = Number(data.readBigUInt64BE(at + 2));
        header = 10;
      }
      const start = at + header;
      if (start + length > data.length) break;
      if (
        data[start + 4] === EVENT_FRAME[4] &&
        data[start] === EVENT_FRAME[0] &&
        data[start + 1] === EVENT_FRAME[1]
      ) {
        this.#events += 1;
      } else if (length > 0) onOther(data[start]!, data[start + 1]);
      at = start + length;
    }
    return at;
  }
}

/** Clients must mask; a mask of zeros leaves the text as it is. */
function maskedText(text: string): Buffer {
  const payload = Buffer.from(text);
  const header =
    payload.length < 126
      ? Buffer.from([0x81, 0x80 | payload.length])
      : Buffer.from([0x81, 0x80 | 126, payload.length >> 8, payload.length & 0xff]);
  return Buffer.concat([header, Buffer.alloc(4), payload]);
}
