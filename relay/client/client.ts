// recado/client: a thin layer over socket.io-client, for browsers and for Node. It imports nothing else.
//
// The stock client does without it and resumes by itself. What this adds: typed events, load-then-subscribe (and again
// whenever the relay says relay:resync), a position that survives a reload of the page, and a token that is renewed
// before it expires.
//
//   import { connect } from 'recado/client';
//   import type { ServerToClientEvents } from './events.ts';  // recado contract --format typescript
//
//   const client = connect<ServerToClientEvents>({
//     url: 'https://relay.example.com',
//     token: () => session.accessToken(),
//     async getState() {
//       const { doctors, position } = await (await fetch('/api/doctors')).json();
//       show(doctors);
//       return position;
//     },
//   });
//   client.on('doctors.deleted', (id) => hide(id));
import { io, type ManagerOptions, type Socket, type SocketOptions } from 'socket.io-client';

/** A handler per event, as `recado contract --format typescript` prints them. */
export type AnyEvents = Record<string, (payload: unknown, position: string) => void>;

export interface ConnectOptions {
  /** Of the relay; the page's own origin by default. */
  url?: string;
  /** Asked before every connection, and before the token of a live one expires. */
  token: () => string | Promise<string>;
  /**
   * Loads what is shown and returns its position: what `relay.position()` said in the transaction that selected it.
   * Called before the first connection, and again after a relay:resync. Events from that position on follow, none of
   * them twice. Without it a client begins at now, and onResync has to fetch what is shown.
   */
  getState?: () => Promise<string>;
  /** Something was missed that cannot be told event by event. With getState nothing is left to do here. */
  onResync?: (reason: string) => void;
  /** The relay refuses the token for good (token_expired, token_revoked, …), or token() or getState() failed. */
  onError?: (error: ClientError) => void;
  /**
   * Keeps the position in sessionStorage under this name, so that a page that is loaded again goes on where it was
   * instead of calling getState(). For applications that keep what they show as well; one name per user.
   */
  keepPosition?: string;
  /** For socket.io-client, besides what is set here. */
  socket?: Partial<ManagerOptions & SocketOptions>;
}

export interface ClientError {
  readonly code: string;
  readonly message: string;
}

export interface Client<Events extends object> {
  /** @returns how to take the handler off */
  on<E extends keyof Events & string>(event: E, handler: Events[E]): () => void;
  /** What was seen: every event up to it has been handled. null: nothing yet. */
  readonly position: string | null;
  /** The socket beneath, for what is not here. */
  readonly socket: Socket;
  close(): void;
}

type Handler = (...args: unknown[]) => void;

const FIRST_PAUSE_MS = 500;
const LONGEST_PAUSE_MS = 30_000;
/** A token is renewed so long before it expires, or after nine tenths of its time. */
const RENEW_BEFORE_MS = 30_000;
/** Timers over 24.8 days fire at once. */
const LONGEST_TIMER_MS = 2 ** 31 - 1;

export function connect<Events extends object = AnyEvents>(options: ConnectOptions): Client<Events> {
  const { url, token, getState, onResync, onError, keepPosition } = options;
  const handlers = new Map<string, Set<Handler>>();
  const store = keepPosition === undefined ? null : storeOf(keepPosition);
  let position: string | null = store?.read() ?? null;
  let failures = 0;
  let closed = false;
  let retry: ReturnType<typeof setTimeout> | undefined;
  let renewal: ReturnType<typeof setTimeout> | undefined;

  const settings: Partial<ManagerOptions & SocketOptions> = {
    ...options.socket,
    autoConnect: false,
    auth: (send) => void authenticate(send),
  };
  const socket = url === undefined ? io(settings) : io(url, settings);

  // Before handlers of the socket itself, and for every event.
  socket.onAny((event: string, ...args: unknown[]) => {
    // Set() of now: a handler may take itself off. One that throws is given its event again after a reconnect.
    for (const handler of new Set(handlers.get(event))) handler(...args);
    const last = args.at(-1);
    if (typeof last === 'string') remember(last);
    if (event === 'relay:ready') onReady(args[0]);
    if (event === 'relay:resync') onMissed(args[0]);
  });
  socket.on('disconnect', () => clearTimeout(renewal));
  socket.on('connect_error', (error: Error & { data?: { code?: unknown } }) => {
    const code = error.data?.code;
    // Without a code it is the network, and the socket comes back by itself.
    if (typeof code !== 'string') return;
    onError?.({ code, message: error.message });
    // The next token may be fresh. Any other refusal stays one until the application does something.
    if (code === 'token_expired') later(() => socket.connect());
  });

  async function begin(): Promise<void> {
    if (getState && position === null) {
      try {
        const loaded = await getState();
        if (closed) return;
        remember(loaded);
      } catch (error) {
        failed('state_unavailable', error);
        later(() => void begin());
        return;
      }
    }
    socket.connect();
  }

  /** Our own position is what counts: the pid and the offset that socket.io-client remembers are left out. */
  async function authenticate(send: (data: object) => void): Promise<void> {
    try {
      const given = await token();
      send({ token: given, ...(position !== null && { position }), pid: undefined, offset: undefined });
    } catch (error) {
      failed('token_unavailable', error);
      socket.disconnect();
      later(() => socket.connect());
    }
  }

  function onReady(payload: unknown): void {
    failures = 0;
    renewAt(payload);
  }

  function onMissed(payload: unknown): void {
    onResync?.(textOf(payload, 'reason') ?? 'unknown');
    if (!getState || closed) return;
    // Not while connected: what arrives during the load may be in the loaded state already.
    socket.disconnect();
    forget();
    if (failures === 0) {
      failures = 1;
      void begin();
    } else later(() => void begin());
  }

  function renewAt(payload: unknown): void {
    clearTimeout(renewal);
    const remaining = Date.parse(textOf(payload, 'expiresAt') ?? '') - Date.now();
    if (!(remaining > 0)) return;
    const pause = Math.max(remaining - RENEW_BEFORE_MS, remaining * 0.9);
    if (pause < LONGEST_TIMER_MS) renewal = setTimeout(() => void renew(), pause);
  }

  /** Where it fails, the relay closes the connection when the token expires, and the next one asks again. */
  async function renew(): Promise<void> {
    try {
      const given = await token();
      socket.emit('auth:refresh', given, renewAt);
    } catch (error) {
      failed('token_unavailable', error);
    }
  }

  function remember(seen: string): void {
    position = seen;
    store?.write(seen);
  }

  function forget(): void {
    position = null;
    store?.write(null);
  }

  function failed(code: string, error: unknown): void {
    onError?.({ code, message: error instanceof Error ? error.message : String(error) });
  }

  function later(work: () => void): void {
    clearTimeout(retry);
    const pause = Math.min(LONGEST_PAUSE_MS, FIRST_PAUSE_MS * 2 ** failures) * (0.5 + Math.random() / 2);
    failures += 1;
    retry = setTimeout(() => {
      if (!closed) work();
    }, pause);
  }

  void begin();

  return {
    socket,
    get position() {
      return position;
    },
    on(event, handler) {
      const known = handlers.get(event) ?? new Set();
      handlers.set(event, known.add(handler as Handler));
      return () => void known.delete(handler as Handler);
    },
    close() {
      closed = true;
      clearTimeout(retry);
      clearTimeout(renewal);
      socket.disconnect();
    },
  };
}

function textOf(payload: unknown, field: string): string | undefined {
  const value =
    typeof payload === 'object' && payload !== null ? (payload as Record<string, unknown>)[field] : null;
  return typeof value === 'string' ? value : undefined;
}

interface Storage {
  getItem(name: string): string | null;
  setItem(name: string, value: string): void;
  removeItem(name: string): void;
}

/** sessionStorage: each tab has its own. Where it is missing, forbidden or full, nothing is kept. */
function storeOf(name: string): { read(): string | null; write(position: string | null): void } {
  const tryTo = <T>(work: (storage: Storage) => T): T | null => {
    try {
      const { sessionStorage } = globalThis as { sessionStorage?: Storage };
      return sessionStorage ? work(sessionStorage) : null;
    } catch {
      return null;
    }
  };
  return {
    read: () => tryTo((storage) => storage.getItem(name)),
    write: (position) => {
      tryTo((storage) => (position === null ? storage.removeItem(name) : storage.setItem(name, position)));
    },
  };
}
