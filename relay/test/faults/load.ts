// What happens in every database and must be in nobody's way: many commits, large ones, locks, changes of the
// contract, a new version that is migrated. Nothing here excuses a late event.
import { setTimeout as sleep } from 'node:timers/promises';
import { TOPIC_SETS } from './audiences.ts';
import type { Chance } from './chance.ts';
import type { Client } from './clients.ts';
import { ACCOUNTS, BOOKS } from './database.ts';
import { type FaultKind, some, type World } from './world.ts';

const LARGE_MS = 15_000;

function someChanging({ clients }: World, chance: Chance): Client[] {
  return some(
    clients.filter(({ kind }) => kind === 'changing'),
    chance,
  );
}

export const LOAD: readonly FaultKind[] = [
  {
    name: 'burst of commits',
    weight: 3,
    happen: async ({ writers }, chance) => writers.burst(chance.between(1_000, 3_000)),
  },
  {
    // In nobody's way but that of the account itself.
    name: 'large transaction',
    weight: 2,
    happen: async ({ clients, others, writers, disturbances }, chance) => {
      const book = chance.between(0, BOOKS.length - 1);
      const everybody = [...clients, ...others.flatMap(({ process }) => process.pages)];
      const members = everybody.filter(({ account }) => account === BOOKS[book]);
      await disturbances.during(
        () => members,
        LARGE_MS,
        () => writers.writeBook(book),
      );
    },
  },
  {
    // A DBA's lock, a VACUUM FULL, a stuck migration.
    name: 'old partition locked',
    weight: 2,
    happen: async ({ server }, chance) =>
      server.use(async (session) => {
        await session.query('begin');
        // Four slots from the one that writers are in, the next ones and the last ones are free.
        const { rows } = await session.query<{ partition: string }>(
          "select format('relay.events_%s', (relay.slot_at(now()) + 4) % 8) as partition",
        );
        await session.query(`lock table ${rows[0]!.partition} in access exclusive mode`);
        await sleep(chance.between(1_000, 6_000));
        await session.query('rollback');
      }),
  },
  {
    name: 'event suspended',
    weight: 2,
    happen: async ({ server }, chance) => {
      await server.query("select relay.suspend('visits.changed')");
      await sleep(chance.between(100, 2_000));
      await server.insist("select relay.resume('visits.changed')");
    },
  },
  {
    name: 'event left the contract',
    weight: 2,
    happen: async ({ server }, chance) => {
      await server.query("select relay.unpublish('app.flickered')");
      await sleep(chance.between(100, 2_000));
      await server.insist("select relay.publish(event => 'app.flickered')");
    },
  },
  {
    name: 'event published again',
    weight: 1,
    happen: async ({ server }, chance) => {
      await server.query('select relay.republish($1)', [
        chance.one(['items.changed', 'stock.changed', 'notes.created', 'visits.changed']),
      ]);
    },
  },
  {
    // As after an upgrade: every function and trigger is made anew.
    name: 'migrated',
    weight: 1,
    happen: async ({ server, stage }) => {
      await server.query("update relay.applied_sql set hash = 'of an older version'");
      await stage.migrate();
    },
  },
  {
    name: 'topics changed by a fresh token',
    weight: 3,
    happen: async (world, chance) => {
      const pages = someChanging(world, chance);
      await Promise.all(pages.map((page) => page.takeTopics(chance.one(TOPIC_SETS))));
    },
  },
  {
    name: 'topic taken away by a row',
    weight: 2,
    happen: async (world, chance) => {
      const { server } = world;
      // Where the database goes back in time, the row is undone.
      await server.inTurn(async () => {
        await Promise.all(
          someChanging(world, chance).map((page) =>
            page.loseTopic((topic) =>
              server.insist('select relay.revoke_topic($1, $2, $3)', [page.account, topic, page.kind]),
            ),
          ),
        );
      });
    },
  },
  {
    // Takes no part in any event, and is in progress for long.
    name: 'long transaction of another program',
    weight: 1,
    happen: async ({ server }, chance) =>
      server.use(async (session) => {
        await session.query('begin');
        await session.query(`select pg_current_xact_id(), $1::text`, [chance.one(ACCOUNTS)]);
        await sleep(chance.between(2_000, 12_000));
        await session.query('commit');
      }),
  },
];
