// The rule in random lives: nothing is missed, heard twice, out of order, or refused without need; and each mistake in
// the rule, or in what must surround it, is found by the same lives.
import { judge } from '../../stream/rule.ts';
import { Life } from './random/life.ts';
import { AS_BUILT, type Findings, type Tried } from './random/nodes.ts';

/** So many go well; a mistake is found in fewer than the second number. */
const LIVES = 400;
const LIVES_TO_FIND = 3_000;

function live(seed: number, tried: Tried, withRestore: boolean): Findings {
  return new Life(seed, tried, { withRestore }).run(60 + (seed % 5) * 40);
}

const isBad = ({ missing, twice, disorder, needless, leaked }: Findings) =>
  missing + twice + disorder + needless + leaked > 0;

test.each([
  ['one history', false],
  ['a restore beneath everybody', true],
])('no life with %s goes wrong', (_, withRestore) => {
  const sum = { handedOn: 0, gaps: 0, foreign: 0, ahead: 0 };
  for (let seed = 1; seed <= LIVES; seed += 1) {
    const found = live(seed, AS_BUILT, withRestore);
    if (isBad(found)) throw new Error(`Life ${seed} went wrong: ${JSON.stringify(found)}.`);
    for (const kind of ['handedOn', 'gaps', 'foreign', 'ahead'] as const) sum[kind] += found[kind];
  }
  // Each of them came up often enough to mean something.
  for (const count of Object.values(sum)) expect(count).toBeGreaterThan(LIVES / 10);
});

const MISTAKES: Record<string, Partial<Tried>> = {
  'the place becomes the bound of the entry': {
    judge(place, entry) {
      const ruling = judge(place, entry);
      return ruling.is === 'next' ? { ...ruling, bound: entry.bound } : ruling;
    },
  },
  'positions begin where the entry begins': {
    judge(place, entry) {
      const ruling = judge(place, entry);
      return ruling.is === 'next' ? { ...ruling, seen: entry.seen } : ruling;
    },
  },
  'events that were seen are handed on too': {
    judge(place, entry) {
      const ruling = judge(place, entry);
      return ruling.is === 'next' ? { ...ruling, events: entry.events } : ruling;
    },
  },
  'a gap is not noticed': {
    judge: (place, entry) => judge(place, { ...entry, seen: { xmax: 1n, xip: [] } }),
  },
  'accounts that are elsewhere stay live': {
    judge(place, entry) {
      const ruling = judge(place, entry);
      return ruling.is === 'next' ? { ...ruling, elsewhere: [] } : ruling;
    },
  },
  'what was read from the database is not cut': { cut: (snapshot) => snapshot },
  'a hub that has dropped entries goes on as if it had not': { afterDrop: ({ appended }) => appended },
};

test.each(Object.keys(MISTAKES))('it is noticed if %s', (mistake) => {
  const tried = { ...AS_BUILT, ...MISTAKES[mistake] };
  const seeds = Array.from({ length: LIVES_TO_FIND }, (_, n) => n + 1);
  expect(seeds.some((seed) => isBad(live(seed, tried, false)))).toBe(true);
});

test('it is noticed if entries of another epoch or server are taken', () => {
  const blind: Tried = {
    ...AS_BUILT,
    judge: (place, entry) => judge(place, { ...entry, epoch: place.epoch, server: place.server }),
  };
  const seeds = Array.from({ length: LIVES_TO_FIND }, (_, n) => n + 1);
  expect(seeds.some((seed) => isBad(live(seed, blind, true)))).toBe(true);
});
