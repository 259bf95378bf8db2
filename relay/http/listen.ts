// Opens the port.
import type { Server } from 'node:net';
import type { Settings } from '../config/settings.ts';
import { RecadoError } from '../errors.ts';
import { portOf } from '../port.ts';

export interface Listening {
  /** Where clients connect. */
  readonly url: string;
  readonly port: number;
}

/** @throws RecadoError `port_in_use`, `listen_failed` */
export async function listen(
  server: Server,
  { host, port }: Pick<Settings['http'], 'host' | 'port'>,
): Promise<Listening> {
  await new Promise<void>((resolve, reject) => {
    server.once('error', (error: NodeJS.ErrnoException) => {
      const taken = error.code === 'EADDRINUSE';
      const sentence = taken
        ? `Port ${port} of ${host} is in use by another program: stop it, or set PORT to another one (0 lets the system choose).`
        : `Cannot listen on ${host}:${port} (${error.message}): correct HOST and PORT.`;
      reject(new RecadoError(taken ? 'port_in_use' : 'listen_failed', sentence, { cause: error }));
    });
    server.listen({ host, port }, resolve);
  });
  const listening = portOf(server);
  const shown = ['0.0.0.0', '::', '127.0.0.1'].includes(host) ? 'localhost' : host;
  const url = `http://${shown.includes(':') ? `[${shown}]` : shown}:${listening}`;
  return { url, port: listening };
}
