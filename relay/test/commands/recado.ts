// The command line as a person runs it: another process, with an environment of its own.
import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { packageRoot } from '../../package.ts';

export interface Ran {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

/**
 * Runs a command to its end.
 * @param env besides PATH; nothing of the test's own environment
 * @param typed its standard input
 */
export function recado(args: readonly string[], env: Record<string, string>, typed = ''): Promise<Ran> {
  return new Promise((resolve) => {
    const child = execFile(
      process.execPath,
      [join(packageRoot, 'dist/relay/main.js'), ...args],
      { env: { PATH: process.env.PATH ?? '', ...env }, timeout: 80_000, maxBuffer: 2 ** 24 },
      (_, stdout, stderr) => resolve({ code: child.exitCode ?? -1, stdout, stderr }),
    );
    // A command that reads nothing may have ended.
    child.stdin?.on('error', () => undefined).end(typed);
  });
}
