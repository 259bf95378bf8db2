// Serves the relay below a path of another site, such as https://app.example/realtime/.
import type { IncomingMessage, Server } from 'node:http';

/**
 * Strips the path from every request that begins with it. Requests from which a proxy has already stripped it are
 * answered too. Call it after Socket.IO is attached, which wraps the listeners that it finds.
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
