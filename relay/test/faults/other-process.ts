// Clients in a process of their own, which can be stopped and go on: their connections stay open meanwhile, and
// nobody reads. With arguments this file is that process.
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { packageRoot } from '../../package.ts';
import type { EventKey } from './ledger.ts';
import { Page } from './page.ts';
import type { Figures, Kind, Viewing } from './viewing.ts';

interface Plan {
  readonly account: string;
  readonly kind: Kind;
  readonly port: number;
  readonly name: string;
}

interface Seen {
  readonly name: string;
  readonly figures: Figures;
  readonly viewings: readonly Viewing[];
}

type Message =
  | { readonly about: 'live' }
  | { readonly about: 'mark'; readonly name: string; readonly mark: EventKey }
  | { readonly about: 'seen'; readonly pages: readonly Seen[] };

/** One of its pages, as the process that compares knows it. */
export class DistantPage {
  readonly name: string;
  readonly account: string;
  readonly marks = new Set<EventKey>();

  constructor({ name, account }: Plan) {
    this.name = name;
    this.account = account;
  }

  hasHeard(mark: EventKey): boolean {
    return this.marks.has(mark);
  }
}

export class OtherProcess {
  readonly pages: readonly DistantPage[];
  readonly #child: ChildProcess;
  #turn: Promise<void> = Promise.resolve();

  private constructor(child: ChildProcess, plans: readonly Plan[]) {
    this.#child = child;
    this.pages = plans.map((plan) => new DistantPage(plan));
    child.on('message', (message: Message) => {
      if (message.about !== 'mark') return;
      this.pages.find(({ name }) => name === message.name)?.marks.add(message.mark);
    });
  }

  get pids(): number[] {
    return this.#child.pid === undefined ? [] : [this.#child.pid];
  }

  /** Resolves when its pages are live. */
  static async start(plans: readonly Plan[], databaseUrl: string): Promise<OtherProcess> {
    const child = fork(fileURLToPath(import.meta.url), [JSON.stringify({ plans, databaseUrl })], {
      execArgv: ['--enable-source-maps', '--import', 'tsx'],
      cwd: packageRoot,
      serialization: 'advanced',
    });
    const process = new OtherProcess(child, plans);
    await process.#answer('live');
    return process;
  }

  /** SIGSTOP, and SIGCONT after so long. */
  async freeze(ms: number): Promise<void> {
    const freeze = this.#turn.then(async () => {
      this.#child.kill('SIGSTOP');
      await sleep(ms);
      this.#child.kill('SIGCONT');
    });
    this.#turn = freeze;
    await freeze;
  }

  /** What its pages saw. They are closed then, and the process ends. */
  async finish(): Promise<readonly Seen[]> {
    await this.#turn;
    const answer = this.#answer('seen');
    this.#child.send('finish');
    const { pages } = await answer;
    this.#child.kill('SIGKILL');
    return pages;
  }

  async #answer<About extends Message['about']>(about: About): Promise<Extract<Message, { about: About }>> {
    for (;;) {
      const [message] = (await Promise.race([
        once(this.#child, 'message'),
        once(this.#child, 'exit').then(() => {
          throw new Error('The process of clients ended by itself.');
        }),
      ])) as [Message];
      if (message.about === about) return message as Extract<Message, { about: About }>;
    }
  }
}

async function play({ plans, databaseUrl }: { plans: readonly Plan[]; databaseUrl: string }): Promise<void> {
  const tell = (message: Message) => void process.send?.(message);
  process.once('disconnect', () => process.exit(0));
  const pages = plans.map((plan) => new Page({ ...plan, databaseUrl }));
  for (const page of pages) page.onMark = (mark) => tell({ about: 'mark', name: page.name, mark });
  process.on('message', () => {
    tell({
      about: 'seen',
      pages: pages.map(({ name, figures, viewings }) => ({ name, figures, viewings })),
    });
  });
  await Promise.all(pages.map((page) => page.open()));
  tell({ about: 'live' });
}

const argument = process.argv[2];
if (process.send && process.argv[1] === fileURLToPath(import.meta.url) && argument !== undefined) {
  await play(JSON.parse(argument) as { plans: readonly Plan[]; databaseUrl: string });
}
