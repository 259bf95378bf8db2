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
