// One client and its connection. Socket.IO (transport/socketio.ts) and Server-Sent Events (transport/sse.ts) each
// implement ClientConnection.
import type { Identity } from '../auth/token.ts';
import type { Position } from '../outbox/position.ts';
import type { ResyncReason } from './deliveries.ts';
import type { Encoded } from './encode.ts';
import type { EventChoice } from './event-choice.ts';

export interface ClientConnection {
  /** For the log. */
  readonly id: string;
  readonly address: string;
  readonly open: boolean;
  /** Bytes that the client has not read yet. */
  backlog(): number;
  /** @returns the backlog after this write */
  write(encoded: Encoded): number;
  /** Resolves when the client has read some of its backlog, or has left. */
  drained(): Promise<void>;
  /**
   * Closes the transport. The client reconnects by itself.
   * @param discard drop the backlog instead of waiting until the client has read it
   */
  close(discard: boolean): void;
  /** From now on the fingerprint is appended to every position; see hearingOf(). */
  mark(hearing: string): void;
  /** Called when the client goes live. */
  joinRoom(room: string): void;
  /** Called when the client is no longer live. */
  leaveRoom(room: string): void;
}

/** Where a client's replay starts. */
export interface Origin {
  /** null means no replay: the client only hears new events. */
  readonly position: Position | null;
  /** Why the position that the client sent was rejected. */
  readonly resync: ResyncReason | null;
}

export class Subscriber {
  readonly connection: ClientConnection;
  identity: Identity;
  readonly choice: EventChoice | null;
  /** Where its replay continues. */
  position: Position | null;
  /** Why there is no position. */
  resync: ResyncReason | null;
  /** The client has yet to receive relay:ready or relay:resync. A client that resumed needs neither. */
  needsReady: boolean;
  /** Its latest token refresh, pending or done. Refreshes take effect in the order of the requests. */
  refreshed: Promise<void> | null = null;

  constructor(
    connection: ClientConnection,
    identity: Identity,
    choice: EventChoice | null,
    { position, resync }: Origin,
    resumed: boolean,
  ) {
    this.connection = connection;
    this.identity = identity;
    this.choice = choice;
    this.position = position;
    this.resync = resync;
    this.needsReady = !resumed;
  }
}
