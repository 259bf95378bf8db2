// A relay, edge or hub as a process of the build.
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { packageRoot } from '../../package.ts';
import { deadPort, OPERATOR, until } from '../world.ts';

export class Process {
  readonly port: number;
  #child: ChildProcess;

  private constructor(command: string, port: number, env: Record<string, string>) {
    this.port = port;
    this.#child = spawn(process.execPath, [join(packageRoot, 'dist/relay/main.js'), command], {
      env: { ...process.env, ...env, HOST: '127.0.0.1', PORT: String(port), LOG_LEVEL: 'warn' },
      stdio: process.env.TEST_LOG ? 'inherit' : 'ignore',
    });
  }

  static async start(command: string, env: Record<string, string>): Promise<Process> {
    const started = new Process(command, await deadPort(), env);
    try {
      await until(`${command} is ready`, () => started.isReady(), 60_000);
    } catch (error) {
      await started.end('SIGKILL');
      throw error;
    }
    return started;
  }

  async isReady(): Promise<boolean> {
    return (await this.ask('/readyz')).status === 200;
  }

  async ask(path: string): Promise<{ status: number; text: string }> {
    try {
      const response = await fetch(`http://127.0.0.1:${this.port}${path}`, {
        headers: OPERATOR,
        signal: AbortSignal.timeout(5_000),
      });
      return { status: response.status, text: await response.text() };
    } catch {
      return { status: 0, text: '' };
    }
  }

  async metric(name: string): Promise<number | undefined> {
    const line = (await this.ask('/metrics')).text.split('\n').find((text) => text.startsWith(`${name} `));
    return line === undefined ? undefined : Number(line.split(' ')[1]);
  }

  signal(signal: NodeJS.Signals): void {
    this.#child.kill(signal);
  }

  /** @returns its exit code, or the signal that ended it */
  async end(signal: NodeJS.Signals = 'SIGTERM'): Promise<number | NodeJS.Signals | null> {
    const child = this.#child;
    if (child.exitCode === null && child.signalCode === null) {
      const gone = once(child, 'exit');
      child.kill('SIGCONT');
      child.kill(signal);
      await gone;
    }
    return child.exitCode ?? child.signalCode;
  }
}
