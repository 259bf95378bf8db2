// The fault test: real relays, a real Postgres and stock clients, and everything that can go wrong between them.
// README.md says what it generates, and how a seed is run again.
//
//   npm run test:faults -- [--seconds 20] [--faults 20] [--seed N] [--only "half-open|moved"]
//                          [--scenario faults|hub|wakeups|storm] [--error NAME] [--verbose] [--keep]
import { parseArgs } from 'node:util';
import { redisIsMissing } from '../redis.ts';
import { errorNamed } from './errors.ts';
import { runOracle } from './oracle.ts';
import { addComplaints, type Figure, renderTable, Verdict } from './report.ts';
import { runResyncs } from './resyncs.ts';
import { makeSchedule } from './schedule.ts';
import { Stage } from './stage.ts';
import { runStorm } from './storm.ts';
import { runWakeups } from './wakeups.ts';

const { values: options } = parseArgs({
  options: {
    seconds: { type: 'string', default: '20' },
    faults: { type: 'string' },
    seed: { type: 'string', default: String(Math.floor(Math.random() * 1e9)) },
    only: { type: 'string' },
    scenario: { type: 'string', default: 'all' },
    error: { type: 'string' },
    verbose: { type: 'boolean', default: false },
    keep: { type: 'boolean', default: false },
  },
});
const seed = Number(options.seed);
const seconds = Number(options.seconds);
const { scenario } = options;
if (!['all', 'faults', 'hub', 'wakeups', 'storm'].includes(scenario)) {
  throw new Error(`--scenario is "${scenario}", but faults, hub, wakeups, storm, or nothing is expected.`);
}
const print = (line: string) => void process.stdout.write(`${line}\n`);
if (scenario === 'hub' && redisIsMissing) {
  print('Skipped: hubs and edges need redis-server, which is not installed.');
  process.exit(0);
}
const say = (line: string) => void (options.verbose && print(line));

// Whatever hangs ends here. Servers and relays notice that we are gone, and end too.
const limit = 2 * seconds + 600;
const watchdog = setTimeout(() => {
  process.stderr.write(`Not finished within ${limit} seconds.\n`);
  process.exit(2);
}, limit * 1_000);

const verdict = new Verdict();
const figures: Figure[] = [
  ['seed', seed],
  ['seconds', seconds],
];
print(`seed ${seed}`);
const stage = await Stage.set(options.error === undefined ? [] : errorNamed(options.error).edits);
const hubs = scenario === 'hub';
if (scenario === 'all' || scenario === 'faults' || hubs) {
  const count = Number(options.faults ?? Math.max(hubs ? 28 : 38, Math.ceil(seconds * 0.6)));
  const schedule = makeSchedule({ seed, count, milliseconds: seconds * 1_000, hubs, only: options.only });
  const oracle = await runOracle(stage, { seed, schedule, hubs, say }, verdict);
  figures.push(...oracle.figures);
  // Both need every reader of the database down, hubs too.
  if (!hubs) {
    say('two reasons to refetch');
    figures.push(...(await runResyncs(oracle.world, verdict)));
  }
  for (const client of oracle.world.clients) addComplaints(client, verdict);
  for (const client of oracle.world.clients) await client.close();
  await Promise.all(oracle.world.nodes.map((node) => node.stop()));
}
if (scenario === 'all' || scenario === 'wakeups') {
  say('wake-ups');
  figures.push(...(await runWakeups(stage, verdict)));
}
if (scenario === 'storm') figures.push(...(await runStorm(stage, verdict)));

print(renderTable([...figures, ...verdict.counts]));
for (const example of verdict.examples) print(`  ! ${example}`);
const keep = options.keep || !verdict.clean;
await stage.strike(keep);
clearTimeout(watchdog);
if (keep) print(`  logs: ${stage.folder}`);
print(verdict.clean ? 'Kept its promise.' : `Broke its promise. Again with: --seed ${seed}`);
process.exit(verdict.clean ? 0 : 1);
