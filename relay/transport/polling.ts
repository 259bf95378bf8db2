// Checks HTTP long-polling requests before engine.io reads them. The stock client begins with polling, and engine.io
// calls allowRequest only for the first request of a session.
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Server } from 'socket.io';
import { newSessionId } from './adapter.ts';
import type { Admission } from './limits/admission.ts';
import { costOf } from './limits/budget.ts';
import type { Refusals } from './limits/refusals.ts';
import type { EngineConnection } from './socket-writer.ts';
import { budgetOf, keepBudget } from './websockets.ts';

type Engine = Server['engine'];

/** Separates the packets of one request. */
const SEPARATOR = '\x1e';
/** engine.io decodes all packets of a request at once. A stock client after a long absence sends a few dozen. */
const MOST_PACKETS = 512;

export function guardPolling(engine: Engine, admission: Admission, refusals: Refusals): void {
  engine.use((request: IncomingMessage, response: ServerResponse, next: (error?: Error) => void) => {
    const { searchParams } = new URL(request.url ?? '/', 'http://relay');
    const address = admission.addressOf(request);
    // JSONP lets a script on any page read the answer. Only Internet Explorer 9 and older need it.
    if (searchParams.has('j')) {
      refusals.note('jsonp_refused', { address });
      next(new Error('jsonp_refused'));
      return;
    }
    if (!admission.knowsOrigin(request)) {
      refusals.note('origin_refused', { address, origin: request.headers.origin ?? '' });
      next(new Error('origin_refused'));
      return;
    }
    const sid = searchParams.get('sid');
    const connection = sid === null ? undefined : connectionOf(engine, sid);
    if (sid !== null && !connection) refusals.note('session_unknown', { address });
    if (request.method !== 'POST' || !connection) {
      next();
      // What engine.io passes for a response here lives as long as the websocket, and its request with it.
      if (request.headers.upgrade !== undefined) Object.assign(response, { req: null });
      return;
    }
    // engine.io refuses a body that is too long, and would keep its session, and read on.
    response.once('finish', () => {
      if (response.statusCode !== 413) return;
      refusals.note('body_refused', { address });
      connection.close(true);
      request.destroy();
    });
    // Neither reads the body nor answers until the budget has refilled.
    const wait = budgetOf(connection).spend(1);
    if (wait === 0) next();
    else if (wait < Number.POSITIVE_INFINITY) {
      const timer = setTimeout(next, wait).unref();
      // The timer would keep a request whose client has left.
      response.once('close', () => clearTimeout(timer));
    } else {
      connection.close(true);
      response.destroy();
    }
  });
  engine.on('connection', (connection: EngineConnection) => {
    if (connection.transport.name !== 'polling') return;
    boundBodies(connection, (address) => refusals.note('body_refused', { address }));
    connection.on('packet', onPacket);
    connection.once('upgrade', onUpgrade);
  });
}

/**
 * Tells a load balancer which session this node has just begun (deploy/haproxy.cfg). Later requests carry the session
 * id in their URL. Browsers would not return a cookie from pages of another site.
 */
export function announceSessions(engine: Engine): void {
  const begun = new WeakMap<IncomingMessage, string>();
  engine.generateId = (request: IncomingMessage) => {
    const id = newSessionId();
    begun.set(request, id);
    return id;
  };
  engine.on('initial_headers', (headers: Record<string, string>, request: IncomingMessage) => {
    const id = begun.get(request);
    if (id !== undefined) headers['engine-session'] = id;
  });
}

/** engine.io's open connections by session id, a field that its types do not declare. */
export function clientsOf(engine: Engine): Readonly<Record<string, EngineConnection>> {
  return Reflect.get(engine, 'clients');
}

function connectionOf(engine: Engine, sid: string): EngineConnection | undefined {
  const clients = clientsOf(engine);
  return Object.hasOwn(clients, sid) ? clients[sid] : undefined;
}

/** Counts a body's packets before they are decoded: 80,000 CONNECTs in 240 KB blocked the process for 3.4 s. */
function boundBodies(connection: EngineConnection, onRefused: (address: string) => void): void {
  const { transport } = connection;
  // Protected in engine.io's types.
  const onData: (data: unknown) => void = Reflect.get(transport, 'onData');
  Object.assign(transport, {
    onData(data: unknown) {
      if (hasMoreThan(MOST_PACKETS, String(data))) {
        onRefused(connection.remoteAddress);
        connection.close(true);
      } else onData.call(transport, data);
    },
  });
}

export function hasMoreThan(most: number, body: string): boolean {
  let packets = 1;
  for (let at = body.indexOf(SEPARATOR); at >= 0; at = body.indexOf(SEPARATOR, at + 1)) {
    packets += 1;
    if (packets > most) return true;
  }
  return false;
}

/** Charges a polling session. After an upgrade its websocket is charged (websockets.ts). */
function onPacket(this: EngineConnection, packet: { data?: unknown }): void {
  if (this.transport.name !== 'polling') return;
  const length = typeof packet.data === 'string' ? packet.data.length : 0;
  if (budgetOf(this).spend(costOf(length)) === Number.POSITIVE_INFINITY) this.close(true);
}

function onUpgrade(this: EngineConnection, transport: { socket?: object }): void {
  if (transport.socket) keepBudget(this, transport.socket);
}
