// The Socket.IO adapter, for resume only.
//
// Connection state recovery is on, so that the stock client remembers the last string argument it got (our position)
// and sends it back. But nothing is restored here: the client gets a new socket id, no rooms and no packets. Socket.IO's
// own recovery returns them before the token is verified, loses what arrives while a middleware runs, and leaves the
// client without events when its old half-open socket ends at last.
import { randomBytes } from 'node:crypto';
import { Adapter, type Session } from 'socket.io-adapter';
import { unmarkPosition } from '../delivery/hears.ts';

/** As hard to guess as Socket.IO's own session ids. */
export function newSessionId(): string {
  return randomBytes(15).toString('base64url');
}

export class RelayAdapter extends Adapter {
  /** The namespace marks the socket as recovered. The middleware decides whether that stays. */
  override async restoreSession(pid: string, _position: string): Promise<Session> {
    return { sid: newSessionId(), pid, rooms: [], data: {}, missedPackets: [] };
  }
}

/** What Socket.IO keeps of a session and declares private. */
interface SessionState {
  pid: string;
  recovered: boolean;
}

/** The private session id, which the client sends back, says what was heard in the session: see hearingOf(). */
export function beginSession(socket: object, hearing: string): void {
  const session = socket as SessionState;
  session.pid = `${newSessionId()}.${hearing}`;
  session.recovered = false;
}

/** What a client that comes back heard last. @param offset the last position that it received */
export function hearingIn(offset: unknown, socket: object): { hearing: string | undefined; marked: boolean } {
  const behind = typeof offset === 'string' ? unmarkPosition(offset).hearing : undefined;
  const { pid } = socket as SessionState;
  return { hearing: behind ?? pid.split('.')[1], marked: behind !== undefined };
}
