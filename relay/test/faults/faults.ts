// What goes wrong during a run: a schedule made from the seed before anything begins, and how each fault is done.
import { setTimeout as sleep } from 'node:timers/promises';
import { describe } from '../../errors.ts';
import { Chance } from './chance.ts';
import type { Client } from './clients.ts';
import type { RelayNode } from './nodes.ts';
import { ACCOUNTS, type Server } from './server.ts';
import type { Writers } from './writers.ts';

export interface World {
  readonly server: Server;
  readonly nodes: readonly RelayNode[];
  readonly clients: readonly Client[];
  readonly writers: Writers;
}

interface Kind {
  readonly name: string;
  /** How often, compared with the others. */
  readonly weight: number;
  /** Resolves when it is healed. */
  readonly happen: (world: World, chance: Chance) => Promise<void>;
}

export interface Fault {
  readonly number: number;
  readonly atMs: number;
  readonly kind: string;
}

const SESSIONS = [
  'recado feed',
  'recado wakeup',
  'recado gate',
  'recado bell',
  'recado replay',
  'recado relay',
];

const KINDS: readonly Kind[] = [
  {
    name: 'relay killed',
    weight: 3,
    happen: async ({ nodes }, chance) =>
      chance.one(nodes).restart('SIGKILL', () => sleep(chance.between(0, 3_000))),
  },
  {
    name: 'relay terminated',
    weight: 2,
    happen: async ({ nodes }, chance) =>
      chance.one(nodes).restart('SIGTERM', () => sleep(chance.between(0, 2_000))),
  },
  {
    name: 'rolling restart',
    weight: 1,
    happen: async ({ nodes, clients }, chance) => {
      for (const node of chance.shuffled(nodes)) {
        await node.restart('SIGTERM', () => sleep(chance.between(0, 500)));
        await node.ready();
        const other = nodes.find((candidate) => candidate !== node)!;
        for (const client of clients) if (chance.happens(0.5)) client.link.point(other.port);
      }
    },
  },
  {
    name: 'relay frozen',
    weight: 2,
    happen: async ({ nodes }, chance) => chance.one(nodes).freeze(chance.between(500, 6_000)),
  },
  {
    name: 'postgres crashed under load',
    weight: 1,
    happen: async ({ server }, chance) => server.crash(chance.between(0, 2_000)),
  },
  {
    // Between two commits, when transaction ids have been given out that nothing on disk knows of: afterwards they
    // are given out again.
    name: 'postgres crashed in silence',
    weight: 2,
    happen: async ({ server, writers }, chance) => {
      writers.hush();
      try {
        await sleep(chance.between(20, 300));
        await server.use(async (session) => {
          for (let i = chance.between(5, 40); i > 0; i -= 1) {
            await session.query('begin');
            await session.query("select relay.emit('1', 'app.said', null)");
            await session.query('rollback');
          }
          // Every feed reads now; this commit does not wait for the disk.
          await session.query("select pg_notify('relay', '')");
        });
        await sleep(chance.between(5, 60));
        await server.crash(chance.between(0, 1_500));
      } finally {
        writers.resume();
      }
    },
  },
  {
    name: 'relay session ended',
    weight: 4,
    happen: async ({ server }, chance) => {
      const wanted = chance.happens(0.3) ? SESSIONS : [chance.one(SESSIONS)];
      await server.query(
        'select pg_terminate_backend(pid) from pg_stat_activity where application_name = any ($1)',
        [wanted],
      );
    },
  },
  {
    name: 'database link cut',
    weight: 2,
    happen: async ({ nodes }, chance) => chance.one(nodes).database.cut(),
  },
  {
    name: 'database link frozen',
    weight: 1,
    happen: async ({ nodes }, chance) => {
      const { database } = chance.one(nodes);
      database.freeze();
      await sleep(chance.between(1_000, 8_000));
      database.thaw();
    },
  },
  {
    name: 'database link half-open',
    weight: 1,
    happen: async ({ nodes }, chance) => {
      const { database } = chance.one(nodes);
      database.forget(chance.happens(0.3), 300_000);
      await sleep(3_000);
    },
  },
  {
    name: 'database link slow',
    weight: 1,
    happen: async ({ nodes }, chance) => {
      const { database } = chance.one(nodes);
      database.delay(chance.between(20, 400));
      await sleep(chance.between(1_000, 5_000));
      database.delay(0);
    },
  },
  {
    name: 'client links cut',
    weight: 3,
    happen: async ({ clients }, chance) => {
      for (const { link } of some(clients, chance)) link.cut();
    },
  },
  {
    // The phone changes networks: the client knows, the relay keeps a socket that is dead.
    name: 'client links half-open',
    weight: 3,
    happen: async ({ clients }, chance) => {
      for (const { link } of some(clients, chance)) link.forget(true, chance.between(1_000, 30_000));
    },
  },
  {
    name: 'clients not reading',
    weight: 3,
    happen: async ({ clients }, chance) => {
      const links = some(clients, chance).map(({ link }) => link);
      for (const link of links) link.freeze();
      await sleep(chance.between(500, 8_000));
      for (const link of links) link.thaw();
    },
  },
  {
    name: 'clients flooded',
    weight: 1,
    happen: async ({ clients, writers }, chance) => {
      const account = chance.between(0, ACCOUNTS.length - 1);
      const links = clients.filter((client) => client.account === ACCOUNTS[account]).map(({ link }) => link);
      const frozen = chance.shuffled(links).slice(0, 3);
      for (const link of frozen) link.freeze();
      await writers.flood(account);
      await sleep(chance.between(500, 2_000));
      for (const link of frozen) link.thaw();
    },
  },
  {
    name: 'clients slow',
    weight: 2,
    happen: async ({ clients }, chance) => {
      const links = some(clients, chance).map(({ link }) => link);
      for (const link of links) link.throttle(chance.between(4_000, 60_000));
      await sleep(chance.between(1_000, 8_000));
      for (const link of links) link.throttle(Number.POSITIVE_INFINITY);
    },
  },
  {
    name: 'client links delayed',
    weight: 1,
    happen: async ({ clients }, chance) => {
      const links = some(clients, chance).map(({ link }) => link);
      for (const link of links) link.delay(chance.between(20, 500));
      await sleep(chance.between(1_000, 5_000));
      for (const link of links) link.delay(0);
    },
  },
  {
    name: 'clients moved',
    weight: 3,
    happen: async ({ clients, nodes }, chance) => {
      for (const { link } of some(clients, chance)) {
        const other = nodes.find(({ port }) => port !== link.target)!;
        link.point(other.port);
        if (chance.happens(0.5)) link.cut();
        else link.forget(true, 10_000);
      }
    },
  },
  {
    name: 'pages reloaded',
    weight: 3,
    happen: async ({ clients }, chance) => {
      const pages = clients.filter(
        ({ kind }) => kind === 'keeper' || kind === 'forgetful' || kind === 'loader',
      );
      await Promise.all(some(pages, chance).map((page) => page.reload()));
    },
  },
  {
    name: 'burst of commits',
    weight: 3,
    happen: async ({ writers }, chance) => writers.burst(chance.between(1_000, 3_000)),
  },
];

/** Evenly over the time, each kind at least once where there are enough of them. */
export function makeSchedule(seed: number, count: number, milliseconds: number, only?: string): Fault[] {
  const chance = new Chance(seed, 'schedule');
  const kinds = only === undefined ? KINDS : KINDS.filter(({ name }) => new RegExp(only).test(name));
  if (kinds.length === 0) {
    throw new Error(
      `No kind of fault has a name like "${only}"; there are ${KINDS.map(({ name }) => name).join(', ')}.`,
    );
  }
  const bag = kinds.flatMap(({ name, weight }) => Array.from({ length: weight }, () => name));
  const first = chance.shuffled(kinds.map(({ name }) => name));
  const chosen = Array.from({ length: count }, (_, i) => first[i] ?? chance.one(bag));
  return chance.shuffled(chosen).map((kind, number) => ({
    number,
    kind,
    atMs: Math.round(((number + chance.fraction()) / count) * milliseconds),
  }));
}

/** Lets the faults of a schedule happen, each at its time, also while others last. Resolves when all are healed. */
export async function runSchedule(
  schedule: readonly Fault[],
  seed: number,
  world: World,
  say: (line: string) => void,
): Promise<void> {
  const began = Date.now();
  const healed: Promise<void>[] = [];
  for (const { number, atMs, kind } of schedule) {
    await sleep(Math.max(0, began + atMs - Date.now()));
    const { happen } = KINDS.find(({ name }) => name === kind)!;
    say(`${((Date.now() - began) / 1_000).toFixed(1)} s  ${kind}`);
    const fault = happen(world, new Chance(seed, `fault ${number}`)).catch((error: unknown) => {
      // Another fault may be in its way: no session can be ended while Postgres is down.
      say(`     ${kind} did not go through: ${describe(error)}`);
    });
    healed.push(fault);
  }
  await Promise.all(healed);
}

function some(clients: readonly Client[], chance: Chance): Client[] {
  return chance.shuffled(clients).slice(0, Math.ceil(clients.length * (0.1 + 0.5 * chance.fraction())));
}
