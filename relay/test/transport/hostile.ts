// Clients that mean harm, on bare network sockets: what no library sends.
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';

const MASK = Buffer.alloc(4);

/** A masked frame of a client; a mask of zeros leaves the text as it is. */
export function frame(opcode: number, text: string | Buffer): Buffer {
  const payload = Buffer.from(text);
  const { length } = payload;
  if (length > 65_535) throw new Error('short frames only');
  const header =
    length < 126
      ? Buffer.from([0x80 | opcode, 0x80 | length])
      : Buffer.from([0x80 | opcode, 0x80 | 126, length >> 8, length & 0xff]);
  return Buffer.concat([header, MASK, payload]);
}

export const TEXT = 1;
export const PING = 9;

/** What the server has sent, as text frames; a frame that is not whole yet waits. */
export class RawSocket {
  readonly network: Socket;
  readonly texts: string[] = [];
  closed = false;
  #rest = Buffer.alloc(0);
  #upgraded = false;

  private constructor(network: Socket) {
    this.network = network;
    network.on('error', () => undefined);
    network.on('close', () => {
      this.closed = true;
    });
    network.on('data', (chunk: Buffer) => this.#read(chunk));
  }

  static async open(port: number, path = '/socket.io/?EIO=4&transport=websocket'): Promise<RawSocket> {
    const network = connect(port, '127.0.0.1');
    const socket = new RawSocket(network);
    await once(network, 'connect');
    network.write(
      `GET ${path} HTTP/1.1\r\nHost: 127.0.0.1:${port}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: cmVjYWRvIGJlbmNobWFyaw==\r\n\r\n`,
    );
    return socket;
  }

  send(...texts: string[]): void {
    this.network.write(Buffer.concat(texts.map((text) => frame(TEXT, text))));
  }

  #read(chunk: Buffer): void {
    let data = Buffer.concat([this.#rest, chunk]);
    if (!this.#upgraded) {
      const end = data.indexOf('\r\n\r\n');
      if (end < 0) {
        this.#rest = data;
        return;
      }
      this.#upgraded = true;
      data = data.subarray(end + 4);
    }
    for (;;) {
      if (data.length < 2) break;
      let length = data[1]! & 0x7f;
      let start = 2;
      if (length === 126) {
        if (data.length < 4) break;
        length = data.readUInt16BE(2);
        start = 4;
      } else if (length === 127) {
        if (data.length < 10) break;
        length = Number(data.readBigUInt64BE(2));
        start = 10;
      }
      if (data.length < start + length) break;
      if ((data[0]! & 0x0f) === TEXT) this.texts.push(data.subarray(start, start + length).toString());
      data = data.subarray(start + length);
    }
    this.#rest = data;
  }
}

/** A session over long-polling, as its first request opens it. */
export async function openPolling(port: number, headers: Record<string, string> = {}): Promise<string> {
  const response = await fetch(`http://127.0.0.1:${port}/socket.io/?EIO=4&transport=polling`, { headers });
  const { sid } = JSON.parse((await response.text()).slice(1)) as { sid: string };
  return `http://127.0.0.1:${port}/socket.io/?EIO=4&transport=polling&sid=${sid}`;
}
