// recado-client: a thin layer over socket.io-client, for browsers and for Node.
//
// The stock client does without it and resumes by itself. What this adds: typed events, lists that are loaded and then
// kept up to date, state that is loaded again after relay:resync, and a token that is renewed before it expires.
import { io, type ManagerOptions, type SocketOptions } from 'socket.io-client';
import { EventedList, type FedList, type Feed, type LiveListOptions } from './live-list.ts';
import type { AnyEvents, Client, ConnectOptions, Status } from './options.ts';
import { Listeners } from './store.ts';

export {
  type LiveList,
  type LiveListOptions,
  type LiveListValue,
  type PayloadOf,
  type Reducer,
  type Rows,
  remove,
  upsert,
} from './live-list.ts';
export type { AnyEvents, Client, ClientError, ConnectOptions, Status } from './options.ts';
export type { Store } from './store.ts';

const FIRST_PAUSE_MS = 500;
const LONGEST_PAUSE_MS = 30_000;
/** A token is renewed so long before it expires, or after nine tenths of its time. */
const RENEW_BEFORE_MS = 30_000;
/** Timers over 24.8 days fire at once. */
const LONGEST_TIMER_MS = 2 ** 31 - 1;

/** Connects in a microtask: handlers and lists that are added in the same tick miss nothing. */
export function connect<Events extends object = AnyEvents>(options: ConnectOptions): Client<Events> {
  const { url, token, events, getState, onResync, onError } = options;
  const handlers = new Map<string, Set<unknown>>();
  const lists = new Set<FedList>();
  const timers = new Set<ReturnType<typeof setTimeout>>();
  const statusListeners = new Listeners();
  let status: Status = 'connecting';
  let position: string | null = null;
  /** What the relay said last of our topics and choice. */
  let hearing: string | undefined;
  let failures = 0;
  let cancelRetry = () => {};
  let cancelRenewal = () => {};

  const settings: Partial<ManagerOptions & SocketOptions> = {
    ...options.socket,
    autoConnect: false,
    auth: (send) => void authenticate(send),
  };
  const socket = url === undefined ? io(settings) : io(url, settings);

  socket.onAny((event: string, ...args: unknown[]) => {
    const last = args.at(-1);
    const seen = typeof last === 'string' ? last : null;
    const before = hearing;
    if (event === 'relay:ready' || event === 'relay:resync') hearing = textOf(args[0], 'hearing') ?? before;
    if (event === 'relay:resync') {
      missed(args[0], seen);
      return;
    }
    // Our topics have changed while we were away.
    if (event === 'relay:ready' && before !== undefined && before !== hearing) {
      renewAt(args[0]);
      missed({ reason: 'topics' }, seen);
      return;
    }
    if (seen !== null) position = seen;
    if (event === 'relay:ready') {
      failures = 0;
      become('live');
      renewAt(args[0]);
      for (const list of [...lists]) list.start();
    }
    for (const list of [...lists]) list.take(event, args[0], seen ?? '');
    handle(event, args);
  });
  socket.on('disconnect', () => {
    cancelRenewal();
    if (status === 'live') become('reconnecting');
  });
  socket.on('connect_error', (error: Error & { data?: { code?: unknown } }) => {
    const code = error.data?.code;
    // Without a code it is the network, and the socket comes back by itself.
    if (typeof code !== 'string') return;
    become('refused');
    onError?.({ code, message: error.message });
    // The next token may be fresh. Any other refusal stays one until the application does something.
    if (code === 'token_expired') retry(() => socket.connect());
  });

  async function begin(): Promise<void> {
    if (status === 'closed') return;
    if (getState && position === null) {
      try {
        const loaded = await getState();
        if (isClosed()) return;
        position = loaded;
      } catch (error) {
        failed('state_unavailable', error);
        retry(() => void begin());
        return;
      }
      for (const list of [...lists]) list.start();
    }
    socket.connect();
  }

  /** Our own position counts: the pid and the offset that socket.io-client remembers are left out. */
  async function authenticate(send: (data: object) => void): Promise<void> {
    // A slow answer must not speak for a later connection.
    const { engine } = socket.io;
    const isCurrent = () => !isClosed() && socket.io.engine === engine && socket.active;
    try {
      const given = await token();
      if (!isCurrent()) return;
      const wishes = { ...(events && { events }), ...(position !== null && { position }) };
      send({ token: given, ...wishes, pid: undefined, offset: undefined });
    } catch (error) {
      failed('token_unavailable', error);
      if (!isCurrent()) return;
      socket.disconnect();
      retry(() => socket.connect());
    }
  }

  function missed(payload: unknown, seen: string | null): void {
    for (const list of [...lists]) list.reset();
    position = seen;
    onResync?.(textOf(payload, 'reason') ?? 'unknown');
    handle('relay:resync', [payload, seen]);
    if (isClosed()) return;
    if (!getState) {
      become('live');
      for (const list of [...lists]) list.start();
      return;
    }
    // Not while connected: what arrives during the load may be in the loaded state already.
    socket.disconnect();
    become('connecting');
    position = null;
    if (failures === 0) {
      failures = 1;
      void begin();
    } else retry(() => void begin());
  }

  /** Calls a copy of the set, since a handler may remove itself. One that throws must not stop the others. */
  function handle(event: string, args: unknown[]): void {
    for (const handler of new Set(handlers.get(event))) {
      try {
        if (typeof handler !== 'function') {
          throw new TypeError(`The handler of ${event} is ${typeof handler}, expected a function.`);
        }
        handler(...args);
      } catch (error) {
        failed('handler_failed', error);
      }
    }
  }

  function renewAt(payload: unknown): void {
    cancelRenewal();
    const remaining = Date.parse(textOf(payload, 'expiresAt') ?? '') - Date.now();
    if (!(remaining > 0)) return;
    const pause = Math.max(remaining - RENEW_BEFORE_MS, remaining * 0.9);
    if (pause < LONGEST_TIMER_MS) cancelRenewal = after(pause, () => void renew());
  }

  /** Where it fails, the relay closes the connection when the token expires, and the next one asks again. */
  async function renew(): Promise<void> {
    try {
      const given = await token();
      if (socket.connected) socket.emit('auth:refresh', given, renewAt);
    } catch (error) {
      failed('token_unavailable', error);
    }
  }

  function isClosed(): boolean {
    return status === 'closed';
  }

  function become(next: Status): void {
    if (status === next || isClosed()) return;
    status = next;
    statusListeners.call();
  }

  function failed(code: string, error: unknown): void {
    const message = error instanceof Error ? error.message : String(error);
    onError?.({ code, message, cause: error });
    // Nobody listens: a bug in a handler or a reducer must show. It ends up where other uncaught errors do.
    if (!onError && (code === 'handler_failed' || code === 'reducer_failed')) {
      queueMicrotask(() => {
        throw error;
      });
    }
  }

  function after(pause: number, work: () => void): () => void {
    const timer = setTimeout(() => {
      timers.delete(timer);
      work();
    }, pause);
    timers.add(timer);
    return () => {
      timers.delete(timer);
      clearTimeout(timer);
    };
  }

  function later(work: () => void, attempts: number): () => void {
    const pause = Math.min(LONGEST_PAUSE_MS, FIRST_PAUSE_MS * 2 ** attempts) * (0.5 + Math.random() / 2);
    return after(pause, work);
  }

  function retry(work: () => void): void {
    if (isClosed()) return;
    cancelRetry();
    cancelRetry = later(work, failures);
    failures += 1;
  }

  const feed: Feed = {
    get positioned() {
      return position !== null;
    },
    later,
    failed,
    leave: (list) => void lists.delete(list),
  };

  queueMicrotask(() => void begin());

  return {
    socket,
    status: { get: () => status, subscribe: statusListeners.add },
    get position() {
      return position;
    },
    on(event, handler) {
      const known = handlers.get(event) ?? new Set();
      handlers.set(event, known.add(handler));
      return () => void known.delete(handler);
    },
    liveList<Row>(listOptions: LiveListOptions<Row, Events>) {
      const list = new EventedList<Row, Events>(feed, listOptions);
      if (isClosed()) list.close();
      else lists.add(list);
      // Not at once: React's StrictMode makes each list twice and closes the first.
      queueMicrotask(() => list.start());
      return list;
    },
    close() {
      become('closed');
      for (const timer of timers) clearTimeout(timer);
      for (const list of [...lists]) list.close();
      socket.disconnect();
    },
  };
}

function textOf(payload: unknown, field: string): string | undefined {
  const value: unknown = typeof payload === 'object' && payload !== null ? Reflect.get(payload, field) : null;
  return typeof value === 'string' ? value : undefined;
}
