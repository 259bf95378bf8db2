// Relay nodes as an operator runs them: processes of their own, with their link to Postgres and a file for what
// they say.
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, openSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { deadPort } from '../port.ts';
import { until } from '../world.ts';
import type { Chance } from './chance.ts';
import { Link } from './links.ts';

export const SECRET = 'a secret for the fault tests, and for nothing else';

export interface NodeOptions {
  name: string;
  command: 'relay' | 'hub';
  /** The main.js to run. */
  main: string;
  /** For its log. */
  folder: string;
  /** The address of the database, given the port of a link to it. */
  databaseUrl: (port: number) => string;
  databasePort: number;
  environment: Record<string, string>;
  /** Most files and sockets it may have open. */
  descriptors?: number;
}

const OPERATOR_TOKEN = 'a token for operators of faults';

/** A machine that does other work too may take long until everything has started. */
export const PATIENCE_MS = 180_000;

/** In so much time it ends when asked to. */
const PROMISED_MS = 5_000;

/** The node is killed when this process ends, however that happens. */
const UNDER_WATCH = '( ( read -r _ <&3; kill -9 $$ ) >/dev/null 2>&1 & ) ; exec "$@" 3<&-';

const limited = (descriptors: number | undefined) =>
  descriptors === undefined ? UNDER_WATCH : `ulimit -n ${descriptors}; ${UNDER_WATCH}`;

export class RelayNode {
  readonly name: string;
  readonly port: number;
  readonly logFile: string;
  readonly database: Link;
  readonly processes: number;
  readonly descriptors: number | undefined;
  /** What it did that no relay should, as sentences. */
  readonly complaints: string[] = [];
  readonly #options: NodeOptions;
  #child: ChildProcess | null = null;
  #expected = false;
  #turn: Promise<void> = Promise.resolve();

  private constructor(options: NodeOptions, port: number, database: Link) {
    this.#options = options;
    this.name = options.name;
    this.processes = Number(options.environment.RELAY_PROCESSES ?? 1);
    this.descriptors = options.descriptors;
    this.port = port;
    this.database = database;
    this.logFile = join(options.folder, `relay-${options.name}.log`);
  }

  static async start(options: NodeOptions): Promise<RelayNode> {
    const node = new RelayNode(options, await deadPort(), await Link.to(options.databasePort));
    node.#spawn();
    await node.ready(PATIENCE_MS);
    return node;
  }

  /** Resolves when it serves clients. */
  async ready(withinMs = 60_000): Promise<void> {
    await until(
      `relay ${this.name} is ready (it writes to ${this.logFile})`,
      () => this.#answers('/readyz'),
      withinMs,
    );
  }

  /** One figure of its metrics; 0 where it does not answer. */
  async metric(name: string): Promise<number> {
    try {
      const response = await fetch(`http://127.0.0.1:${this.port}/metrics`, {
        headers: { authorization: `Bearer ${OPERATOR_TOKEN}` },
        signal: AbortSignal.timeout(2_000),
      });
      const line = (await response.text()).split('\n').find((text) => text.startsWith(`${name} `));
      return Number(line?.split(' ')[1] ?? 0);
    } catch {
      return 0; // It is down; whoever asks tries again.
    }
  }

  /** SIGKILL, or SIGTERM and the exit that is promised: code 0 in under five seconds. */
  async restart(signal: 'SIGKILL' | 'SIGTERM', whileDown: () => Promise<unknown>): Promise<void> {
    await this.#inTurn(async () => {
      await this.#end(signal);
      await whileDown();
      this.#spawn();
    });
  }

  /** Its process ids; the first is that of the process that was started. */
  async pids(): Promise<number[]> {
    const pid = this.#child?.pid;
    if (pid === undefined) return [];
    const children = await readFile(`/proc/${pid}/task/${pid}/children`, 'utf8').catch(() => '');
    return [pid, ...children.trim().split(' ').filter(Boolean).map(Number)];
  }

  /** SIGKILL for one of several processes, which is started again. */
  async killWorker(chance: Chance): Promise<void> {
    await this.#inTurn(async () => {
      const [, ...workers] = await this.pids();
      if (workers.length > 0) signal([chance.one(workers)], 'SIGKILL');
    });
  }

  /** SIGSTOP: the process is there, its connections are open, and it does nothing. */
  async freeze(ms: number): Promise<void> {
    await this.#inTurn(async () => {
      const pids = await this.pids();
      signal(pids, 'SIGSTOP');
      await sleep(ms);
      signal(pids, 'SIGCONT');
    });
  }

  /** How often each thing was said in its log, over all its restarts; see log.ts for what they mean. */
  async sayings(): Promise<Map<string, number>> {
    const counts = new Map<string, number>();
    for (const line of (await readFile(this.logFile, 'utf8')).split('\n')) {
      const event = /"event":"(\w+)"/.exec(line)?.[1];
      const state = /"state":"(\w+)"/.exec(line)?.[1];
      if (event === undefined) continue;
      const saying = state === undefined ? event : `${event} ${state}`;
      counts.set(saying, (counts.get(saying) ?? 0) + 1);
    }
    return counts;
  }

  async stop(): Promise<void> {
    await this.#inTurn(() => this.#end('SIGTERM'));
    await this.database.close();
  }

  /** One thing after the other happens to a node. */
  async #inTurn(work: () => Promise<void>): Promise<void> {
    const turn = this.#turn.then(work);
    this.#turn = turn;
    await turn;
  }

  #spawn(): void {
    const { main, command, environment, databaseUrl, descriptors } = this.#options;
    const log = openSync(this.logFile, 'a');
    const words = [process.execPath, '--enable-source-maps', main, command];
    const child = spawn('/bin/sh', ['-c', limited(descriptors), 'sh', ...words], {
      stdio: ['ignore', log, log, 'pipe'],
      env: {
        PATH: process.env.PATH,
        DATABASE_URL: databaseUrl(this.database.port),
        JWT_SECRET: SECRET,
        OPERATOR_TOKEN,
        HOST: '127.0.0.1',
        PORT: String(this.port),
        LOG_FORMAT: 'json',
        ...environment,
      },
    });
    closeSync(log);
    child.stdio[3]?.on('error', () => undefined); // The node ended first.
    this.#expected = false;
    this.#child = child;
    child.once('exit', (code, signal) => {
      if (this.#expected) return;
      this.complaints.push(`relay ${this.name} ended by itself (${signal ?? `exit code ${code}`})`);
      this.#spawn();
    });
  }

  async #end(signal: 'SIGKILL' | 'SIGTERM'): Promise<void> {
    const child = this.#child;
    if (!child) return;
    this.#expected = true;
    const began = Date.now();
    const exit = once(child, 'exit') as Promise<[number | null, string | null]>;
    const starved = measureStarvation();
    child.kill(signal);
    const patience = setTimeout(() => child.kill('SIGKILL'), 15_000);
    const [code, endedBy] = await exit;
    clearTimeout(patience);
    const ms = Date.now() - began - starved();
    // Before its handler is installed SIGTERM ends Node itself, with no exit code.
    const ended = code === 0 || endedBy === 'SIGTERM';
    if (signal === 'SIGTERM' && (!ended || ms > PROMISED_MS)) {
      this.complaints.push(`relay ${this.name} took ${ms} ms to end on SIGTERM, with exit code ${code}`);
    }
    this.#child = null;
  }

  async #answers(path: string): Promise<boolean> {
    try {
      const response = await fetch(`http://127.0.0.1:${this.port}${path}`, {
        signal: AbortSignal.timeout(1_000),
      });
      return response.ok;
    } catch {
      return false; // Not yet.
    }
  }
}

/** Starts a watch; reading it gives the milliseconds in which the machine had no time for us, and so for the relay. */
function measureStarvation(): () => number {
  const every = 20;
  let expected = Date.now() + every;
  let starved = 0;
  const timer = setInterval(() => {
    starved += Math.max(0, Date.now() - expected);
    expected = Date.now() + every;
  }, every);
  return () => {
    clearInterval(timer);
    return starved;
  };
}

/** Those that are still there. */
function signal(pids: readonly number[], name: 'SIGSTOP' | 'SIGCONT' | 'SIGKILL'): void {
  for (const pid of pids) {
    try {
      process.kill(pid, name);
    } catch {
      // It has ended.
    }
  }
}
