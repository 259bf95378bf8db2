// Links that break, stand still, lose their other end, or are slow; and clients that move or do not read.
import { setTimeout as sleep } from 'node:timers/promises';
import type { Chance } from './chance.ts';
import type { Client } from './clients.ts';
import { ACCOUNTS } from './database.ts';
import { disturbNode, type FaultKind, RECONNECT_MS, SETTLE_MS, some, type World } from './world.ts';

/** Chooses some clients, and says that this is in their way. */
async function disturbSome(
  { clients, disturbances }: World,
  chance: Chance,
  recoveryMs: number,
  work: (chosen: Client[]) => Promise<void>,
): Promise<void> {
  const chosen = some(clients, chance);
  await disturbances.during(
    () => chosen,
    recoveryMs,
    () => work(chosen),
  );
}

export const NETWORK_FAULTS: readonly FaultKind[] = [
  {
    name: 'database link cut',
    weight: 2,
    happen: async (world, chance) => {
      const node = chance.one(world.nodes);
      await disturbNode(world, node, SETTLE_MS, async () => node.database.cut());
    },
  },
  {
    name: 'database link frozen',
    weight: 1,
    happen: async ({ nodes, disturbances }, chance) => {
      const { database } = chance.one(nodes);
      // The gate may be held on the other side of it.
      await disturbances.during('everybody', RECONNECT_MS, async () => {
        database.freeze();
        await sleep(chance.between(1_000, 8_000));
        database.thaw();
      });
    },
  },
  {
    name: 'database link half-open',
    weight: 1,
    happen: async ({ nodes, disturbances }, chance) => {
      const { database } = chance.one(nodes);
      await disturbances.during('everybody', RECONNECT_MS, async () => {
        database.forget(chance.happens(0.3), 300_000);
        await sleep(12_000);
      });
    },
  },
  {
    name: 'database link slow',
    weight: 1,
    happen: async (world, chance) => {
      const node = chance.one(world.nodes);
      await world.disturbances.during('everybody', SETTLE_MS, async () => {
        node.database.delay(chance.between(20, 400));
        await sleep(chance.between(1_000, 5_000));
        node.database.delay(0);
      });
    },
  },
  {
    name: 'client links cut',
    weight: 3,
    happen: async (world, chance) =>
      disturbSome(world, chance, RECONNECT_MS, async (chosen) => {
        for (const { link } of chosen) link.cut();
      }),
  },
  {
    // The phone changes networks: the client knows, the relay keeps a socket that is dead.
    name: 'client links half-open',
    weight: 3,
    happen: async (world, chance) =>
      disturbSome(world, chance, RECONNECT_MS, async (chosen) => {
        for (const { link } of chosen) link.forget(true, chance.between(1_000, 30_000));
      }),
  },
  {
    name: 'clients not reading',
    weight: 3,
    happen: async (world, chance) =>
      disturbSome(world, chance, RECONNECT_MS, async (chosen) => {
        for (const { link } of chosen) link.freeze();
        await sleep(chance.between(500, 8_000));
        for (const { link } of chosen) link.thaw();
      }),
  },
  {
    name: 'clients flooded',
    weight: 1,
    happen: async ({ clients, writers, disturbances }, chance) => {
      const account = chance.between(0, ACCOUNTS.length - 1);
      const members = clients.filter((client) => client.account === ACCOUNTS[account]);
      await disturbances.during(
        () => members,
        RECONNECT_MS,
        async () => {
          const frozen = chance.shuffled(members).slice(0, 3);
          for (const { link } of frozen) link.freeze();
          await writers.flood(account);
          await sleep(chance.between(500, 2_000));
          for (const { link } of frozen) link.thaw();
        },
      );
    },
  },
  {
    name: 'clients slow',
    weight: 2,
    happen: async (world, chance) =>
      disturbSome(world, chance, RECONNECT_MS, async (chosen) => {
        for (const { link } of chosen) link.throttle(chance.between(4_000, 60_000));
        await sleep(chance.between(1_000, 8_000));
        for (const { link } of chosen) link.throttle(Number.POSITIVE_INFINITY);
      }),
  },
  {
    name: 'client links delayed',
    weight: 1,
    happen: async (world, chance) =>
      disturbSome(world, chance, SETTLE_MS, async (chosen) => {
        for (const { link } of chosen) link.delay(chance.between(20, 500));
        await sleep(chance.between(1_000, 5_000));
        for (const { link } of chosen) link.delay(0);
      }),
  },
  {
    name: 'clients moved',
    weight: 3,
    happen: async (world, chance) =>
      disturbSome(world, chance, RECONNECT_MS, async (chosen) => {
        for (const { link } of chosen) {
          const others = world.nodes.filter(({ port }) => port !== link.target);
          link.point(chance.one(others).port);
          if (chance.happens(0.5)) link.cut();
          else link.forget(true, 10_000);
        }
      }),
  },
  {
    name: 'pages reloaded',
    weight: 3,
    happen: async ({ clients, disturbances }, chance) => {
      const pages = clients.filter(
        ({ kind }) => kind === 'keeper' || kind === 'forgetful' || kind === 'loader',
      );
      const chosen = some(pages, chance);
      await disturbances.during(
        () => chosen,
        RECONNECT_MS,
        () => Promise.all(chosen.map((page) => page.reload())),
      );
    },
  },
];
