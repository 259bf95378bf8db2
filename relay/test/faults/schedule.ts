// When what goes wrong: made from the seed before anything begins.
import { setTimeout as sleep } from 'node:timers/promises';
import { errorText } from '../../errors.ts';
import { Chance } from './chance.ts';
import { LOAD } from './load.ts';
import { NETWORK_FAULTS } from './network-faults.ts';
import { PROCESS_FAULTS } from './process-faults.ts';
import { REFETCH_FAULTS } from './refetch-faults.ts';
import type { FaultKind, World } from './world.ts';

export interface Fault {
  readonly number: number;
  readonly atMs: number;
  readonly kind: string;
}

const FAULTS: readonly FaultKind[] = [...PROCESS_FAULTS, ...NETWORK_FAULTS];
const KINDS: readonly FaultKind[] = [...FAULTS, ...REFETCH_FAULTS, ...LOAD];

/** The server starts twice for each reason to refetch, in everybody's way: too much for a short run. */
const REFETCHES_FROM_MS = 120_000;

/** The last part of each minute, or of a shorter run, knows only load: there every late event is seen. */
const MINUTE_MS = 60_000;
const CALM = 0.3;

export interface ScheduleOptions {
  readonly seed: number;
  readonly count: number;
  readonly milliseconds: number;
  /** Only kinds whose names match. */
  readonly only: string | undefined;
}

/** Evenly over the time, each kind at least once where there are enough of them. */
export function makeSchedule({ seed, count, milliseconds, only }: ScheduleOptions): Fault[] {
  const chance = new Chance(seed, 'schedule');
  const wanted = (kinds: readonly FaultKind[]) =>
    kinds.filter(({ name }) => only === undefined || new RegExp(only).test(name));
  const refetches = milliseconds >= REFETCHES_FROM_MS || only !== undefined ? REFETCH_FAULTS : [];
  const [faults, load] = [wanted([...FAULTS, ...refetches]), wanted(LOAD)];
  if (faults.length + load.length === 0) {
    throw new Error(
      `No kind of fault has a name like "${only}"; there are ${KINDS.map(({ name }) => name).join(', ')}.`,
    );
  }
  const ofLoad =
    faults.length === 0 ? count : load.length === 0 ? 0 : Math.max(load.length, Math.round(count / 4));
  const chosen = [
    ...choose(faults, count - ofLoad, chance).map((kind, i, { length }) => {
      const at = ((i + chance.fraction()) / length) * milliseconds * (1 - CALM);
      // Into the stormy part of each minute.
      const minute = Math.min(MINUTE_MS, milliseconds);
      const stormy = minute * (1 - CALM);
      return { kind, atMs: Math.floor(at / stormy) * minute + (at % stormy) };
    }),
    ...choose(load, ofLoad, chance).map((kind, i, { length }) => ({
      kind,
      atMs: ((i + chance.fraction()) / length) * milliseconds,
    })),
  ];
  chosen.sort((a, b) => a.atMs - b.atMs);
  return chosen.map(({ kind, atMs }, number) => ({ number, kind, atMs: Math.round(atMs) }));
}

/** In a random order, each at least once where there are enough. */
function choose(kinds: readonly FaultKind[], count: number, chance: Chance): string[] {
  if (kinds.length === 0) return [];
  const bag = kinds.flatMap(({ name, weight }) => Array.from({ length: weight }, () => name));
  const first = chance.shuffled(kinds.map(({ name }) => name));
  return chance.shuffled(Array.from({ length: Math.max(0, count) }, (_, i) => first[i] ?? chance.one(bag)));
}

/** Lets the faults of a schedule happen, each at its time, also while others last. Resolves when all are healed. */
export async function runSchedule(
  schedule: readonly Fault[],
  seed: number,
  world: World,
  say: (line: string) => void,
): Promise<{ failed: readonly string[] }> {
  const began = Date.now();
  const healed: Promise<void>[] = [];
  const failed: string[] = [];
  for (const { number, atMs, kind } of schedule) {
    await sleep(Math.max(0, began + atMs - Date.now()));
    const { happen } = KINDS.find(({ name }) => name === kind)!;
    say(`${((Date.now() - began) / 1_000).toFixed(1)} s  ${kind}`);
    const fault = happen(world, new Chance(seed, `fault ${number}`)).catch((error: unknown) => {
      // Another fault may be in its way: no session can be ended while Postgres is down.
      failed.push(kind);
      say(`     ${kind} did not go through: ${errorText(error)}`);
    });
    healed.push(fault);
  }
  await Promise.all(healed);
  return { failed };
}
