// The relay below a path of another site, such as https://app.example/realtime/.
import type { IncomingMessage, Server } from 'node:http';

/**
 * Takes the path off every request that begins with it; what a proxy has taken off already is answered as well. Call it
 * after Socket.IO is there, which wraps the listeners it finds.
 */
export function serveBelow(server: Server, basePath: string): void {
  if (basePath === '') return;
  const cut = (request: IncomingMessage) => {
    const { url } = request;
    if (url?.startsWith(`${basePath}/`)) request.url = url.slice(basePath.length);
  };
  server.prependListener('request', cut);
  server.prependListener('upgrade', cut);
}
