// The Socket.IO adapter, for resume only.
//
// Connection state recovery is on, so the stock client remembers the last string argument it received (our position)
// and sends it back. Nothing is restored here: the client gets a new socket id, no rooms and no packets. Socket.IO's
// own recovery restores them before the token is verified, loses what arrives while a middleware runs, and leaves the
// client without events once its old half-open socket ends.
import { randomBytes } from 'node:crypto';
import type { Socket } from 'socket.io';
import { Adapter, type Session } from 'socket.io-adapter';
import { unmarkPosition } from '../delivery/hears.ts';

/** Has as much entropy as Socket.IO's own session ids. */
export function newSessionId(): string {
  return randomBytes(15).toString('base64url');
}

export class RelayAdapter extends Adapter {
  /** Marks the socket as recovered. The middleware decides whether it stays so. */
  override async restoreSession(pid: string, _position: string): Promise<Session> {
    return { sid: newSessionId(), pid, rooms: [], data: {}, missedPackets: [] };
  }
}

/** Puts the fingerprint of what is heard into the private session id, which the client sends back: see hearingOf(). */
export function beginSession(socket: Socket, hearing: string): void {
  Object.assign(socket, { pid: `${newSessionId()}.${hearing}`, recovered: false });
}

/** The fingerprint of what a returning client heard last. @param offset the last position that it received */
export function hearingIn(offset: unknown, socket: Socket): { hearing: string | undefined; marked: boolean } {
  const appended = typeof offset === 'string' ? unmarkPosition(offset).hearing : undefined;
  const pid: string = Reflect.get(socket, 'pid');
  return { hearing: appended ?? pid.split('.')[1], marked: appended !== undefined };
}
