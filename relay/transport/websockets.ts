// Websockets that are read only as fast as their budget allows. Below Socket.IO, so that it holds for everything that
// can be sent: packets, pings of the websocket, and what comes before a polling session is upgraded.
import { type WebSocket, WebSocketServer } from 'ws';
import { Budget, CONNECTION_BUDGET, costOf } from './budget.ts';
import type { EngineConnection } from './socket-writer.ts';

/** A message of a client of ours comes in one piece. */
const MOST_FRAGMENTS = 16;

const budgets = new WeakMap<object, Budget>();

/** The budget of a websocket, or of a polling session. */
export function budgetOf(connection: object): Budget {
  const known = budgets.get(connection);
  if (known) return known;
  const budget = new Budget(CONNECTION_BUDGET);
  budgets.set(connection, budget);
  return budget;
}

/** The key of the budget that pays: the websocket, which is metered below Socket.IO, or the polling session. */
export function meterOf(connection: EngineConnection): object {
  const { transport } = connection as { transport: { name: string; socket?: object } };
  return (transport.name === 'websocket' && transport.socket) || connection;
}

/** A session that goes on over another transport has one budget. */
export function keepBudget(from: object, to: object): void {
  budgets.set(to, budgetOf(from));
}

/** Made by engine.io with the options of a WebSocketServer. */
export class MeteredWebSockets extends WebSocketServer {
  constructor(options: ConstructorParameters<typeof WebSocketServer>[0]) {
    super({ ...options, maxFragments: MOST_FRAGMENTS } as typeof options);
  }

  override handleUpgrade(
    ...[request, socket, head, done]: Parameters<WebSocketServer['handleUpgrade']>
  ): void {
    super.handleUpgrade(request, socket, head, (webSocket, upgraded) => {
      // Before engine.io's own listeners: what ends a connection is handled by nobody.
      webSocket.on('message', onMessage);
      webSocket.on('ping', onControl);
      webSocket.on('pong', onControl);
      done(webSocket, upgraded);
    });
  }
}

// Of all websockets: a closure for each would stay as long as its connection.

function onMessage(this: WebSocket, data: unknown): void {
  const { byteLength = 0 } = data as { byteLength?: number };
  pay(this, costOf(byteLength));
}

function onControl(this: WebSocket): void {
  pay(this, 1);
}

function pay(webSocket: WebSocket, cost: number): void {
  const wait = budgetOf(webSocket).spend(cost);
  if (wait === 0) return;
  if (wait === Number.POSITIVE_INFINITY) {
    endUnread(webSocket);
    return;
  }
  if (webSocket.isPaused) return;
  // What was read from the network before is still handed on: no more than one chunk, 64 KiB.
  webSocket.pause();
  waitToRead(webSocket, wait);
}

/** Reads on when the budget is no longer empty; what came meanwhile made it wait longer. */
function waitToRead(webSocket: WebSocket, ms: number): void {
  setTimeout(() => {
    const rest = budgetOf(webSocket).spend(0);
    if (rest > 0 && rest < Number.POSITIVE_INFINITY) waitToRead(webSocket, rest);
    else webSocket.resume();
  }, ms).unref();
}

/** At network level, and nobody hears what is still in the chunk that was read. */
function endUnread(webSocket: WebSocket): void {
  for (const event of ['message', 'ping', 'pong']) webSocket.removeAllListeners(event);
  webSocket.terminate();
}
