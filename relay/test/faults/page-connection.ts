// How a page of each kind connects: with the stock socket.io-client, or by Server-Sent Events.
import { io } from 'socket.io-client';
import { choiceOf } from './audiences.ts';
import { EventStream } from './stream.ts';
import type { Kind } from './viewing.ts';

/** What the two kinds of connection have in common. */
export interface Connection {
  readonly recovered: boolean;
  readonly active: boolean;
  readonly connected: boolean;
  on(event: string, listener: (...parts: never[]) => void): unknown;
  onAny(listener: (event: string, ...parts: unknown[]) => void): unknown;
  emit(event: string, ...parts: unknown[]): unknown;
  disconnect(): unknown;
}

/** Each of their connections has a fresh token. */
const RENEWING: readonly Kind[] = ['impatient', 'keeper', 'changing'];

interface Opening {
  readonly kind: Kind;
  /** Where it finds its relay. */
  readonly port: number;
  readonly position: string | undefined;
  readonly token: () => Promise<string>;
  /** The token of a later connection. */
  readonly renewed: () => Promise<string>;
}

export async function openConnection(opening: Opening): Promise<Connection> {
  const { kind, port, position } = opening;
  const events = choiceOf(kind);
  if (kind === 'stream') {
    return new EventStream(`http://127.0.0.1:${port}/events?events=${events?.join() ?? '*'}`, opening.token);
  }
  const given = { ...(events && { events }), ...(position !== undefined && { position }) };
  const token = await opening.token();
  const renew = (answer: (auth: object) => void) => {
    void opening.renewed().then((fresh) => answer({ token: fresh, ...given }));
  };
  return io(`http://127.0.0.1:${port}`, {
    auth: RENEWING.includes(kind) ? renew : { token, ...given },
    forceNew: true,
    ...(kind === 'polling' && { transports: ['polling'] }),
    ...(kind !== 'polling' && kind !== 'browser' && { transports: ['websocket'] }),
  });
}
