// Clocks of this process (Date, performance) that a test sets. They go right again when it ends.
import { ends } from './ends.ts';

interface Clock {
  now(): number;
}

export function setForward(clock: Clock): void {
  const { now } = clock;
  clock.now = () => now.call(clock) + 3_600_000;
  ends.push(() => {
    clock.now = now;
  });
}

/** What lasts by this clock then lasts until it is moved, however slow the machine is. */
export function holdStill(clock: Clock): { forward(ms: number): void } {
  const { now } = clock;
  let held = now.call(clock);
  clock.now = () => held;
  ends.push(() => {
    clock.now = now;
  });
  return {
    forward(ms) {
      held += ms;
    },
  };
}
