// Deliveries as bytes. Each form is encoded once, on first use, and shared by all clients that hear the same events.
import type { Delivery } from './deliveries.ts';
import { markPosition } from './hears.ts';

/** Packet types: engine.io's message, and Socket.IO's event in the root namespace. */
const MESSAGE = '4';
const EVENT = '2';

/** Deliveries of one account. */
export class Encoded {
  readonly count: number;
  readonly #deliveries: readonly Delivery[];
  #packets: string[] | null = null;
  #joined: Buffer | null = null;
  #stream: Buffer | null = null;
  #bare: Encoded | null = null;
  readonly #marked = new Map<string, Encoded>();

  constructor(deliveries: readonly Delivery[]) {
    this.#deliveries = deliveries;
    this.count = deliveries.length;
  }

  /** Socket.IO packets, each an event with its payload and, last, its position. */
  get packets(): string[] {
    // The payload is JSON already: it is neither parsed nor serialised again.
    this.#packets ??= this.#deliveries.map(({ event, payload, position }) =>
      position === ''
        ? `${EVENT}[${JSON.stringify(event)},${payload}]`
        : `${EVENT}[${JSON.stringify(event)},${payload},${JSON.stringify(position)}]`,
    );
    return this.#packets;
  }

  /** The packets as websocket frames, joined. */
  get joined(): Buffer {
    this.#joined ??= Buffer.concat(this.packets.flatMap((packet) => textFrame(MESSAGE + packet)));
    return this.#joined;
  }

  /** As Server-Sent Events: the position is the id, which a client sends back as Last-Event-ID. */
  get stream(): Buffer {
    this.#stream ??= Buffer.from(this.#deliveries.map(serverSentEvent).join(''));
    return this.#stream;
  }

  /** For clients whose handlers take one argument: events without positions, then one event with the position. */
  get bare(): Encoded {
    if (this.#bare) return this.#bare;
    const events = this.#deliveries.map((delivery) => ({ ...delivery, position: '' }));
    const last = this.#deliveries.at(-1)?.position ?? '';
    // relay:position itself is not followed by another one.
    if (last !== '') events.push({ event: 'relay:position', payload: JSON.stringify(last), position: '' });
    this.#bare = new Encoded(events);
    return this.#bare;
  }

  /** For a client whose topics have changed within its session: see hearingOf(). */
  marked(hearing: string): Encoded {
    let marked = this.#marked.get(hearing);
    if (!marked) {
      marked = new Encoded(this.#deliveries.map((delivery) => mark(delivery, hearing)));
      this.#marked.set(hearing, marked);
    }
    return marked;
  }
}

function mark(delivery: Delivery, hearing: string): Delivery {
  const { payload, position } = delivery;
  if (position !== '') return { ...delivery, position: markPosition(position, hearing) };
  // relay:position carries the position as its payload.
  return { ...delivery, payload: JSON.stringify(markPosition(JSON.parse(payload), hearing)) };
}

/** A line break would end the data line; JSON as Postgres prints it has none. */
function serverSentEvent({ event, payload, position }: Delivery): string {
  // relay:position carries the position as its payload.
  const id: string = position === '' ? JSON.parse(payload) : position;
  return `event: ${event}\nid: ${id}\ndata: ${payload}\n\n`;
}

/** RFC 6455 §5.2: one final, unmasked text frame. */
function textFrame(text: string): [header: Buffer, payload: Buffer] {
  const payload = Buffer.from(text);
  const { length } = payload;
  let header: Buffer;
  if (length < 126) header = Buffer.from([0x81, length]);
  else if (length < 65_536) {
    header = Buffer.from([0x81, 126, 0, 0]);
    header.writeUInt16BE(length, 2);
  } else {
    header = Buffer.alloc(10);
    header.set([0x81, 127]);
    header.writeBigUInt64BE(BigInt(length), 2);
  }
  return [header, payload];
}
