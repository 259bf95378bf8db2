// recado tail: the feed, printed. It reads as a relay does and emits to nobody.

import type { Settings } from '../config/settings.ts';
import { MAX_EVENT_BYTES } from '../config/table.ts';
import { createPool, openReader, openSession } from '../db/connect.ts';
import type { Batch } from '../feed/feed.ts';
import { OutboxFeed } from '../feed/outbox-feed.ts';
import { startWakeup } from '../feed/wakeup.ts';
import type { Log } from '../log.ts';
import { createMetrics } from '../metrics.ts';
import type { OutboxEvent } from '../outbox/events.ts';

export interface TailOptions {
  databaseUrl: string;
  settings: Settings;
  log: Log;
  account?: string;
  json?: boolean;
  print: (line: string) => void;
}

/** Prints every event from now on until it is closed. */
export async function tail(options: TailOptions): Promise<{ close(): Promise<void> }> {
  const { databaseUrl, settings, log, account, json = false, print } = options;
  const metrics = createMetrics();
  const pool = createPool({ url: databaseUrl, name: 'recado tail', max: 1, log });
  const feed = new OutboxFeed({
    onRead: (read) => wakeup.onRead(read),
    connect: () => openReader({ url: databaseUrl, name: 'recado tail', queryTimeoutMs: 15_000 }),
    onSkipped: () => print('-- events in a locked partition were skipped: select from relay.events'),
    recent: { bytes: 1, events: 1 },
    page: { events: 1_000, bytes: 8 * 1024 * 1024, payloadBytes: MAX_EVENT_BYTES },
    log,
    metrics,
  });
  const { safetyReadMs, paceMs } = settings.relay;
  const wakeup = startWakeup({
    databaseUrl,
    connect: () => openSession({ url: databaseUrl, name: 'recado gate' }),
    pool,
    mayCloseGate: false,
    wake: () => feed.wake(),
    safetyReadMs,
    paceMs,
    log,
    metrics,
  });
  feed.start({
    onBatch({ events }: Batch) {
      for (const event of events) {
        if (account !== undefined && event.account !== account && event.account !== null) continue;
        print(json ? asJson(event) : asLine(event));
      }
    },
    onBacklog: () => print('-- more events at once than are shown here: select from relay.events'),
    accounts: () => [],
    onLost: (reason) => print(`-- events were lost to this command: ${reason}`),
  });
  await feed.firstRead;
  return {
    async close() {
      await Promise.all([wakeup.close(), feed.close()]);
      await pool.end();
    },
  };
}

function asLine({ capturedAt, account, event, payload, known }: OutboxEvent): string {
  const time = new Date(capturedAt).toISOString().slice(11, 23);
  const note = known || event.startsWith('relay:') ? '' : '  (not in the contract, not sent)';
  return `${time}  ${account ?? '*'}  ${event}  ${payload ?? '(too large)'}${note}`;
}

function asJson({ id, account, event, payload, capturedAt }: OutboxEvent): string {
  const head = JSON.stringify({ id: String(id), at: new Date(capturedAt).toISOString(), account, event });
  return `${head.slice(0, -1)},"payload":${payload ?? 'null'}}`;
}
