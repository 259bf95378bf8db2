// Debian's redis-server, or the Valkey that REDIS_SERVER names, for a test, on a free port, with nothing on disk.
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createClient } from '@redis/client';
import { deadPort } from './world.ts';

const PROGRAM = process.env.REDIS_SERVER ?? '/usr/bin/redis-server';

/** In CI its package is installed. */
export const redisIsMissing = !existsSync(PROGRAM) && process.env.RECADO_CI === undefined;

export interface Redis {
  readonly url: string;
  readonly pid: number;
  /** One command, on a connection of its own. */
  command(...words: string[]): Promise<unknown>;
  /** SIGKILL, or SIGSTOP and SIGCONT. */
  signal(signal: NodeJS.Signals): void;
  /** After a SIGKILL: on the same port, empty. */
  restart(): Promise<void>;
  close(): Promise<void>;
}

export async function startRedis(options: readonly string[] = [], password?: string): Promise<Redis> {
  const folder = await mkdtemp(join(tmpdir(), 'recado-redis-'));
  const port = await deadPort();
  const credentials = password === undefined ? '' : `:${encodeURIComponent(password)}@`;
  const url = `redis://${credentials}127.0.0.1:${port}`;
  let child = await launch();

  async function launch(): Promise<ChildProcess> {
    const fixed = [
      '--port',
      String(port),
      '--bind',
      '127.0.0.1',
      '--save',
      '',
      '--appendonly',
      'no',
      '--dir',
      folder,
    ];
    const secured = password === undefined ? [] : ['--requirepass', password];
    const started = spawn(PROGRAM, [...fixed, ...secured, ...options], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    let said = '';
    await new Promise<void>((resolve, reject) => {
      started.stdout!.on('data', (data) => {
        said += String(data);
        if (said.includes('Ready to accept connections')) resolve();
      });
      started.once('exit', () => reject(new Error(`redis-server did not start: ${said}`)));
    });
    return started;
  }
  async function kill(): Promise<void> {
    if (child.exitCode !== null || child.signalCode !== null) return;
    const ended = once(child, 'exit');
    child.kill('SIGKILL');
    await ended;
  }
  return {
    url,
    get pid() {
      return child.pid!;
    },
    async command(...words) {
      const client = createClient({ url, socket: { reconnectStrategy: false } });
      client.on('error', () => undefined);
      await client.connect();
      try {
        return await client.sendCommand(words);
      } finally {
        client.destroy();
      }
    },
    signal: (signal) => void child.kill(signal),
    async restart() {
      await kill();
      child = await launch();
    },
    async close() {
      await kill();
      await rm(folder, { recursive: true });
    },
  };
}
