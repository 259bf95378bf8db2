// Processes that end, stand still, or run out of something: relays, Postgres, and the clients' own.

import { connect, type Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import { disturbNode, type FaultKind, RECONNECT_MS, SETTLE_MS } from './world.ts';

const SESSIONS = [
  'recado feed',
  'recado wakeup',
  'recado gate',
  'recado notify',
  'recado replay',
  'recado relay',
];

export const PROCESS_FAULTS: readonly FaultKind[] = [
  {
    name: 'relay killed',
    weight: 3,
    happen: async (world, chance) => {
      const node = chance.one(world.nodes);
      await disturbNode(world, node, RECONNECT_MS, () =>
        node.restart('SIGKILL', () => sleep(chance.between(0, 3_000))),
      );
    },
  },
  {
    name: 'relay terminated',
    weight: 2,
    happen: async (world, chance) => {
      const node = chance.one(world.nodes);
      await disturbNode(world, node, RECONNECT_MS, () =>
        node.restart('SIGTERM', () => sleep(chance.between(0, 2_000))),
      );
    },
  },
  {
    name: 'relay worker killed',
    weight: 2,
    happen: async (world, chance) => {
      const node = chance.one(world.nodes.filter(({ processes }) => processes > 1));
      await disturbNode(world, node, RECONNECT_MS, () => node.killWorker(chance));
    },
  },
  {
    name: 'rolling restart',
    weight: 1,
    happen: async ({ nodes, clients, disturbances }, chance) => {
      await disturbances.during('everybody', RECONNECT_MS, async () => {
        for (const node of chance.shuffled(nodes)) {
          await node.restart('SIGTERM', () => sleep(chance.between(0, 500)));
          await node.ready();
          const others = nodes.filter((candidate) => candidate !== node);
          for (const client of clients) {
            if (chance.happens(0.5)) client.link.point(chance.one(others).port);
          }
        }
      });
    },
  },
  {
    name: 'relay frozen',
    weight: 2,
    happen: async (world, chance) => {
      const node = chance.one(world.nodes);
      // Whoever holds the gate holds up the others too, until they end it.
      await world.disturbances.during('everybody', RECONNECT_MS, () =>
        node.freeze(chance.between(500, 6_000)),
      );
    },
  },
  {
    name: 'client processes stopped',
    weight: 2,
    happen: async ({ others, disturbances }, chance) => {
      const { process } = chance.one(others);
      await disturbances.during(
        () => process.pages,
        RECONNECT_MS,
        () => process.freeze(chance.between(2_000, 15_000)),
      );
    },
  },
  {
    name: 'postgres crashed under load',
    weight: 1,
    happen: async ({ server, disturbances }, chance) =>
      disturbances.during('everybody', RECONNECT_MS, () => server.crash(chance.between(0, 2_000))),
  },
  {
    // Between two commits, when transaction ids have been given out that nothing on disk knows of: afterwards they
    // are given out again.
    name: 'postgres crashed in silence',
    weight: 2,
    happen: async ({ server, writers, disturbances }, chance) => {
      writers.pause();
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
        await disturbances.during('everybody', RECONNECT_MS, () => server.crash(chance.between(0, 1_500)));
      } finally {
        writers.resume();
      }
    },
  },
  {
    // No later commit takes them to the disk, and the WAL writer does so only every ten seconds.
    name: 'postgres crashed after asynchronous commits',
    weight: 1,
    happen: async ({ server, writers, disturbances }, chance) => {
      writers.pause();
      try {
        await sleep(chance.between(200, 500));
        await writers.commitAsynchronously();
        await sleep(chance.between(0, 30));
        await disturbances.during('everybody', RECONNECT_MS, () => server.crash(chance.between(0, 1_500)));
      } finally {
        writers.resume();
      }
    },
  },
  {
    name: 'relay session ended',
    weight: 4,
    happen: async ({ server, disturbances }, chance) => {
      const wanted = chance.happens(0.3) ? SESSIONS : [chance.one(SESSIONS)];
      await disturbances.during('everybody', SETTLE_MS, () =>
        server.query(
          'select pg_terminate_backend(pid) from pg_stat_activity where application_name = any ($1)',
          [wanted],
        ),
      );
    },
  },
  {
    // The relays must come back, and there is no place for them.
    name: 'postgres connections exhausted',
    weight: 1,
    happen: async ({ server, disturbances }, chance) => {
      await disturbances.during('everybody', RECONNECT_MS, async () => {
        const taken: pg.Client[] = [];
        try {
          for (let refused = false; !refused; ) {
            const client = new pg.Client({ connectionString: server.url });
            client.on('error', () => undefined);
            refused = await client.connect().then(
              () => false,
              () => true,
            );
            if (!refused) taken.push(client);
            if (taken.length === 20) {
              await client.query(
                "select pg_terminate_backend(pid) from pg_stat_activity where application_name like 'recado %'",
              );
            }
          }
          await sleep(chance.between(1_000, 4_000));
        } finally {
          await Promise.all(taken.map((client) => client.end().catch(() => undefined)));
        }
      });
    },
  },
  {
    // Its limit is low: it can take no connection, nor make one.
    name: 'descriptors exhausted',
    weight: 1,
    happen: async (world, chance) => {
      const node = world.nodes.find(({ descriptors }) => descriptors !== undefined);
      if (!node?.descriptors) throw new Error('No node has few descriptors.');
      const count = node.descriptors + 50;
      await disturbNode(world, node, RECONNECT_MS, async () => {
        const sockets: Socket[] = [];
        for (let i = 0; i < count; i += 1) {
          sockets.push(connect({ port: node.port, host: '127.0.0.1' }).on('error', () => undefined));
        }
        await sleep(chance.between(500, 1_500));
        node.database.cut();
        await sleep(chance.between(500, 2_500));
        for (const socket of sockets) socket.destroy();
      });
    },
  },
];
