// How long the machine kept us, or the relays, from working: others may use its processors, and this process has a
// hundred clients to play. What that explains is not called late.
import { readFileSync } from 'node:fs';
import { readFile } from 'node:fs/promises';

const EVERY_MS = 50;

interface Sample {
  readonly at: number;
  /** Milliseconds lost since the beginning. */
  readonly lost: number;
}

export class Machine {
  readonly #pids: () => readonly number[];
  readonly #samples: Sample[] = [{ at: Date.now(), lost: 0 }];
  readonly #waited = new Map<number, number>();
  #steal: number | null = null;
  #diskStall: number | null = null;
  #timer: NodeJS.Timeout | undefined;

  /** @param pids of the processes whose waiting counts beside our own */
  constructor(pids: () => readonly number[]) {
    this.#pids = pids;
  }

  start(): void {
    const tick = async () => {
      const expected = this.#samples.at(-1)!.at + EVERY_MS;
      const own = Math.max(0, Date.now() - expected);
      const others = this.#longestWait() + (await this.#stolen()) + (await this.#stalledByDisk());
      this.#samples.push({ at: Date.now(), lost: this.#samples.at(-1)!.lost + own + others });
      this.#timer = setTimeout(() => void tick(), EVERY_MS);
    };
    this.#timer = setTimeout(() => void tick(), EVERY_MS);
  }

  stop(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
  }

  /** Until when it knows what the machine took. */
  get knownUntil(): number {
    return this.#samples.at(-1)!.at;
  }

  /** How many of the milliseconds between the machine took from us. */
  lostBetween(from: number, to: number): number {
    const before = this.#samples.findLast(({ at }) => at <= from) ?? this.#samples[0]!;
    const after = this.#samples.find(({ at }) => at >= to) ?? this.#samples.at(-1)!;
    return after.lost - before.lost;
  }

  get lostMs(): number {
    return this.#samples.at(-1)!.lost;
  }

  /** Since the last look, that of the process that waited longest for a processor. */
  #longestWait(): number {
    let longest = 0;
    for (const pid of this.#pids()) {
      const waited = readWait(pid);
      const before = this.#waited.get(pid) ?? waited;
      this.#waited.set(pid, waited);
      longest = Math.max(longest, waited - before);
    }
    return longest;
  }

  /** What a hypervisor gave to other machines, per processor. */
  async #stolen(): Promise<number> {
    const text = await readFile('/proc/stat', 'utf8').catch(() => '');
    const fields = /^cpu +(.*)$/m.exec(text)?.[1]?.split(' ').map(Number);
    const processors = text.match(/^cpu\d+/gm)?.length ?? 1;
    const steal = ((fields?.[7] ?? 0) * 10) / processors;
    const before = this.#steal ?? steal;
    this.#steal = steal;
    return steal - before;
  }

  /** While every process that could work waited for the disk. */
  async #stalledByDisk(): Promise<number> {
    const text = await readFile('/proc/pressure/io', 'utf8').catch(() => '');
    const stall = Number(/^full .*total=(\d+)/m.exec(text)?.[1] ?? 0) / 1_000;
    const before = this.#diskStall ?? stall;
    this.#diskStall = stall;
    return stall - before;
  }
}

/** Whatever keeps this process, a relay, the database or another process of clients from a processor is noted. */
export function watchMachine(
  watched: readonly { pids(): Promise<number[]> }[],
  others: readonly { process: { pids: readonly number[] } }[] = [],
): Machine {
  let pids: number[] = [];
  const look = async () => {
    const found = await Promise.all(watched.map((each) => each.pids()));
    pids = [...found.flat(), ...others.flatMap(({ process }) => process.pids)];
    timer.refresh();
  };
  const timer = setTimeout(() => void look(), 200).unref();
  const machine = new Machine(() => pids);
  machine.start();
  return machine;
}

/** Milliseconds since it started; 0 where it has ended. Not asynchronous: there are a hundred of them, 20 times a second. */
function readWait(pid: number): number {
  try {
    return Number(readFileSync(`/proc/${pid}/schedstat`, 'utf8').split(' ')[1]) / 1e6;
  } catch {
    return 0;
  }
}
