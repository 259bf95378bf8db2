// The Redis between hubs and edges: a primary with a replica, and a link of its own for each process that uses it.
import { type Redis, startRedis } from '../redis.ts';
import { until } from '../world.ts';
import { Link } from './links.ts';

export class StreamServer {
  #primary: Redis;
  #replica: Redis;
  readonly #links: Link[] = [];
  #turn: Promise<void> = Promise.resolve();

  private constructor(primary: Redis, replica: Redis) {
    this.#primary = primary;
    this.#replica = replica;
  }

  static async start(): Promise<StreamServer> {
    const primary = await startRedis();
    const replica = await startRedis(replicaOf(primary));
    const server = new StreamServer(primary, replica);
    await server.#replicates();
    return server;
  }

  /** For one process. */
  async link(): Promise<Link> {
    const link = await Link.to(portOf(this.#primary));
    this.#links.push(link);
    return link;
  }

  /** SIGKILL; it comes back empty. */
  async kill(whileDown: () => Promise<unknown>): Promise<void> {
    await this.#inTurn(async () => {
      this.#primary.signal('SIGKILL');
      await whileDown();
      await this.#primary.restart();
    });
  }

  /** SIGSTOP, and SIGCONT after that. */
  async freeze(meanwhile: () => Promise<unknown>): Promise<void> {
    await this.#inTurn(async () => {
      this.#primary.signal('SIGSTOP');
      await meanwhile();
      this.#primary.signal('SIGCONT');
    });
  }

  async flush(): Promise<void> {
    await this.#inTurn(async () => {
      await this.#primary.command('FLUSHALL');
    });
  }

  /** Leaves so many entries. */
  async trim(left: number): Promise<void> {
    await this.#inTurn(async () => {
      const keys = await this.#primary.command('KEYS', 'recado:*');
      if (!Array.isArray(keys)) return;
      for (const key of keys.map(String)) await this.#primary.command('XTRIM', key, 'MAXLEN', String(left));
    });
  }

  /** To a replica that misses what came meanwhile. The old primary is gone, and a new replica follows the new one. */
  async failOver(meanwhile: () => Promise<unknown>): Promise<void> {
    await this.#inTurn(async () => {
      await this.#replicates();
      await this.#replica.command('REPLICAOF', 'NO', 'ONE');
      await meanwhile();
      const gone = this.#primary;
      gone.signal('SIGKILL');
      this.#primary = this.#replica;
      for (const link of this.#links) {
        link.point(portOf(this.#primary));
        link.cut();
      }
      await gone.close();
      this.#replica = await startRedis(replicaOf(this.#primary));
    });
  }

  async stop(): Promise<void> {
    await this.#turn;
    for (const link of this.#links) await link.close();
    await Promise.all([this.#primary.close(), this.#replica.close()]);
  }

  async #replicates(): Promise<void> {
    await until(
      'the replica follows',
      async () =>
        String(await this.#replica.command('INFO', 'replication')).includes('master_link_status:up'),
      30_000,
    );
  }

  /** One thing after the other happens to it. */
  async #inTurn(work: () => Promise<void>): Promise<void> {
    const turn = this.#turn.then(work);
    this.#turn = turn.catch(() => undefined);
    await turn;
  }
}

function portOf({ url }: Redis): number {
  return Number(new URL(url).port);
}

function replicaOf(primary: Redis): string[] {
  return ['--replicaof', '127.0.0.1', String(portOf(primary)), '--repl-diskless-sync-delay', '0'];
}
