// A connection that comes back while readings fail must not take an old reading for its own.
import { createGaps } from '../../../evolution/ingest/gaps.ts';

interface Step {
  end(): void;
  fail(reason?: string): void;
}

function setup() {
  const steps: Step[] = [];
  const pauses: (() => void)[] = [];
  const closing = new AbortController();
  const readGap = createGaps({
    read: () =>
      new Promise<void>((resolve, reject) => {
        steps.push({ end: resolve, fail: (reason = 'away') => reject(new Error(reason)) });
      }),
    isRefused: (error) => (error as Error).message === 'refused',
    pause: () => new Promise((resolve) => pauses.push(resolve)),
    signal: closing.signal,
  });
  /** Asks, and tells whether the answer has come. */
  const ask = () => {
    const asker = { isDone: false };
    void readGap().then(() => {
      asker.isDone = true;
    });
    return asker;
  };
  return { steps, pauses, closing, ask };
}

const settled = () => new Promise(setImmediate);

test('whoever asks during a reading waits for the next', async () => {
  const { steps, ask } = setup();
  const first = ask();
  const second = ask();
  const third = ask();
  steps[0]!.end();
  await settled();
  expect([first, second, third].map(({ isDone }) => isDone)).toEqual([true, false, false]);
  expect(steps).toHaveLength(2);
  steps[1]!.end();
  await settled();
  expect([second, third].map(({ isDone }) => isDone)).toEqual([true, true]);
  expect(steps).toHaveLength(2);
});

test('whoever asks while a failed reading rests waits for one that ends well, as do those before him', async () => {
  const { steps, pauses, ask } = setup();
  const first = ask();
  const second = ask();
  steps[0]!.fail();
  await settled();
  pauses[0]!();
  await settled();
  steps[1]!.fail();
  await settled();
  const third = ask();
  await settled();
  expect([first, second, third].map(({ isDone }) => isDone)).toEqual([false, false, false]);
  pauses[1]!();
  await settled();
  steps[2]!.end();
  await settled();
  expect([first, second, third].map(({ isDone }) => isDone)).toEqual([true, true, true]);
});

test('a refusal ends the waiting of those it is for; closing ends all', async () => {
  const { steps, pauses, closing, ask } = setup();
  const first = ask();
  const second = ask();
  steps[0]!.fail('refused');
  await settled();
  expect([first.isDone, second.isDone]).toEqual([true, false]);
  closing.abort();
  steps[1]!.fail();
  await settled();
  pauses[0]!();
  await settled();
  expect(second.isDone).toBe(true);
  const after = ask();
  await settled();
  expect(after.isDone).toBe(true);
});
