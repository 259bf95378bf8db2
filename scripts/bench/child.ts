// Processes of the bench: the server under test and its clients run apart from each other and from the writers.
// Asked and answered over the channel that fork() makes; they end with it.
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';

interface Asked {
  readonly id: number;
  readonly ask: string;
  readonly given: unknown;
}

interface Answered {
  readonly id: number;
  readonly answer?: unknown;
  readonly error?: string;
}

export interface Child {
  readonly pid: number;
  ask<T>(ask: string, given?: unknown): Promise<T>;
  close(): Promise<void>;
}

export async function startChild(file: string, env: Record<string, string>): Promise<Child> {
  const child: ChildProcess = fork(join(import.meta.dirname, file), [], {
    execArgv: [...process.execArgv, '--expose-gc'],
    env: { ...process.env, ...env },
  });
  const waiting = new Map<number, { resolve: (answer: unknown) => void; reject: (error: Error) => void }>();
  let asked = 0;
  child.on('message', (message) => {
    const { id, answer, error } = message as Answered;
    const asker = waiting.get(id);
    waiting.delete(id);
    if (error === undefined) asker?.resolve(answer);
    else asker?.reject(new Error(`${file}: ${error}`));
  });
  const gone = once(child, 'exit').then(() => {
    for (const { reject } of waiting.values()) reject(new Error(`${file} ended before it answered`));
  });
  const result: Child = {
    pid: child.pid!,
    ask<T>(ask: string, given?: unknown) {
      asked += 1;
      const id = asked;
      return new Promise<T>((resolve, reject) => {
        waiting.set(id, { resolve: resolve as (answer: unknown) => void, reject });
        child.send({ id, ask, given } satisfies Asked, (error) => error && reject(error));
      });
    },
    async close() {
      if (child.connected) child.disconnect();
      await gone;
    },
  };
  await result.ask('ready');
  return result;
}

type Answers = Record<string, (given: never) => unknown>;

/** The child's side. It ends when its parent does. */
export function answerParent(answers: Answers): void {
  process.on('message', (message) => {
    const { id, ask, given } = message as Asked;
    void (async () => {
      try {
        const answer = ask === 'ready' ? null : await answers[ask]!(given as never);
        process.send?.({ id, answer } satisfies Answered);
      } catch (error) {
        process.send?.({
          id,
          error: error instanceof Error ? error.message : String(error),
        } satisfies Answered);
      }
    })();
  });
  process.on('disconnect', () => process.exit(0));
}

export interface Usage {
  /** Microseconds of CPU since the process started. */
  readonly cpu: number;
  /** Bytes, after a garbage collection. */
  readonly memory: number;
}

export function readUsage(): Usage {
  const { user, system } = process.cpuUsage();
  return { cpu: user + system, memory: process.memoryUsage.rss() };
}
