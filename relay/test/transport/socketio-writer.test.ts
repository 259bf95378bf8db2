// Frames that are written past engine.io, between those that engine.io writes.
import { createServer, type Server as HttpServer } from 'node:http';
import { Server, type Socket as ServerSocket } from 'socket.io';
import type { ManagerOptions } from 'socket.io-client';
import type { Delivery } from '../../delivery/deliveries.ts';
import { Encoded } from '../../delivery/encode.ts';
import { portOf } from '../../port.ts';
import { RelayAdapter } from '../../transport/adapter.ts';
import { writerOf } from '../../transport/socket-writer.ts';
import { client, ends, range } from '../one-database.ts';
import { type Client, until } from '../world.ts';

describe('fan-out', () => {
  let http: HttpServer;
  let io: Server;
  const sockets: ServerSocket[] = [];

  beforeEach(async () => {
    http = createServer();
    io = new Server(http, {
      adapter: RelayAdapter,
      perMessageDeflate: false,
      pingInterval: 20,
      pingTimeout: 20_000,
      maxHttpBufferSize: 1e8,
    });
    sockets.length = 0;
    io.on('connection', (socket) => sockets.push(socket));
    await new Promise<void>((resolve) => http.listen(0, '127.0.0.1', resolve));
    ends.push(() => io.close());
  });

  /** A client and the server's end of it. */
  async function pair(options: Partial<ManagerOptions> = {}): Promise<[Client, ServerSocket]> {
    const c = client(portOf(http), {}, options);
    await until('it is connected', () => c.socket.connected);
    const { id } = c.socket;
    const socket = await until('the server has it', () => sockets.find((one) => one.id === id));
    return [c, socket];
  }

  const delivery = (payload: unknown, event = 'e', position = 'p'): Delivery => ({
    event,
    payload: JSON.stringify(payload),
    position,
  });

  test('frames of every length arrive as they are, also where the length takes another form', async () => {
    const [c, socket] = await pair();
    const empty = '42["e","","p"]'.length;
    const lengths = [0, 1, 125, 126, 127, 65_535, 65_536, 65_537, 1_000_000].map((n) =>
      Math.max(n - empty, 0),
    );
    const texts = lengths.map((length) => 'x'.repeat(length));
    // Bytes count, not characters.
    texts.push(...[125, 126, 65_535, 65_536].map((n) => 'é'.repeat((n - empty) >> 1)));
    const writer = writerOf(socket.conn);
    writer.write(new Encoded(texts.map((text) => delivery(text))));
    for (const text of texts) writer.write(new Encoded([delivery(text)]));
    const heard = await c.hears(2 * texts.length);
    for (const [i, text] of [...texts, ...texts].entries()) expect(heard[i] === text).toBe(true);
  });

  test('the joined frames, the ordinary path and Socket.IO’s own emits keep one order', async () => {
    const clients = await Promise.all([
      pair(),
      pair(),
      pair({ transports: ['polling'] }),
      pair({ transports: ['polling', 'websocket'] }),
    ]);
    // Internals that are not as expected: the ordinary path.
    const [, forced] = clients[1]!;
    Object.defineProperty(forced.conn.transport, 'perMessageDeflate', { value: {}, writable: true });
    const packets = clients.map(([, { conn }]) => {
      const counted = { writes: 0 };
      const ordinary = conn.write.bind(conn);
      conn.write = (...args) => {
        counted.writes += 1;
        return ordinary(...args);
      };
      return counted;
    });

    const writers = clients.map(([, socket]) => writerOf(socket.conn));
    let n = 0;
    for (let round = 0; round < 300; round += 1) {
      const size = round % 4;
      if (size === 0) {
        n += 1;
        for (const [, socket] of clients) socket.emit('own', n, 'p');
      } else {
        const encoded = new Encoded(
          Array.from({ length: size }, () => {
            n += 1;
            return delivery(round % 50 === 1 ? { n, filler: 'x'.repeat(100_000) } : n);
          }),
        );
        for (const writer of writers) writer.write(encoded);
      }
      // A write of engine.io is out when its callback has come.
      if (round % 4 === 0) await new Promise(setImmediate);
      if (round % 50 === 0) await new Promise((resolve) => setTimeout(resolve, 5));
    }
    for (const [c] of clients) {
      const heard = (await c.hears(n)).map((one) =>
        typeof one === 'number' ? one : (one as { n: number }).n,
      );
      expect(heard).toEqual(range(1, n));
    }
    // The first went by the quick path most of the time, the second never.
    expect(packets[1]!.writes).toBeGreaterThanOrEqual(n);
    expect(packets[0]!.writes).toBeLessThan(n / 2);
  });

  test('a connection keeps one writer when its client leaves and joins again', async () => {
    const [c, first] = await pair({ transports: ['polling'] });
    const { engine } = c.socket.io;
    const before = sockets.length;
    // DISCONNECT and CONNECT of Socket.IO's protocol. Both in one request are an error to it: it closes the connection.
    engine.write('1');
    await until('it has left', () => first.disconnected);
    engine.write('0');
    const second = await until('it has joined again', () => sockets[before]);
    expect(second.conn === first.conn).toBe(true);
    expect(second.id).not.toBe(first.id);
    expect(writerOf(second.conn) === writerOf(first.conn)).toBe(true);
    for (const socket of [first, second, first]) writerOf(socket.conn).write(new Encoded([delivery('x')]));
    expect(second.conn.listenerCount('flush')).toBe(1);
  });

  test('the position is what the client keeps, and a payload that is text is not taken for it', async () => {
    const [c, socket] = await pair();
    writerOf(socket.conn).write(
      new Encoded([delivery('text', 'e', 'position 1'), delivery({ a: 1 }, 'e', 'position 2')]),
    );
    await c.hears(2);
    expect(c.heard.map(({ position }) => position)).toEqual(['position 1', 'position 2']);
  });
});
