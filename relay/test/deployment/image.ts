// The image that scripts/with-image.sh built, run as an engine would: its user, its folder, its entrypoint, its
// variables; in a chroot, on the host's network.
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { packageRoot } from '../../package.ts';

const run = promisify(execFile);
const BUILDAH = '/usr/bin/buildah';

interface Config {
  User: string;
  Entrypoint: string[];
  Cmd: string[];
  Healthcheck: { Test: string[] };
}

export interface Running {
  /** Standard output and error so far. */
  said(): string;
  /** Exit code; null after a signal. */
  readonly ended: Promise<number | null>;
  /** To the process in the container, not to what started it. */
  kill(signal: NodeJS.Signals): Promise<void>;
}

export class Image {
  readonly #store: string[];
  readonly #running: Running[] = [];
  #container = '';
  config!: Config;
  /** Its files, and those of the image it is made from. */
  folder = '';
  base = '';

  static async open(): Promise<Image> {
    const store = process.env.RECADO_IMAGE_STORE;
    if (store === undefined) throw new Error('There is no image: npm run test:image builds it first.');
    const image = new Image(store);
    image.#container = await image.#buildah('from', '--pull-never', 'recado');
    image.folder = await image.#buildah('mount', image.#container);
    const { Docker } = JSON.parse(await image.#buildah('inspect', image.#container)) as {
      Docker: { config: Config };
    };
    image.config = Docker.config;
    const base = /^FROM (\S+)$/m.exec(await readFile(join(packageRoot, 'Dockerfile'), 'utf8'))![1]!;
    image.base = await image.#buildah('mount', await image.#buildah('from', '--pull-never', base));
    return image;
  }

  private constructor(store: string) {
    this.#store = ['--root', `${store}/root`, '--runroot', `${store}/run`, '--storage-driver', 'vfs'];
  }

  async #buildah(...args: string[]): Promise<string> {
    return (await run(BUILDAH, [...this.#store, ...args], { maxBuffer: 2 ** 24 })).stdout.trim();
  }

  /** @param words after the entrypoint; none: the image's own command */
  start(words: string[], env: Record<string, string>): Running {
    const { Entrypoint, Cmd } = this.config;
    return this.exec([...Entrypoint, ...(words.length === 0 ? Cmd : words)], env);
  }

  exec(command: string[], env: Record<string, string>): Running {
    const variables = Object.entries(env).flatMap(([name, value]) => ['--env', `${name}=${value}`]);
    const isolated = ['--isolation', 'chroot', '--network', 'host', '--user', this.config.User];
    const child: ChildProcess = spawn(
      BUILDAH,
      [...this.#store, 'run', ...isolated, ...variables, this.#container, '--', ...command],
      { stdio: ['ignore', 'pipe', 'pipe'] },
    );
    let said = '';
    for (const stream of [child.stdout!, child.stderr!]) {
      stream.on('data', (data) => {
        said += String(data);
      });
    }
    const running: Running = {
      said: () => said,
      // With all that it said.
      ended: once(child, 'close').then(([code]) => code as number | null),
      kill: async (signal) => {
        const pid = await innermost(child.pid!);
        if (child.exitCode === null && pid !== child.pid) process.kill(pid, signal);
        else child.kill(signal);
        await running.ended;
      },
    };
    this.#running.push(running);
    return running;
  }

  async close(): Promise<void> {
    await Promise.all(this.#running.map((running) => running.kill('SIGKILL').catch(() => undefined)));
  }
}

/** buildah starts itself again twice before it starts the program. */
async function innermost(pid: number): Promise<number> {
  const { stdout } = await run('ps', ['-A', '-o', 'pid=,ppid=']);
  const pairs = stdout
    .trim()
    .split('\n')
    .map((line) => line.trim().split(/ +/).map(Number));
  for (let at = pid; ; ) {
    const child = pairs.find(([, parent]) => parent === at)?.[0];
    if (child === undefined) return at;
    at = child;
  }
}
