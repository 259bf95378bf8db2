// What cheap clients speak on a bare network socket. Each counts the messages that carry the event, by their first letters
// where it has to, and parses none.
export interface Heard {
  /** Everything sent to the room reaches it from now on. */
  joined(): void;
  event(): void;
  reply(data: Buffer): void;
}

export interface Speaker {
  /** Sent first. */
  readonly greeting: Buffer;
  /** @returns where the first message begins that is not complete */
  read(data: Buffer): number;
}

/** @param auth what it says when it joins: `auth` of Socket.IO's handshake */
export type Protocol = (heard: Heard, port: number, auth: unknown) => Speaker;

/** First letters of a message with our event, `42["doctors.busy"`, and of what Socket.IO says besides. */
const EVENT_MESSAGE = Buffer.from('42["d');
const PING = '2'.charCodeAt(0);
const OPEN = '0'.charCodeAt(0);

/** Where the natives' clients listen. */
export const TOPIC = 'events';

function upgradeRequest(port: number, path: string): Buffer {
  return Buffer.from(
    [
      `GET ${path} HTTP/1.1`,
      `Host: 127.0.0.1:${port}`,
      'Connection: Upgrade',
      'Upgrade: websocket',
      'Sec-WebSocket-Version: 13',
      'Sec-WebSocket-Key: cmVjYWRvIGJlbmNobWFyaw==',
      '\r\n',
    ].join('\r\n'),
  );
}

/** @param onOther told of the first two letters of every other message */
function websocket(
  heard: Heard,
  greeting: Buffer,
  onUpgrade: () => void,
  onOther: (first: number, second: number | undefined) => void,
): Speaker {
  let upgraded = false;
  return {
    greeting,
    read(data) {
      let at = 0;
      if (!upgraded) {
        const end = data.indexOf('\r\n\r\n');
        if (end < 0) return 0;
        upgraded = true;
        at = end + 4;
        onUpgrade();
      }
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
          data[start + 4] === EVENT_MESSAGE[4] &&
          data[start] === EVENT_MESSAGE[0] &&
          data[start + 1] === EVENT_MESSAGE[1]
        ) {
          heard.event();
        } else if (length > 0) onOther(data[start]!, data[start + 1]);
        at = start + length;
      }
      return at;
    },
  };
}

const ignore = () => {};

const socketIo: Protocol = (heard, port, auth) =>
  websocket(heard, upgradeRequest(port, '/socket.io/?EIO=4&transport=websocket'), ignore, (first, second) => {
    if (first === PING) heard.reply(maskedText('3'));
    else if (first === OPEN) heard.reply(maskedText(`40${JSON.stringify(auth)}`));
    // 40: accepted. The room is joined by then, or in the same tick.
    else if (second === OPEN) heard.joined();
  });

const ws: Protocol = (heard, port) =>
  websocket(heard, upgradeRequest(port, `/${TOPIC}`), () => heard.joined(), ignore);

/** Clients must mask; a mask of zeros leaves the text as it is. */
function maskedText(text: string): Buffer {
  const payload = Buffer.from(text);
  const header =
    payload.length < 126
      ? Buffer.from([0x81, 0x80 | payload.length])
      : Buffer.from([0x81, 0x80 | 126, payload.length >> 8, payload.length & 0xff]);
  return Buffer.concat([header, Buffer.alloc(4), payload]);
}

/** Lines; `MSG subject id bytes` is followed by so many bytes and a line's end. */
const nats: Protocol = (heard) => ({
  greeting: Buffer.from(`CONNECT {"verbose":false}\r\nSUB ${TOPIC} 1\r\nPING\r\n`),
  read(data) {
    let at = 0;
    for (;;) {
      const end = data.indexOf('\r\n', at);
      if (end < 0) return at;
      let next = end + 2;
      if (data[at] === LETTER_M) {
        next += Number(data.toString('latin1', data.lastIndexOf(' ', end) + 1, end)) + 2;
        if (next > data.length) return at;
        heard.event();
      } else if (data.toString('latin1', at, end) === 'PONG') heard.joined();
      else if (data.toString('latin1', at, end) === 'PING') heard.reply(Buffer.from('PONG\r\n'));
      at = next;
    }
  },
});
const LETTER_M = 'M'.charCodeAt(0);

/** Version 3.1.1, quality of service 0: packets of a type, a length of seven bits a byte, and a body. */
const mqtt: Protocol = (heard) => ({
  greeting: Buffer.concat([
    mqttConnect(),
    mqttPacket(0x82, Buffer.from([0, 1]), mqttText(TOPIC), Buffer.of(0)),
  ]),
  read(data) {
    let at = 0;
    while (at + 2 <= data.length) {
      let length = 0;
      let start = at + 1;
      for (let shift = 0; ; shift += 7) {
        const byte = data[start];
        if (byte === undefined) return at;
        start += 1;
        length |= (byte & 0x7f) << shift;
        if (byte < 0x80) break;
      }
      if (start + length > data.length) break;
      const type = data[at]! >> 4;
      if (type === MQTT_PUBLISH) heard.event();
      else if (type === MQTT_SUBACK) heard.joined();
      at = start + length;
    }
    return at;
  },
});
const MQTT_PUBLISH = 3;
const MQTT_SUBACK = 9;

/** Without a name and without a keep-alive. */
export function mqttConnect(): Buffer {
  return mqttPacket(0x10, mqttText('MQTT'), Buffer.from([4, 2, 0, 0]), mqttText(''));
}

export function mqttPublish(message: Buffer): Buffer {
  return mqttPacket(MQTT_PUBLISH << 4, mqttText(TOPIC), message);
}

function mqttText(text: string): Buffer {
  return Buffer.concat([Buffer.from([0, text.length]), Buffer.from(text)]);
}

function mqttPacket(type: number, ...parts: readonly Buffer[]): Buffer {
  const body = Buffer.concat(parts);
  const length: number[] = [];
  let rest = body.length;
  do {
    length.push((rest & 0x7f) | (rest > 0x7f ? 0x80 : 0));
    rest >>= 7;
  } while (rest > 0);
  return Buffer.concat([Buffer.from([type, ...length]), body]);
}

export const protocols = { 'socket.io': socketIo, ws, nats, mqtt } satisfies Record<string, Protocol>;
