// When what goes wrong: made from the seed before anything begins.
import { setTimeout as sleep } from 'node:timers/promises';
import { errorText } from '../../errors.ts';
import { Chance } from './chance.ts';
import { HUB_FAULTS } from './hub-faults.ts';
import { LOAD } from './load.ts';
import { NETWORK_FAULTS } from './network-faults.ts';
import { PROCESS_FAULTS } from './process-faults.ts';
import { REFETCH_FAULTS } from './refetch-faults.ts';
import { type FaultKind, RECONNECT_MS, type World } from './world.ts';

export interface Fault {
  readonly number: number;
  /** By the clock of the schedule. */
  readonly atMs: number;
  readonly kind: string;
}

interface Rest {
  readonly atMs: number;
  readonly lastsMs: number;
}

/** Its clock stands still before each rest, until every fault is healed and the clients had time to come back. */
export interface Schedule {
  readonly faults: readonly Fault[];
  readonly rests: readonly Rest[];
  readonly milliseconds: number;
}

const FAULTS: readonly FaultKind[] = [...PROCESS_FAULTS, ...NETWORK_FAULTS];
/** An edge is one process, and none has few descriptors. */
const OF_EDGES: readonly FaultKind[] = FAULTS.filter(
  ({ name }) => name !== 'relay worker killed' && name !== 'descriptors exhausted',
);
const KINDS: readonly FaultKind[] = [...HUB_FAULTS, ...FAULTS, ...REFETCH_FAULTS, ...LOAD];

/** Whether it is in nobody's way, and so may happen in a rest. */
export const isLoad = (kind: string) => LOAD.some(({ name }) => name === kind);

/** The server starts twice for each reason to refetch, in everybody's way: too much for a short run. */
const REFETCHES_FROM_MS = 120_000;

/** The last part of each round knows only load: there every late event is seen. */
const LONGEST_ROUND_MS = 60_000;
const REST = 0.3;

export interface ScheduleOptions {
  readonly seed: number;
  readonly count: number;
  readonly milliseconds: number;
  /** Whether the nodes are edges. */
  readonly hubs?: boolean;
  /** Only kinds whose names match. */
  readonly only: string | undefined;
}

/** Evenly over the time, each kind at least once where there are enough of them. */
export function makeSchedule({ seed, count, milliseconds, hubs = false, only }: ScheduleOptions): Schedule {
  const chance = new Chance(seed, 'schedule');
  const wanted = (kinds: readonly FaultKind[]) =>
    kinds.filter(({ name }) => only === undefined || new RegExp(only).test(name));
  const refetches = milliseconds >= REFETCHES_FROM_MS || only !== undefined ? REFETCH_FAULTS : [];
  const beyond = wanted(hubs ? HUB_FAULTS : []);
  const faults = wanted([...(hubs ? OF_EDGES : FAULTS), ...refetches]);
  const load = wanted(LOAD);
  if (beyond.length + faults.length + load.length === 0) {
    throw new Error(
      `No kind of fault has a name like "${only}"; there are ${KINDS.map(({ name }) => name).join(', ')}.`,
    );
  }
  const ofLoad =
    beyond.length + faults.length === 0
      ? count
      : load.length === 0
        ? 0
        : Math.max(load.length, Math.round(count / 4));
  const ofHubs = faults.length === 0 ? count - ofLoad : Math.ceil((count - ofLoad) / 2);
  const disturbances =
    beyond.length === 0
      ? choose(faults, count - ofLoad, chance)
      : chance.shuffled([
          ...choose(beyond, ofHubs, chance),
          ...choose(faults, count - ofLoad - ofHubs, chance),
        ]);
  const rounds = Math.ceil(milliseconds / LONGEST_ROUND_MS);
  const round = milliseconds / rounds;
  const storm = round * (1 - REST);
  const chosen = [
    ...disturbances.map((kind, i, { length }) => {
      const at = ((i + chance.fraction()) / length) * storm * rounds;
      return { kind, atMs: Math.floor(at / storm) * round + (at % storm) };
    }),
    ...choose(load, ofLoad, chance).map((kind, i, { length }) => ({
      kind,
      atMs: ((i + chance.fraction()) / length) * milliseconds,
    })),
  ];
  chosen.sort((a, b) => a.atMs - b.atMs);
  return {
    faults: chosen.map(({ kind, atMs }, number) => ({ number, kind, atMs: Math.floor(atMs) })),
    rests: Array.from({ length: rounds }, (_, i) => ({
      atMs: Math.ceil(i * round + storm),
      lastsMs: Math.floor(round - storm),
    })),
    milliseconds,
  };
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
  { faults, rests, milliseconds }: Schedule,
  seed: number,
  world: World,
  say: (line: string) => void,
): Promise<{ failed: readonly string[] }> {
  let began = Date.now();
  const healed: Promise<void>[] = [];
  const outOfTheWay: Promise<void>[] = [];
  const failed: string[] = [];
  const toCome = [...rests];
  const reach = async (atMs: number): Promise<void> => {
    for (let rest = toCome[0]; rest && rest.atMs <= atMs; rest = toCome[0]) {
      toCome.shift();
      await sleep(Math.max(0, began + rest.atMs - Date.now()));
      await Promise.all(outOfTheWay);
      await sleep(RECONNECT_MS);
      began = Date.now() - rest.atMs;
      say(`${(rest.atMs / 1_000).toFixed(1)} s  a rest`);
    }
    await sleep(Math.max(0, began + atMs - Date.now()));
  };
  for (const { number, atMs, kind } of faults) {
    await reach(atMs);
    const { happen } = KINDS.find(({ name }) => name === kind)!;
    say(`${(atMs / 1_000).toFixed(1)} s  ${kind}`);
    const fault = happen(world, new Chance(seed, `fault ${number}`)).catch((error: unknown) => {
      // Another fault may be in its way: no session can be ended while Postgres is down.
      failed.push(kind);
      say(`     ${kind} did not go through: ${errorText(error)}`);
    });
    healed.push(fault);
    if (!isLoad(kind)) outOfTheWay.push(fault);
  }
  await reach(milliseconds);
  await Promise.all(healed);
  return { failed };
}
