import type { Log } from '../log.ts';

/** A log that hands on what is said: the observation's name, and its fields as JSON. */
export function hearing(onSay: (name: string, fields: string) => void): Log {
  const log: Log = {
    say: (name, ...fields) => onSay(name, JSON.stringify(fields[0] ?? {})),
    with: () => log,
  };
  return log;
}
