// What a writer may do in one transaction, and how often.
import type { Writer } from './writer.ts';

export type Deed = (writer: Writer) => Promise<void>;

/** What a writer does next, and how often of a hundred. */
export const DEEDS: readonly [percent: number, name: string, deed: Deed][] = [
  [
    24,
    'plain',
    async (writer) => {
      await writer.change();
      await writer.commit();
    },
  ],
  [
    6,
    'two accounts',
    async (writer) => {
      await writer.change();
      await writer.change();
      await writer.say();
      await writer.commit();
    },
  ],
  [
    14,
    'rolled back',
    async (writer) => {
      await writer.change();
      await writer.rollBack();
    },
  ],
  [
    10,
    'savepoints',
    async (writer) => {
      await writer.change();
      await writer.query('savepoint a');
      const keys = writer.mark();
      await writer.change();
      await writer.note();
      await writer.query('rollback to a');
      writer.forget(keys);
      await writer.change();
      await writer.query('savepoint b');
      await writer.change();
      await writer.query('release b');
      await writer.commit();
    },
  ],
  [
    6,
    'held',
    async (writer) => {
      await writer.note();
      await writer.say();
      await writer.pause(200, 4_000);
      if (writer.chance.happens(0.3)) await writer.rollBack();
      else await writer.commit();
    },
  ],
  [
    4,
    'held rows',
    async (writer) => {
      await writer.change(1);
      await writer.pause(100, 800);
      await writer.change(1);
      await writer.commit();
    },
  ],
  [
    3,
    'bulk',
    async (writer) => {
      await writer.bulk();
      await writer.commit();
    },
  ],
  [
    6,
    'asynchronous',
    async (writer) => {
      await writer.query('set local synchronous_commit = off');
      await writer.change();
      await writer.commit();
    },
  ],
  [
    1,
    'large',
    async (writer) => {
      await writer.change(1, writer.chance.between(20_000, 400_000));
      await writer.commit();
    },
  ],
  [
    4,
    'muted',
    async (writer) => {
      await writer.query('set local relay.ring = off');
      await writer.change();
      await writer.commit();
    },
  ],
  [
    5,
    'notes',
    async (writer) => {
      await writer.note();
      await writer.note();
      await writer.commit();
    },
  ],
  [
    2,
    'two phases',
    async (writer) => {
      await writer.query('set local relay.ring = off');
      await writer.note();
      await writer.commitInTwoPhases();
    },
  ],
  [
    2,
    'visits',
    async (writer) => {
      await writer.visit();
      await writer.commit();
    },
  ],
  [
    7,
    'whispers',
    async (writer) => {
      await writer.whisper();
      await writer.change(1);
      for (let i = writer.chance.between(1, 6); i > 0; i -= 1) await writer.whisper();
      await writer.commit();
    },
  ],
  [
    4,
    'shared',
    async (writer) => {
      await writer.share();
      await writer.change(1);
      await writer.share();
      await writer.commit();
    },
  ],
  [
    2,
    'flickers',
    async (writer) => {
      await writer.flicker();
      await writer.commit();
    },
  ],
];
