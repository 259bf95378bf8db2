// The first of several processes reads the database, or the stream, for all of them.
import type { Settings } from '../config/settings.ts';
import { gaugeInstances } from '../evolution/overview.ts';
import { gaugeDatabase } from '../http/probes.ts';
import type { Log } from '../log.ts';
import { createMetrics, OF_ALL_PROCESSES, OF_AN_EDGE, OF_THE_READER, textOf } from '../metrics.ts';
import { RedisReader } from '../stream/redis-reader.ts';
import { EntryBroadcast } from './entries.ts';
import { createRelayPool, findInstallation, readDatabase, readEntries } from './source.ts';

export interface SharedReader {
  /** Whether events arrive as soon as they are committed. */
  readonly listening: boolean;
  /** The metrics that the workers cannot count. */
  metrics(): Promise<string>;
  close(): Promise<void>;
}

type ReaderSettings = Pick<Settings, 'relay' | 'stream'>;

export function startSharedReader(
  databaseUrl: string,
  { relay, stream }: ReaderSettings,
  log: Log,
): Promise<SharedReader> {
  const settings = { ...relay, ...NO_MEMORY };
  return stream.url === null
    ? readTable(databaseUrl, settings, log)
    : readStream(databaseUrl, stream.url, settings, log);
}

async function readTable(databaseUrl: string, settings: Settings['relay'], log: Log): Promise<SharedReader> {
  const metrics = createMetrics();
  const pool = createRelayPool(databaseUrl, log);
  const { feed, wakeup, ...source } = readDatabase({
    databaseUrl,
    settings,
    pool,
    log,
    metrics,
  });
  const broadcast = new EntryBroadcast(feed, null, metrics);
  source.start(broadcast);
  return {
    get listening() {
      return wakeup.listening;
    },
    async metrics() {
      metrics.listening.set(wakeup.listening ? 1 : 0);
      await gaugeDatabase({ metrics, feed, pool, gauges: [gaugeInstances], log });
      return textOf(metrics, [...OF_THE_READER, ...OF_ALL_PROCESSES]);
    },
    async close() {
      broadcast.close();
      await source.close();
      await pool.end();
    },
  };
}

async function readStream(
  databaseUrl: string,
  streamUrl: string,
  settings: Settings['relay'],
  log: Log,
): Promise<SharedReader> {
  const metrics = createMetrics();
  const pool = createRelayPool(databaseUrl, log);
  const installation = await findInstallation(databaseUrl, pool, log).finally(() => pool.end());
  const stream = new RedisReader({ url: streamUrl, installation }, log);
  const { feed, wakeup, ...source } = readEntries({ databaseUrl, settings, stream, log, metrics });
  const broadcast = new EntryBroadcast(feed, stream, metrics);
  source.start(broadcast);
  return {
    get listening() {
      return wakeup.listening;
    },
    async metrics() {
      metrics.streaming.set(wakeup.listening ? 1 : 0);
      return textOf(metrics, OF_AN_EDGE);
    },
    async close() {
      broadcast.close();
      await source.close();
    },
  };
}

/** No client reconnects to this process, so it keeps no recent events. */
const NO_MEMORY = { windowBytes: 1, windowEvents: 1 };
