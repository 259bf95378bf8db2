// Writes log lines. observations.ts lists all of them.
import { type Level, type Logger, pino } from 'pino';
import { observations } from './observations.ts';

type Observations = typeof observations;
export type ObservationName = keyof Observations;
type Fields = { [N in ObservationName]: Parameters<Observations[N]['text']> };
const lines: { [N in ObservationName]: { level: Level; text: (...fields: Fields[N]) => string } } =
  observations;

export interface Log {
  /** Writes one observation; `fields` appear as JSON properties and in the sentence. */
  say<N extends ObservationName>(name: N, ...fields: Fields[N]): void;
  /** A log that adds properties (a socket id, a request id) to every line. */
  with(bindings: Record<string, string | number>): Log;
}

export const LOG_LEVELS = ['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'] as const;
export type LogLevel = (typeof LOG_LEVELS)[number];

/** A log whose level may be changed while the process runs; what with() returned follows. */
export interface AdjustableLog extends Log {
  /** The lowest level written. */
  lowest: LogLevel;
}

/** @param pretty readable lines for a terminal, instead of JSON */
export function createLog(lowest: LogLevel, pretty: boolean): AdjustableLog {
  const options = pretty
    ? {
        transport: {
          target: 'pino-pretty',
          options: { ignore: 'pid,hostname,name', translateTime: 'SYS:HH:MM:ss.l' },
        },
      }
    : { base: null };
  // pino's child loggers keep the level they were made with: ours decides, so that all follow.
  const shown = { lowest };
  return Object.assign(shown, wrap(pino({ level: 'trace', ...options }), shown));
}

function wrap(logger: Logger, shown: { readonly lowest: LogLevel }): Log {
  return {
    say(name, ...fields) {
      const { level, text } = lines[name];
      if (LOG_LEVELS.indexOf(level) < LOG_LEVELS.indexOf(shown.lowest)) return;
      logger[level](Object.assign({ event: name }, ...fields), text(...fields));
    },
    with(bindings) {
      return wrap(logger.child(bindings), shown);
    },
  };
}
