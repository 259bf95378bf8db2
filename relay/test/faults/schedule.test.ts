// A schedule leaves rests: without them some fault is in the way of every event, and no lateness is seen.
import { isLoad, makeSchedule } from './schedule.ts';

test.each([
  ['the short form of CI', 60, 38],
  ['the long form', 600, 360],
  ['a run of seconds', 5, 38],
])('in %s no fault falls into a rest', (_, seconds, count) => {
  const { faults, rests, milliseconds } = makeSchedule({
    seed: 1,
    count,
    milliseconds: seconds * 1_000,
    only: undefined,
  });
  expect(faults).toHaveLength(count);
  expect(rests).toHaveLength(Math.ceil(seconds / 60));
  const rest = rests.reduce((total, { lastsMs }) => total + lastsMs, 0);
  expect(rest).toBeGreaterThan(0.29 * milliseconds);
  const disturbed = faults.filter(
    ({ atMs, kind }) =>
      !isLoad(kind) && rests.some((each) => atMs >= each.atMs && atMs < each.atMs + each.lastsMs),
  );
  expect(disturbed).toEqual([]);
});

test('a seed brings back its schedule', () => {
  const options = { count: 38, milliseconds: 60_000, only: undefined };
  expect(makeSchedule({ ...options, seed: 1 })).toEqual(makeSchedule({ ...options, seed: 1 }));
  expect(makeSchedule({ ...options, seed: 1 })).not.toEqual(makeSchedule({ ...options, seed: 2 }));
});
