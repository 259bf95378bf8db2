// What the first of several processes does for all of them: it reads the database.

import type { Settings } from '../config/settings.ts';
import { gaugeInstances } from '../evolution/overview.ts';
import { gaugeDatabase } from '../http/probes.ts';
import type { Log } from '../log.ts';
import { createMetrics, OF_THE_READER, textOf } from '../metrics.ts';
import { EntryBroadcast } from './entries.ts';
import { createRelayPool, readDatabase } from './source.ts';

export interface SharedReader {
  readonly listening: boolean;
  /** What the workers cannot count. */
  metrics(): Promise<string>;
  close(): Promise<void>;
}

export function startSharedReader(databaseUrl: string, settings: Settings['relay'], log: Log): SharedReader {
  const metrics = createMetrics();
  const pool = createRelayPool(databaseUrl, log);
  const { feed, wakeup, ...source } = readDatabase({
    databaseUrl,
    settings: { ...settings, ...NO_MEMORY },
    pool,
    log,
    metrics,
  });
  const broadcast = new EntryBroadcast(feed);
  source.start(broadcast);
  return {
    get listening() {
      return wakeup.listening;
    },
    async metrics() {
      metrics.listening.set(wakeup.listening ? 1 : 0);
      await gaugeDatabase({ metrics, feed, pool, gauges: [gaugeInstances], log });
      return textOf(metrics, OF_THE_READER);
    },
    async close() {
      broadcast.close();
      await source.close();
      await pool.end();
    },
  };
}

/** Nobody comes back to this process. */
const NO_MEMORY = { windowBytes: 1, windowEvents: 1 };
