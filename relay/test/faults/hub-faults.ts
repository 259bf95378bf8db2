// What goes wrong between the outbox and the edges: hubs, Redis, and the links to it. The database is always a way
// round, so none of it is a reason to refetch.
import { setTimeout as sleep } from 'node:timers/promises';
import type { Chance } from './chance.ts';
import type { Link } from './links.ts';
import type { RelayNode } from './nodes.ts';
import type { Beyond } from './stage.ts';
import { type FaultKind, RECONNECT_MS, type World } from './world.ts';

function beyond({ stream }: World): Beyond {
  if (!stream) throw new Error('There is no hub in this run.');
  return stream;
}

/** In everybody's way. Edges need two seconds to notice that nothing comes, and then take turns at the database. */
function disturb(world: World, work: () => Promise<unknown>): Promise<void> {
  return world.disturbances.during('everybody', RECONNECT_MS, work);
}

/** A link that is cut, hangs for a while, or loses its other end. */
async function breakLink(link: Link, chance: Chance): Promise<void> {
  const how = chance.one(['cut', 'freeze', 'forget']);
  if (how === 'cut') link.cut();
  else if (how === 'forget') link.forget(chance.happens(0.5), 30_000);
  else {
    link.freeze();
    await sleep(chance.between(500, 8_000));
    link.thaw();
  }
}

function linkOf(world: World, node: RelayNode): Link {
  const link = beyond(world).links.get(node);
  if (!link) throw new Error(`${node.name} has no link to Redis.`);
  return link;
}

export const HUB_FAULTS: readonly FaultKind[] = [
  {
    name: 'hub killed',
    weight: 3,
    happen: (world, chance) =>
      disturb(world, () =>
        chance.one(beyond(world).hubs).restart('SIGKILL', () => sleep(chance.between(0, 4_000))),
      ),
  },
  {
    name: 'hub terminated',
    weight: 1,
    happen: (world, chance) =>
      disturb(world, () =>
        chance.one(beyond(world).hubs).restart('SIGTERM', () => sleep(chance.between(0, 2_000))),
      ),
  },
  {
    // The other one takes over after a second; then both append what they have.
    name: 'hub frozen',
    weight: 3,
    happen: (world, chance) =>
      disturb(world, () => chance.one(beyond(world).hubs).freeze(chance.between(500, 8_000))),
  },
  {
    name: 'hubs away',
    weight: 1,
    happen: (world, chance) =>
      disturb(world, () =>
        Promise.all(
          beyond(world).hubs.map((hub) => hub.restart('SIGKILL', () => sleep(chance.between(1_000, 5_000)))),
        ),
      ),
  },
  {
    name: 'hub cut from Redis',
    weight: 2,
    happen: (world, chance) =>
      disturb(world, () => breakLink(linkOf(world, chance.one(beyond(world).hubs)), chance)),
  },
  {
    name: 'hub cut from the database',
    weight: 2,
    happen: (world, chance) =>
      disturb(world, () => breakLink(chance.one(beyond(world).hubs).database, chance)),
  },
  {
    name: 'edge cut from Redis',
    weight: 3,
    happen: (world, chance) =>
      disturb(world, () => breakLink(linkOf(world, chance.one(world.nodes)), chance)),
  },
  {
    // Until its buffers are full and entries wait in the stream; they are gone when it reads on.
    name: 'stream trimmed beneath a slow edge',
    weight: 3,
    happen: async (world, chance) => {
      const link = linkOf(world, chance.one(world.nodes));
      await disturb(world, async () => {
        link.freeze();
        await sleep(chance.between(500, 3_000));
        await beyond(world).server.trim(chance.between(0, 3));
        link.thaw();
      });
    },
  },
  {
    name: 'Redis killed',
    weight: 2,
    happen: (world, chance) =>
      disturb(world, () => beyond(world).server.kill(() => sleep(chance.between(0, 4_000)))),
  },
  {
    name: 'Redis frozen',
    weight: 2,
    happen: (world, chance) =>
      disturb(world, () => beyond(world).server.freeze(() => sleep(chance.between(500, 6_000)))),
  },
  {
    name: 'Redis flushed',
    weight: 2,
    happen: (world) => disturb(world, () => beyond(world).server.flush()),
  },
  {
    name: 'Redis failed over to a replica that misses the last second',
    weight: 2,
    happen: (world, chance) =>
      disturb(world, () => beyond(world).server.failOver(() => sleep(chance.between(500, 1_500)))),
  },
];
