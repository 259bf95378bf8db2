// What clients are rightly told to refetch for: the database has another history than they heard, or events are gone
// that they had not heard. What a client misses must lie behind a relay:resync.
import { setTimeout as sleep } from 'node:timers/promises';
import type { Chance } from './chance.ts';
import { type FaultKind, RECONNECT_MS, some, type World } from './world.ts';

/** The database goes on for a while, and is then what it was before. One such fault after the other. */
async function goBack(world: World, chance: Chance, promotions: readonly [boolean, boolean]): Promise<void> {
  const { server, nodes, ledger, undone, disturbances } = world;
  await disturbances.during('everybody', RECONNECT_MS, () =>
    server.inTurn(async () => {
      const after = ledger.now;
      allow(world, 'epoch', promotions[0] ? 2 : 1);
      await server.keepCopy(promotions[0]);
      // Mostly the relays hand on what will be undone.
      if (chance.happens(0.8)) await Promise.allSettled(nodes.map((node) => node.ready(15_000)));
      await sleep(chance.between(500, 3_000));
      try {
        await server.goBack(promotions[1]);
      } finally {
        // Also where another fault lets it fail: the database may have gone back by then.
        undone.push({ after, before: ledger.now });
      }
    }),
  );
}

/** Each client may be told so many times more to refetch for this reason. */
function allow({ mayRefetch }: World, reason: string, times: number): void {
  mayRefetch.set(reason, (mayRefetch.get(reason) ?? 0) + times);
}

export const REFETCH_FAULTS: readonly FaultKind[] = [
  {
    // Beneath running relays, and the applications are faster than they.
    name: 'storage snapshot restored',
    weight: 1,
    happen: async (world, chance) => goBack(world, chance, [false, false]),
  },
  {
    name: 'restored to a point in time',
    weight: 1,
    happen: async (world, chance) => goBack(world, chance, [false, true]),
  },
  {
    // Of two standbys one is promoted, and after it the other, which never followed it: both have the same timeline.
    name: 'two standbys promoted',
    weight: 1,
    happen: async (world, chance) => goBack(world, chance, [true, true]),
  },
  {
    // Set by hand, since a minute is the least that may be asked for.
    name: 'events kept for five seconds',
    weight: 1,
    happen: async (world, chance) => {
      const { server, clients, disturbances } = world;
      const chosen = some(clients, chance);
      allow(world, 'retention', 2);
      await server.insist("update relay.installation set retention = '5 seconds'");
      try {
        await disturbances.during(
          () => chosen,
          RECONNECT_MS,
          async () => {
            for (const { link } of chosen) link.freeze();
            await sleep(chance.between(8_000, 18_000));
            for (const { link } of chosen) link.thaw();
            for (const { link } of chosen) if (chance.happens(0.5)) link.cut();
          },
        );
      } finally {
        await server.insist("update relay.installation set retention = '1 minute'");
      }
    },
  },
];
