// Announces a worker's sessions to the sticky library before their clients are answered. Alone, the library reports
// a session to the first process afterwards: a client's next request may come first, and go to the wrong worker.
import { EventEmitter } from 'node:events';
import type { Server } from 'socket.io';

/** Emits 'connection' with an object that has the session's id, and emits 'close'. */
export function announceEarly(engine: Server['engine']): EventEmitter {
  const sessions = new EventEmitter();
  /** Those of connections that engine.io has not announced yet. */
  const early = new Map<string, EventEmitter>();
  const begin = (id: string) => {
    const session = Object.assign(new EventEmitter(), { id });
    sessions.emit('connection', session);
    return session;
  };
  // Before the answer to a client that polls. A websocket stays where it is.
  engine.on('initial_headers', ({ 'engine-session': id }: Record<string, string>) => {
    if (id !== undefined) early.set(id, begin(id));
  });
  engine.on('connection', (connection: EventEmitter & { id: string }) => {
    const session = early.get(connection.id) ?? begin(connection.id);
    early.delete(connection.id);
    connection.once('close', () => session.emit('close'));
  });
  return sessions;
}
