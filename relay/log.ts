// Everything the processes can say, in one list. A line is an observation with a name: grep the name in the
// logs, find it here. Secrets have no place in a line: no tokens, no keys, no payloads.
import { type Level, type Logger, pino } from 'pino';

interface Observation {
  level: Level;
  text: (fields: never) => string;
}

const observations = {
  // processes
  process_starting: {
    level: 'info',
    text: (o: { role: string; version: string }) => `recado ${o.version} starts as ${o.role}`,
  },
  process_stopping: { level: 'info', text: (o: { signal: string }) => `${o.signal} received, closing` },
  process_stopped: { level: 'info', text: () => 'closed' },
  process_failed: { level: 'fatal', text: (o: { error: string }) => `cannot go on: ${o.error}` },

  // embedded Postgres
  embedded_creating: { level: 'info', text: (o: { dataDir: string }) => `making a database in ${o.dataDir}` },
  embedded_copied: {
    level: 'info',
    text: (o: { from: string; to: string }) =>
      `Postgres cannot run from ${o.from} here, it runs from ${o.to}`,
  },
  embedded_port_taken: {
    level: 'warn',
    text: (o: { wanted: number; port: number }) => `port ${o.wanted} is taken, Postgres listens on ${o.port}`,
  },
  embedded_ready: {
    level: 'info',
    text: (o: { dataDir: string; port: number; pid: number }) =>
      `Postgres on 127.0.0.1:${o.port}, data in ${o.dataDir}`,
  },
  embedded_server_said: { level: 'debug', text: (o: { line: string }) => o.line },
  embedded_exited: {
    level: 'error',
    text: (o: { how: string }) => `the embedded Postgres ended by itself (${o.how})`,
  },
} satisfies Record<string, Observation>;

type Observations = typeof observations;
export type ObservationName = keyof Observations;

export interface Log {
  /** Writes one observation; `fields` appear as JSON properties and in the sentence. */
  say<N extends ObservationName>(name: N, ...fields: Parameters<Observations[N]['text']>): void;
  /** The same log with properties (a socket id, a request id) on every line. */
  with(bindings: Record<string, string | number>): Log;
}

/**
 * @param level lowest level written: trace, debug, info, warn, error, fatal or silent
 * @param pretty human-readable lines (for a terminal) instead of JSON
 */
export function createLog(level: string, pretty: boolean): Log {
  const options = pretty
    ? {
        level,
        transport: {
          target: 'pino-pretty',
          options: { ignore: 'pid,hostname,name', translateTime: 'SYS:HH:MM:ss.l' },
        },
      }
    : { level, base: null };
  return wrap(pino(options));
}

function wrap(logger: Logger): Log {
  return {
    say(name, ...fields) {
      const { level, text } = observations[name] as { level: Level; text: (o: unknown) => string };
      logger[level]({ event: name, ...(fields[0] as object | undefined) }, text(fields[0]));
    },
    with(bindings) {
      return wrap(logger.child(bindings));
    },
  };
}
