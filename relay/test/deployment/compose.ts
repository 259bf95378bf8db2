// What docker-compose.yml says, as an engine would read it, and what of it runs here without one.
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parse } from 'yaml';
import { packageRoot } from '../../package.ts';
import { deadPort, until } from '../world.ts';

export interface Service {
  image?: string;
  environment?: Record<string, string>;
  command?: string | string[];
  volumes?: string[];
  profiles?: string[];
}

export const readFile = (file: string) => readFileSync(join(packageRoot, file), 'utf8');

/** @param env what stands in .env; without it, ${VARIABLES} stay */
export function readCompose(env?: Record<string, string>): Record<string, Service> {
  const fill = (_key: unknown, value: unknown) =>
    env && typeof value === 'string'
      ? value.replaceAll(/\$\{([A-Z_]+):([?-])([^}]*)\}/g, (_, name: string, kind: string, rest: string) => {
          const filled = env[name] || (kind === '-' ? rest : undefined);
          if (filled === undefined) throw new Error(`${name}: ${rest}`);
          return filled;
        })
      : value;
  return (
    parse(readFile('docker-compose.yml'), fill, { merge: true }) as { services: Record<string, Service> }
  ).services;
}

export const commandOf = ({ command = [] }: Service): string[] =>
  typeof command === 'string' ? command.split(' ').filter((word) => word !== '') : command;

export interface Balancer {
  readonly port: number;
  /** What it has logged. */
  log(): string;
  close(): Promise<void>;
}

export const HAPROXY = '/usr/sbin/haproxy';

/**
 * Debian's HAProxy with the shipped configuration, in which only addresses are others.
 * @param nodes the port of each node that the configuration names
 */
export async function startBalancer(nodes: Record<string, number>): Promise<Balancer> {
  const port = await deadPort();
  const addresses = Object.entries(nodes).map(([name, own]) => [`${name}:3000`, `127.0.0.1:${own}`]);
  let text = readFile('deploy/haproxy.cfg');
  for (const [shipped, here] of [['bind :3000', `bind 127.0.0.1:${port}`], ...addresses]) {
    if (!text.includes(shipped!)) throw new Error(`deploy/haproxy.cfg does not name ${shipped}`);
    text = text.replaceAll(shipped!, here!);
  }
  const folder = await mkdtemp(join(tmpdir(), 'recado-haproxy-'));
  const file = join(folder, 'haproxy.cfg');
  await writeFile(file, text);
  // A machine whose limit of open files is 20,000 must do.
  const limited = ['--nofile=20000:20000', HAPROXY, '-db', '-f', file];
  const child: ChildProcess = spawn('/usr/bin/prlimit', limited, { stdio: ['ignore', 'pipe', 'pipe'] });
  const ended = once(child, 'exit');
  let said = '';
  for (const stream of [child.stdout!, child.stderr!]) {
    stream.on('data', (data) => {
      said += String(data);
    });
  }
  const close = async () => {
    child.kill('SIGKILL');
    await ended;
    await rm(folder, { recursive: true, force: true });
  };
  try {
    await until('the load balancer answers', async () => {
      if (child.exitCode !== null) throw new Error(`haproxy did not start: ${said}`);
      return (await fetch(`http://127.0.0.1:${port}/readyz`).catch(() => null))?.ok;
    });
  } catch (error) {
    await close();
    throw error;
  }
  return { port, log: () => said, close };
}
