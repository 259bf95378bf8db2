// When to read: the LISTEN connection and the safety timer. NOTIFY is a doorbell, the table is the parcel: a ring
// that is lost costs at most one safety interval, and nothing is ever read from a notification.
import pgListen from 'pg-listen';
import { describe } from './errors.ts';
import type { Log } from './log.ts';
import type { Metrics } from './metrics.ts';

/** The channel on which relay.ring() notifies. */
const CHANNEL = 'relay';

export interface WakeupOptions {
  /** A direct connection: LISTEN is deaf behind a transaction pooler. */
  databaseUrl: string;
  /** Called for every reason to read. Cheap, and never throws. */
  ring: () => void;
  /** Milliseconds between the reads that happen even if nothing rang. */
  safetyReadMs: number;
  log: Log;
  metrics: Metrics;
}

export interface Wakeup {
  /** Whether the doorbell is heard; without it the safety reads go on. */
  readonly listening: boolean;
  close(): Promise<void>;
}

/** Begins to listen; a database that is not there yet is waited for. */
export function startWakeup(options: WakeupOptions): Wakeup {
  const { ring, log, metrics } = options;
  let listening = false;
  let closed = false;

  const subscriber = pgListen.default<Record<string, string>>(
    {
      connectionString: options.databaseUrl,
      application_name: 'recado wakeup',
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
  // Handlers only set flags: a throw in here would make pg parse the same message for ever.
  subscriber.notifications.on(CHANNEL, () => {
    metrics.wakeups.inc();
    ring();
  });
  subscriber.events.on('connected', () => {
    if (closed) {
      // close() during a reconnect leaves it running; it ends here.
      void subscriber.close().catch(() => undefined);
      return;
    }
    listening = true;
    log.say('wakeup_listening');
    ring();
  });
  subscriber.events.on('reconnect', (attempt) => {
    if (listening) metrics.listenFailures.inc();
    listening = false;
    if (!closed && (attempt === 1 || attempt % 20 === 0)) log.say('wakeup_reconnecting', { attempt });
  });
  subscriber.events.on('error', (error) => {
    if (!closed) log.say('wakeup_failed', { error: describe(error) });
  });

  const safety = setInterval(ring, options.safetyReadMs);

  const failed = (error: unknown) => {
    if (!closed) log.say('wakeup_failed', { error: describe(error) });
  };
  // Queued until the connection is there. If the first attempt fails both reject, the library goes on by itself,
  // and listens to the channel again whenever it has connected.
  subscriber.listenTo(CHANNEL)?.then(ring, failed);
  subscriber.connect().catch(failed);

  return {
    get listening() {
      return listening;
    },
    async close() {
      closed = true;
      clearInterval(safety);
      await subscriber.close().catch(() => undefined);
    },
  };
}
