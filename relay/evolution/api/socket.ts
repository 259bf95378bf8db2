// One socket connection to an Evolution server, until it is lost. The caller opens the next.
import { Manager, type Socket } from 'socket.io-client';
import { errorText } from '../../errors.ts';

/** The instance's own namespace, or the root: with global events the root carries every instance. */
export type Namespace = 'own' | 'root';

export interface SocketOptions {
  host: string;
  instance: string;
  apiKey: string;
  mode: 'auto' | 'instance' | 'global';
  timeoutMs: number;
  /** Between attempts at a namespace that does not exist yet; it appears with the server's first event. */
  namespaceMs: number;
  signal: AbortSignal;
  connected(namespace: Namespace): void;
  /** The instance's namespace does not exist yet. */
  waiting(): void;
  heard(event: string, payload: unknown, namespace: Namespace): void;
}

export interface EvolutionSocket {
  /** Resolves with the reason when the connection is lost, or letGo() ends it. */
  readonly lost: Promise<string>;
  letGo(reason: string): void;
}

const SLOWEST_NAMESPACE_MS = 5_000;
/** The largest frame, unpacked. The library hands this on to its websocket, which its types do not say. */
const MOST = { maxPayload: 16 * 1024 * 1024 };

export function openSocket(options: SocketOptions): EvolutionSocket {
  const { instance, mode, namespaceMs, signal } = options;
  const url = new URL(options.host);
  const manager = new Manager(url.origin, {
    // Each instance has its own key in the handshake, so no manager is shared. The caller reconnects, since the
    // library does not after "Invalid namespace".
    reconnection: false,
    autoConnect: false,
    path: `${url.pathname.replace(/\/+$/, '')}/socket.io/`,
    transports: ['websocket'],
    extraHeaders: { apikey: options.apiKey },
    timeout: options.timeoutMs,
    ...MOST,
  });
  const auth = { apikey: options.apiKey };
  const root = mode === 'instance' ? null : manager.socket('/', { auth });
  const own = mode === 'global' ? null : manager.socket(`/${instance}`, { auth });
  let isLost = false;
  let retry: NodeJS.Timeout | undefined;
  let resolve: (reason: string) => void = () => undefined;
  const lost = new Promise<string>((settle) => {
    resolve = settle;
  });

  function lose(reason: string): void {
    if (isLost) return;
    isLost = true;
    clearTimeout(retry);
    signal.removeEventListener('abort', aborted);
    for (const socket of [root, own]) {
      socket?.offAny();
      socket?.disconnect();
    }
    manager.off();
    manager._close();
    resolve(reason);
  }
  const aborted = () => lose('closed');
  signal.addEventListener('abort', aborted);

  manager.on('error', (error) => lose(errorText(error)));
  manager.on('close', (reason) => {
    // The library closes by itself when the only namespace does not exist yet.
    if (reason !== 'forced close') lose(reason);
  });

  function listen(socket: Socket, namespace: Namespace): void {
    let attempts = 0;
    socket.on('connect', () => {
      attempts = 0;
      options.connected(namespace);
    });
    socket.on('disconnect', lose);
    socket.on('connect_error', (error) => {
      // The instance's own namespace is enough.
      if (namespace === 'root' && own !== null) return;
      if (namespace === 'root' || error.message !== 'Invalid namespace') {
        lose(error.message);
        return;
      }
      attempts++;
      options.waiting();
      const ms = Math.min(SLOWEST_NAMESPACE_MS, namespaceMs * 2 ** Math.min(attempts - 1, 10));
      retry = setTimeout(() => socket.connect(), ms);
    });
    socket.onAny((event: string, payload: unknown) => options.heard(event, payload, namespace));
    socket.connect();
  }

  if (root !== null) listen(root, 'root');
  if (own !== null) listen(own, 'own');
  if (signal.aborted) aborted();
  return { lost, letGo: lose };
}
