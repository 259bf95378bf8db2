import { Expiry } from '../../auth/expiry.ts';

/** An expiry whose ends can be awaited. */
function watched() {
  const ended: string[] = [];
  const waiting: (() => void)[] = [];
  const expiry = new Expiry<string>((holder) => {
    ended.push(holder);
    for (const look of waiting) look();
  });
  const ends = (count: number) =>
    new Promise<string[]>((resolve) => {
      const look = () => ended.length >= count && resolve(ended);
      waiting.push(look);
      look();
    });
  return { expiry, ended, ends };
}

const DAY = 86_400_000;

test('holders that expire in the same second are ended together, and not before', async () => {
  const { expiry, ends } = watched();
  const soon = Date.now() + 300;
  expiry.add('a', soon);
  expiry.add('b', soon);
  expiry.add('later', soon + DAY);
  expect(await ends(2)).toEqual(['a', 'b']);
  expect(Date.now()).toBeGreaterThanOrEqual(soon);
  expiry.close();
});

test('a holder whose time has passed is ended at once; one that is removed, or has months, is not', async () => {
  const { expiry, ended, ends } = watched();
  const delays: (number | undefined)[] = [];
  const { setTimeout: real } = globalThis;
  globalThis.setTimeout = ((run: () => void, ms?: number) => {
    delays.push(ms);
    return real(run, ms);
  }) as typeof setTimeout;
  const past = Date.now() - 5_000;
  expiry.add('removed', past);
  expiry.add('months', Date.now() + 90 * DAY);
  expiry.add('past', past);
  expiry.remove('removed', past);
  expect(await ends(1)).toEqual(['past']);
  expiry.add('also past', past);
  expect(await ends(2)).toEqual(['past', 'also past']);
  expect(ended).not.toContain('months');
  // A longer one would fire at once, again and again.
  expect(Math.max(...delays.map(Number))).toBe(2 ** 31 - 1);
  globalThis.setTimeout = real;
  expiry.close();
});

test('removing the last holder of a second clears its timer; close() clears all timers', async () => {
  const { expiry } = watched();
  const timers = () => process.getActiveResourcesInfo().filter((kind) => kind === 'Timeout').length;
  const before = timers();
  const at = Date.now() + DAY;
  expiry.add('a', at);
  expiry.add('b', at);
  expect(timers()).toBe(before + 1);
  expiry.remove('a', at);
  expect(timers()).toBe(before + 1);
  expiry.remove('b', at);
  expect(timers()).toBe(before);
  for (const n of [1, 2, 3]) expiry.add('c', at + n * 1000);
  expect(timers()).toBe(before + 3);
  expiry.close();
  expect(timers()).toBe(before);
});
