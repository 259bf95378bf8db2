// The LISTEN connection. A notification only says that there is something to read; the tables say what.
import pgListen from 'pg-listen';
import { errorText } from '../errors.ts';
import type { Log } from '../log.ts';

export interface ListenerOptions {
  /** A direct connection: behind a transaction pooler no notification arrives. */
  databaseUrl: string;
  /** The application_name in pg_stat_activity. */
  name: string;
  channel: string;
  /** Must not throw: pg would parse the same message again and again. */
  onNotify: (payload: string) => void;
  /** LISTEN took effect, for the first time or again. Earlier notifications were missed. */
  onListening: () => void;
  /** The connection was lost; reconnecting goes on until close(). */
  onDisconnected?: () => void;
  log: Log;
}

export interface Listener {
  readonly listening: boolean;
  close(): Promise<void>;
}

/** Pause before LISTEN is tried again on a good connection. */
const LISTEN_AGAIN_MS = 1_000;

/** Listens until it is closed, and reconnects as often as needed. */
export function startListener(options: ListenerOptions): Listener {
  const { channel, log } = options;
  let listening = false;
  let closed = false;
  let retry: NodeJS.Timeout | undefined;

  const subscriber = pgListen.default<Record<string, string>>(
    {
      connectionString: options.databaseUrl,
      application_name: options.name,
      keepAlive: true,
      keepAliveInitialDelayMillis: 5_000,
      connectionTimeoutMillis: 5_000,
      // Without it, the check below never ends on a half-open connection.
      query_timeout: 1_000,
    },
    {
      // With query_timeout this detects a vanished peer in under three seconds. TCP keep-alive alone took more than
      // eighteen.
      paranoidChecking: 2_000,
      // 0: no limit. The default gives up after three seconds, and nothing listens any more.
      retryTimeout: 0,
      retryInterval: (attempt) => {
        // Throwing is the only way to stop pg-listen's retries.
        if (closed) throw new Error('closed while reconnecting');
        return Math.min(5_000, 100 * 2 ** Math.min(attempt, 6)) * (0.5 + Math.random() / 2);
      },
      parse: (text: string) => text,
    },
  );
  subscriber.notifications.on(channel, (payload) => options.onNotify(payload ?? ''));
  const end = () => void subscriber.close().catch(() => undefined);
  const onListening = () => {
    clearTimeout(retry);
    listening = true;
    log.say('wakeup_listening', { channel });
    options.onListening();
  };
  const logFailure = (error: unknown) => {
    if (!closed) log.say('wakeup_failed', { error: errorText(error) });
  };
  // pg-listen repeats LISTEN only after a reconnect. A LISTEN that is sent before the connection is up times out in a
  // queue, and nothing listens. So the first LISTEN, and one that fails on a good connection, are sent here.
  const listen = () => {
    clearTimeout(retry);
    if (closed || listening) return;
    // Unlisten first: pg-listen does not send LISTEN twice for the same channel.
    subscriber.unlisten(channel)?.catch(() => undefined);
    subscriber.listenTo(channel)?.then(onListening, listenLater);
  };
  const listenLater = (error: unknown) => {
    logFailure(error);
    clearTimeout(retry);
    if (!closed) retry = setTimeout(listen, LISTEN_AGAIN_MS);
  };
  subscriber.events.on('connected', () => {
    // close() does not stop a reconnect that is under way; it ends here.
    if (closed) end();
    else if (subscriber.getSubscribedChannels().includes(channel)) onListening();
    else listen();
  });
  subscriber.events.on('reconnect', (attempt) => {
    if (listening) options.onDisconnected?.();
    listening = false;
    if (!closed && (attempt === 1 || attempt % 20 === 0)) log.say('wakeup_reconnecting', { attempt });
  });
  subscriber.events.on('error', (error) => {
    if (closed) end();
    else listenLater(error);
  });
  // pg-listen retries a failed first attempt by itself.
  subscriber.connect().catch(logFailure);

  return {
    get listening() {
      return listening;
    },
    async close() {
      closed = true;
      clearTimeout(retry);
      await subscriber.close().catch(() => undefined);
    },
  };
}
