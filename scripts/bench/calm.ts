// A virtual machine shares its processors with others, and for minutes at a time loses half of them or more ("steal" in
// top). A measurement made then says nothing about the peer, so it is repeated.
import { readFileSync } from 'node:fs';

/** Share of the processors' time that the host may take. */
const BEARABLE = 0.05;
const ATTEMPTS = 2;
/** Disturbances last: the pause before the next attempt. */
const PAUSE_MS = 2_000;

interface Ticks {
  readonly stolen: number;
  readonly all: number;
}

/** From Linux; null: elsewhere. */
function readTicks(): Ticks | null {
  try {
    // user nice system idle iowait irq softirq steal (the rest is counted in user and nice already)
    const [, ...fields] = readFileSync('/proc/stat', 'utf8').split('\n')[0]!.split(/ +/);
    const ticks = fields.slice(0, 8).map(Number);
    return { stolen: ticks[7]!, all: ticks.reduce((sum, value) => sum + value, 0) };
  } catch {
    return null;
  }
}

function share(from: Ticks | null, to: Ticks | null): number {
  return from && to && to.all > from.all ? (to.stolen - from.stolen) / (to.all - from.all) : 0;
}

/** Makes measurements, and remembers how disturbed they were. */
export class Calm {
  readonly #say: (line: string) => void;
  /** What the host took during each result that was used. */
  readonly shares: number[] = [];
  attempts = 0;

  constructor(say: (line: string) => void) {
    this.#say = say;
  }

  /**
   * @param prepare runs before every attempt, and what the host takes meanwhile does not count
   * @returns the result of the first attempt in which the host took no more than is bearable, or of the calmest
   */
  async measure<T>(work: () => Promise<T>, prepare: () => Promise<void> = async () => {}): Promise<T> {
    let best: { result: T; share: number } | null = null;
    for (let attempt = 1; attempt <= ATTEMPTS; attempt += 1) {
      if (attempt > 1) await new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
      this.attempts += 1;
      await prepare();
      const from = readTicks();
      const result = await work();
      const stolen = share(from, readTicks());
      if (best === null || stolen < best.share) best = { result, share: stolen };
      if (stolen <= BEARABLE) break;
      this.#say(
        `(the host took ${(stolen * 100).toFixed(0)} % of the processors${attempt < ATTEMPTS ? ': again' : ''})`,
      );
    }
    this.shares.push(best!.share);
    return best!.result;
  }
}
