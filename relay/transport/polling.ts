// HTTP long-polling, which the stock client begins with: what is looked at before engine.io reads a request. A request
// of a session that is there passes neither allowRequest nor a budget of its own there.
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Server } from 'socket.io';
import { newSessionId } from './adapter.ts';
import type { Admission } from './admission.ts';
import { costOf } from './budget.ts';
import type { Refusals } from './refusals.ts';
import type { EngineConnection } from './socket-writer.ts';
import { budgetOf, keepBudget } from './websockets.ts';

type Engine = Server['engine'];

/** Between the packets of one request. */
const SEPARATOR = '\x1e';
/** A stock client that was away for long has a few dozen to send. They are decoded all at once. */
const MOST_PACKETS = 512;

export function guardPolling(engine: Engine, admission: Admission, refusals: Refusals): void {
  engine.use((request: IncomingMessage, response: ServerResponse, next: (error?: Error) => void) => {
    const { searchParams } = new URL(request.url ?? '/', 'http://relay');
    const address = admission.addressOf(request);
    // A script of a foreign page could read the answer. Nothing newer than Internet Explorer 9 asks for it.
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
      return;
    }
    // Its body is not read before the budget has something in it again, nor is its sender answered.
    const wait = budgetOf(connection).spend(1);
    if (wait === 0) next();
    else if (wait < Number.POSITIVE_INFINITY) setTimeout(next, wait).unref();
    else {
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
 * Tells a load balancer which session this node has just begun (deploy/haproxy.cfg). What follows brings its id in the
 * address. A cookie would not come back from pages of another site.
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

function connectionOf(engine: Engine, sid: string): EngineConnection | undefined {
  const { clients } = engine as unknown as { clients: Record<string, EngineConnection> };
  return Object.hasOwn(clients, sid) ? clients[sid] : undefined;
}

/** Counts the packets of a body before they are decoded: 80,000 CONNECTs in 240 KB held the process for 3.4 s. */
function boundBodies(connection: EngineConnection, onRefused: (address: string) => void): void {
  const transport = connection.transport as unknown as { onData(data: unknown): void };
  const { onData } = transport;
  transport.onData = (data) => {
    if (hasMoreThan(MOST_PACKETS, String(data))) {
      onRefused(connection.remoteAddress);
      connection.close(true);
    } else onData.call(transport, data);
  };
}

export function hasMoreThan(most: number, body: string): boolean {
  let packets = 1;
  for (let at = body.indexOf(SEPARATOR); at >= 0; at = body.indexOf(SEPARATOR, at + 1)) {
    packets += 1;
    if (packets > most) return true;
  }
  return false;
}

/** Shared by all sessions. After an upgrade the websocket pays (websockets.ts). */
function onPacket(this: EngineConnection, packet: { data?: unknown }): void {
  if (this.transport.name !== 'polling') return;
  const length = typeof packet.data === 'string' ? packet.data.length : 0;
  if (budgetOf(this).spend(costOf(length)) === Number.POSITIVE_INFINITY) this.close(true);
}

function onUpgrade(this: EngineConnection, transport: { socket?: object }): void {
  if (transport.socket) keepBudget(this, transport.socket);
}
