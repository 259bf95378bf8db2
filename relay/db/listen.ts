// The LISTEN connection. NOTIFY is a doorbell: it says that there is something to read, never what.
import pgListen from 'pg-listen';
import { describe } from '../errors.ts';
import type { Log } from '../log.ts';

export interface DoorbellOptions {
  /** A direct connection: LISTEN is deaf behind a transaction pooler. */
  databaseUrl: string;
  /** How the connection is called in pg_stat_activity. */
  name: string;
  channel: string;
  /** Must not throw: pg would parse the same message for ever. */
  onRing: () => void;
  /** It listens, for the first time or again: what was rung for before was not heard. */
  onListening: () => void;
  /** It does not listen any more, and tries to. */
  onDeaf?: () => void;
  log: Log;
}

export interface Doorbell {
  readonly listening: boolean;
  close(): Promise<void>;
}

/** When LISTEN failed though the connection is there. */
const LISTEN_AGAIN_MS = 1_000;

/** Begins to listen, and goes on until it is closed, whatever becomes of the database. */
export function startDoorbell(options: DoorbellOptions): Doorbell {
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
      // Without a timeout the check below never ends on a half-open connection.
      query_timeout: 1_000,
    },
    {
      // Together with query_timeout this notices a peer that has vanished in under three seconds; TCP keep-alive
      // alone did not in eighteen.
      paranoidChecking: 2_000,
      // 0 is for ever. The default gives up after three seconds and stays deaf.
      retryTimeout: 0,
      retryInterval: (attempt) => {
        // The only way out of its loop: closed while the database is away, it would knock for ever.
        if (closed) throw new Error('closed while reconnecting');
        return Math.min(5_000, 100 * 2 ** Math.min(attempt, 6)) * (0.5 + Math.random() / 2);
      },
      parse: (text: string) => text,
    },
  );
  subscriber.notifications.on(channel, () => options.onRing());
  const end = () => void subscriber.close().catch(() => undefined);
  const heard = () => {
    clearTimeout(retry);
    listening = true;
    log.say('wakeup_listening', { channel });
    options.onListening();
  };
  const failed = (error: unknown) => {
    if (!closed) log.say('wakeup_failed', { error: describe(error) });
  };
  // Asked of the library before it is connected, LISTEN waits in a queue, is given up there after query_timeout, and
  // nothing listens though all looks well. It repeats LISTEN only when it connects again, so the first one is ours,
  // and so is any that fails on a good connection.
  const listen = () => {
    clearTimeout(retry);
    if (closed || listening) return;
    // Forgotten first, or the library does not ask a second time.
    subscriber.unlisten(channel)?.catch(() => undefined);
    subscriber.listenTo(channel)?.then(heard, listenLater);
  };
  const listenLater = (error: unknown) => {
    failed(error);
    clearTimeout(retry);
    if (!closed) retry = setTimeout(listen, LISTEN_AGAIN_MS);
  };
  subscriber.events.on('connected', () => {
    // close() during a reconnect leaves it running; it ends here.
    if (closed) end();
    else if (subscriber.getSubscribedChannels().includes(channel)) heard();
    else listen();
  });
  subscriber.events.on('reconnect', (attempt) => {
    if (listening) options.onDeaf?.();
    listening = false;
    if (!closed && (attempt === 1 || attempt % 20 === 0)) log.say('wakeup_reconnecting', { attempt });
  });
  subscriber.events.on('error', (error) => {
    if (closed) end();
    else listenLater(error);
  });
  // If the first attempt fails the library goes on by itself.
  subscriber.connect().catch(failed);

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
