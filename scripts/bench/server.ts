// The server of a peer, in a process of its own, as the documentation of its parts shows it. PEER says which.
import { createServer } from 'node:http';
import type { Socket } from 'node:net';
import { createAdapter } from '@socket.io/postgres-adapter';
import pg from 'pg';
import pgListen from 'pg-listen';
import { Server } from 'socket.io';
import * as ws from 'ws';
import type { Metrics } from '../../relay/metrics.ts';
import { portOf } from '../../relay/port.ts';
import { answerParent, readUsage } from './child.ts';
import { compiled } from './compiled.ts';
import { whoHolds } from './heap.ts';
import { type PeerName, room } from './peers.ts';

interface Running {
  readonly port: number;
  /** One tick: so many emits of the event to the room of the account. */
  emit?(given: { account: number; event: string; payload: unknown; times: number }): void;
  readonly metrics?: Metrics;
}

const { readSettings } =
  await compiled<typeof import('../../relay/config/settings.ts')>('config/settings.js');
const { createLog } = await compiled<typeof import('../../relay/log.ts')>('log.js');
const { startHub } = await compiled<typeof import('../../relay/server/hub.ts')>('server/hub.js');
const { startRelay } = await compiled<typeof import('../../relay/server/relay.ts')>('server/relay.js');

const databaseUrl = process.env.DATABASE_URL!;

/** What the Socket.IO peers have in common; none of them verifies a token. */
async function startSocketIo(): Promise<{ io: Server; port: number }> {
  const server = createServer();
  const io = new Server(server);
  io.on('connection', (socket) => {
    void socket.join(room(String(socket.handshake.auth.account)));
  });
  server.listen(0, '127.0.0.1');
  await new Promise((resolve) => server.once('listening', resolve));
  return { io, port: portOf(server) };
}

function stock({ io, port }: { io: Server; port: number }): Running {
  return {
    port,
    emit({ account, event, payload, times }) {
      for (let n = 0; n < times; n += 1) io.to(room(account)).emit(event, payload);
    },
  };
}

/** With what @types/ws leaves out. */
type WsClient = ws.WebSocket & { readonly _socket: Socket };

async function startWs(broadcast: (clients: Set<WsClient>, message: Buffer) => void): Promise<Running> {
  const server = new ws.WebSocketServer({ port: 0, host: '127.0.0.1', perMessageDeflate: false });
  const clients = server.clients as Set<WsClient>;
  await new Promise((resolve) => server.once('listening', resolve));
  return {
    port: portOf(server),
    emit({ event, payload, times }) {
      const message = Buffer.from(`42${JSON.stringify([event, payload])}`);
      for (let n = 0; n < times; n += 1) broadcast(clients, message);
    },
  };
}

interface Told {
  account: string;
  event: string;
  payload: unknown;
}

const starts: Record<Exclude<PeerName, 'none' | 'outbox' | 'muted'> | 'hub', () => Promise<Running>> = {
  async textbook() {
    const started = await startSocketIo();
    const subscriber = pgListen.default<{ events: Told }>({ connectionString: databaseUrl });
    subscriber.notifications.on('events', ({ account, event, payload }) => {
      started.io.to(room(account)).emit(event, payload);
    });
    subscriber.events.on('error', (error) => process.stderr.write(`${String(error)}\n`));
    await subscriber.connect();
    await subscriber.listenTo('events');
    return stock(started);
  },

  /** The adapter in version 0.3.1: later ones drop what the newest emitter (0.1.1) sends, because it has no `nsp`. */
  async emitter() {
    const started = await startSocketIo();
    const pool = new pg.Pool({ connectionString: databaseUrl });
    started.io.adapter(createAdapter(pool));
    // The adapter LISTENs when its namespace is made, and says nothing when it does.
    for (let listening = false; !listening; ) {
      const { rows } = await pool.query<{ listening: boolean }>(
        `select exists (select from pg_stat_activity
           where datname = current_database() and query ilike 'listen%') as listening`,
      );
      listening = rows[0]!.listening;
    }
    return stock(started);
  },

  async cursor() {
    const started = await startSocketIo();
    const pool = new pg.Pool({ connectionString: databaseUrl, max: 1 });
    const start = await pool.query<{ last: string }>(
      'select coalesce(max(id), 0) as last from public.outbox',
    );
    let last = start.rows[0]!.last;
    let reading = false;
    let again = false;
    const read = async () => {
      again = true;
      if (reading) return;
      reading = true;
      while (again) {
        again = false;
        const { rows } = await pool.query<{ id: string } & Told>(
          'select id, account_id as account, event, payload from public.outbox where id > $1 order by id limit 1000',
          [last],
        );
        for (const { account, event, payload } of rows) started.io.to(room(account)).emit(event, payload);
        last = rows.at(-1)?.id ?? last;
        if (rows.length === 1_000) again = true;
      }
      reading = false;
    };
    const subscriber = pgListen.default<{ outbox: string }>(
      { connectionString: databaseUrl },
      { parse: (text) => text },
    );
    subscriber.notifications.on('outbox', () => void read());
    subscriber.events.on('error', (error) => process.stderr.write(`${String(error)}\n`));
    await subscriber.connect();
    await subscriber.listenTo('outbox');
    return stock(started);
  },

  async recado() {
    const settings = readSettings();
    const relay = await startRelay({
      databaseUrl,
      jwt: settings.jwt,
      settings,
      log: createLog('warn', false),
    });
    await relay.ready();
    return { port: relay.port, metrics: relay.metrics };
  },

  async hub() {
    const settings = readSettings(process.env, 'hub');
    const hub = await startHub({
      databaseUrl,
      streamUrl: settings.stream.url!,
      settings,
      log: createLog('warn', false),
    });
    await hub.ready();
    return { port: Number(new URL(hub.url).port) };
  },

  /** What its documentation shows as a broadcast, of a message made beforehand. No rooms, no heartbeat. */
  async ws() {
    return startWs((clients, message) => {
      for (const client of clients) {
        if (client.readyState === ws.WebSocket.OPEN) client.send(message, { binary: false });
      }
    });
  },

  /** The floor of fan-out: the frame is made beforehand, too, and written past the library. */
  async wire() {
    const { Sender } = ws as unknown as { Sender: { frame(data: Buffer, options: object): Buffer[] } };
    const options = { fin: true, rsv1: false, opcode: 1, mask: false, readOnly: true };
    let framed: { message: Buffer; frame: Buffer } | null = null;
    return startWs((clients, message) => {
      if (framed?.message !== message)
        framed = { message, frame: Buffer.concat(Sender.frame(message, options)) };
      for (const client of clients) client._socket.write(framed.frame);
    });
  },
};

/** What a metric has counted, over all its labels. */
async function totalOf({ registry }: Metrics, name: string): Promise<number> {
  const metric = await registry.getSingleMetric(name)?.get();
  return metric?.values.reduce((total, { value }) => total + value, 0) ?? 0;
}

const running = await starts[process.env.PEER as keyof typeof starts]();
answerParent({
  port: () => running.port,
  emit: (given: Parameters<NonNullable<Running['emit']>>[0]) => running.emit!(given),
  metric: (name: string) => totalOf(running.metrics!, name),
  usage: () => readUsage(),
  whoHolds: () => whoHolds(),
  async usageAfterCollection() {
    global.gc?.();
    // A second collection frees what the first made unreachable. Pages are given back to the system with a delay.
    await new Promise((resolve) => setTimeout(resolve, 1_000));
    global.gc?.();
    return readUsage();
  },
});
