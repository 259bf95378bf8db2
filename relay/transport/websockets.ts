// Websockets that are read only as fast as their budget allows. This sits below Socket.IO, so it covers everything that
// a client can send: packets, websocket pings, and what arrives before a polling session is upgraded.
import { type WebSocket, WebSocketServer } from 'ws';
import { Budget, CONNECTION_BUDGET, costOf } from './limits/budget.ts';
import type { EngineConnection } from './socket-writer.ts';

/** Stock clients send a message in one fragment. */
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

/** The key of the budget to charge: the websocket, which is metered below Socket.IO, or the polling session. */
export function meterOf(connection: EngineConnection): object {
  const { transport } = connection;
  // A field of the websocket's transport only.
  const socket: object | undefined = Reflect.get(transport, 'socket');
  return (transport.name === 'websocket' && socket) || connection;
}

/** A session keeps its budget when it moves to another transport. */
export function keepBudget(from: object, to: object): void {
  budgets.set(to, budgetOf(from));
}

/** engine.io constructs it with the options of a WebSocketServer. */
export class MeteredWebSockets extends WebSocketServer {
  constructor(options: ConstructorParameters<typeof WebSocketServer>[0]) {
    super({ ...options, maxFragments: MOST_FRAGMENTS });
  }

  override handleUpgrade(
    ...[request, socket, head, done]: Parameters<WebSocketServer['handleUpgrade']>
  ): void {
    super.handleUpgrade(request, socket, head, (webSocket, upgraded) => {
      // Registered before engine.io's own listeners, so that the message that ends a connection is not handled.
      webSocket.on('message', onMessage);
      webSocket.on('ping', onControl);
      webSocket.on('pong', onControl);
      done(webSocket, upgraded);
    });
  }
}

// Shared by all websockets: a closure for each would take memory while its connection lasts.

function onMessage(this: WebSocket, data: WebSocket.RawData): void {
  // An array only if a server asks `ws` for fragments, which engine.io does not.
  pay(this, costOf(Array.isArray(data) ? 0 : data.byteLength));
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
  // What was already read from the network is still handled, at most one chunk of 64 KiB.
  webSocket.pause();
  waitToRead(webSocket, wait);
}

/** Resumes once the budget has refilled. Whatever arrived meanwhile prolongs the wait. */
function waitToRead(webSocket: WebSocket, ms: number): void {
  const timer = setTimeout(() => {
    webSocket.off('close', forget);
    const rest = budgetOf(webSocket).spend(0);
    if (rest > 0 && rest < Number.POSITIVE_INFINITY) waitToRead(webSocket, rest);
    else webSocket.resume();
  }, ms).unref();
  // The timer would keep the connection and the last chunk it read, 64 KiB, for up to fifty seconds.
  const forget = () => clearTimeout(timer);
  webSocket.once('close', forget);
}

/** Ends the connection at network level, without handling the rest of the chunk that was read. */
function endUnread(webSocket: WebSocket): void {
  for (const event of ['message', 'ping', 'pong']) webSocket.removeAllListeners(event);
  webSocket.terminate();
}
