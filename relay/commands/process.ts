// The life of a command's process: settings and log at its start, its database, signals, and its end.
import cluster from 'node:cluster';
import { z } from 'zod';
import { readSettings, type Settings } from '../config/settings.ts';
import { waitForDatabase } from '../db/connect.ts';
import { refusePooler } from '../db/pooler.ts';
import { RecadoError } from '../errors.ts';
import { requireInstalled } from '../install/installed.ts';
import { type AdjustableLog, createLog, LOG_LEVELS, type Log } from '../log.ts';
import { version } from '../package.ts';
import { findDatabase } from './demo.ts';

/** For `migrate`: a container may be started together with its database. */
export const PIPELINE_WAITS_MS = 60_000;
/** For commands that a person runs. */
export const PERSON_WAITS_MS = 10_000;

interface Needs {
  /** How long to wait for the database. A service sets none and waits for ever. */
  patienceMs?: number;
  /** false if the command also works in a database without Recado. */
  installed?: boolean;
  /** false if nothing outlives a transaction of this command, so that a transaction pooler does no harm. */
  direct?: boolean;
}

/** The URL of the database, once the database has what this command needs. */
export async function openDatabase(
  settings: Settings,
  log: Log,
  name: string,
  needs: Needs = {},
): Promise<string> {
  const { patienceMs, installed = true, direct = true } = needs;
  const url = await findDatabase(settings);
  await waitForDatabase({
    url,
    name,
    log,
    ...(patienceMs !== undefined && { patienceMs }),
    async check() {
      if (direct) await refusePooler({ url, name });
      if (installed) await requireInstalled({ url, name });
    },
  });
  return url;
}

/** The stream through which a hub hands on events. @throws RecadoError `stream_missing` */
export function requireStreamUrl({ stream }: Settings): string {
  if (stream.url !== null) return stream.url;
  throw new RecadoError(
    'stream_missing',
    'STREAM_URL is unset, but a hub hands events to relays through Redis: set it to redis://host:port, for the hub and for the relays.',
  );
}

/** Reads the settings before anything else happens, so that a wrong one ends the process with a sentence. */
export function begin(role: string): { settings: Settings; log: Log } {
  const settings = readSettings(process.env, role);
  const quiet = ['sql', 'trace', 'top', 'contract', 'token', 'tail', 'migrate', 'uninstall'].includes(role);
  const level = quiet && settings.log.level === 'info' ? 'warn' : settings.log.level;
  const { format } = settings.log;
  const log = createLog(level, format === 'auto' ? process.stdout.isTTY === true : format === 'pretty');
  log.say('process_starting', { role, version });
  if (!quiet) changeLevelOnSignal(log);
  return { settings, log };
}

export interface Running {
  /** Says that it runs. */
  announce?(): void;
  drain?(): Promise<void>;
  close(): Promise<void>;
}

/** Waits for a signal, then drains and closes everything. Ctrl-C skips the drain. */
export async function until(log: Log, running: Running): Promise<void> {
  const asked = Promise.race([
    received('SIGINT', 'SIGHUP'),
    // For good: a worker may get it twice, from the first process and from whoever sent it to that one.
    new Promise<string>((resolve) => process.on('SIGTERM', resolve)),
  ]);
  // Now, since whoever reads it may send a signal at once.
  running.announce?.();
  const signal = await asked;
  log.say('process_stopping', { signal });
  if (signal === 'SIGTERM') await Promise.race([running.drain?.(), received('SIGINT', 'SIGHUP')]);
  // An operator must not wait for something that hangs; ending the process is safe at any moment. Until all is closed the
  // timer keeps the process: Node ends one that only waits for a promise, with exit code 13.
  const patience = setTimeout(() => process.exit(0), CLOSE_WITHIN_MS);
  await running.close();
  patience.unref();
  log.say('process_stopped');
}

const CLOSE_WITHIN_MS = 3_500;

function received(...names: NodeJS.Signals[]): Promise<string> {
  return new Promise((resolve) => {
    for (const name of names) process.once(name, resolve);
  });
}

const logLevelMessage = z.object({ recado: z.literal('log level'), lowest: z.enum(LOG_LEVELS) });

/**
 * SIGUSR2 switches the level to debug, and the next one switches it back. The first of several processes passes the
 * level on to its workers, which ignore the signal: one sent to the whole process group would switch them twice.
 */
function changeLevelOnSignal(log: AdjustableLog): void {
  const { lowest: configured } = log;
  process.on('SIGUSR2', () => {
    if (cluster.isWorker) return;
    const lowest = log.lowest === 'debug' ? configured : 'debug';
    log.lowest = 'debug';
    log.say('log_level', { lowest });
    log.lowest = lowest;
    // For workers that start later.
    process.env.LOG_LEVEL = lowest;
    for (const worker of Object.values(cluster.workers ?? {})) {
      // One that ends at this moment need not know.
      worker?.send({ recado: 'log level', lowest }, () => undefined);
    }
  });
  if (!cluster.isWorker) return;
  process.on('message', (message: unknown) => {
    const { success, data } = logLevelMessage.safeParse(message);
    if (success) log.lowest = data.lowest;
  });
}

// `recado contract | head` reads no further.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code !== 'EPIPE') throw error;
  process.exit(process.exitCode ?? 0);
});

export function print(text: string): void {
  process.stdout.write(`${text}\n`);
}
