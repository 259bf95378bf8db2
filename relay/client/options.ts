// What an application says to connect(), and what it gets.
import type { ManagerOptions, Socket, SocketOptions } from 'socket.io-client';
import type { LiveList, LiveListOptions } from './live-list.ts';
import type { Store } from './store.ts';

/** A handler per event, as `recado contract --format typescript` prints them. */
export type AnyEvents = Record<string, (payload: unknown, position: string) => void>;

export interface ConnectOptions {
  /** Of the relay; the page's own origin by default. */
  url?: string;
  /** Asked before every connection, and before the token of a live one expires. May fail: it is asked again. */
  token: () => string | Promise<string>;
  /** Fewer events than may be heard: names, or beginnings of names with a * behind them. */
  events?: readonly string[];
  /**
   * Loads what is shown and returns its position: what `relay.position()` said in the transaction that selected it.
   * Called before the first connection, and again after a relay:resync. Events from that position on follow, none of
   * them twice. For one request that loads the whole page; liveList() is for lists with requests of their own.
   */
  getState?: () => Promise<string>;
  /** Something was missed that cannot be told event by event. getState and live lists load again by themselves. */
  onResync?: (reason: string) => void;
  /**
   * The relay refuses the token (token_expired, token_revoked, …), or code of the application failed:
   * token_unavailable, state_unavailable, load_failed, reducer_failed, handler_failed.
   */
  onError?: (error: ClientError) => void;
  /** For socket.io-client, besides what is set here. */
  socket?: Partial<ManagerOptions & SocketOptions>;
}

export interface ClientError {
  readonly code: string;
  readonly message: string;
  /** What was thrown. */
  readonly cause?: unknown;
}

/**
 * connecting: not live yet; what is shown may be loading. live: events arrive as they commit.
 * reconnecting: cut off; what is missed arrives later. refused: no connection until `socket.connect()`.
 */
export type Status = 'connecting' | 'live' | 'reconnecting' | 'refused' | 'closed';

export interface Client<Events extends object = AnyEvents> {
  /**
   * A handler that throws is reported as handler_failed and not given its event again.
   * @returns how to take the handler off
   */
  on<E extends keyof Events & string>(event: E, handler: Events[E]): () => void;
  /** Loads rows and keeps them up to date with events. It works until it or the client is closed. */
  liveList<Row>(options: LiveListOptions<Row, Events>): LiveList<Row>;
  readonly status: Store<Status>;
  /** Every event up to it has been handed to its handlers. null: nothing yet. */
  readonly position: string | null;
  /** The socket beneath, for what is not here. */
  readonly socket: Socket;
  close(): void;
}
