// npm run bench: recado and what it is compared with, measured alternately in one run on the same data.
//
//   npm run bench                          everything but retention and returns, a quarter of an hour
//   npm run bench -- --only writers,bulk   some sections: see SECTIONS
//   npm run bench -- --rounds 1 --quick    fewer rounds, shorter ones
//   npm run bench -- --chart docs/bench.svg --readme README.md
//   npm run -s bench -- --json             one JSON document, which other programs can read
//   npm run bench -- --help
//
// DATABASE_URL (of a superuser) names the Postgres to measure on; without it one is made and thrown away. Each peer
// has a database of its own there; see peers.ts. Everything stays on this machine. The exit code is 1 where
// a figure misses its limit.
import { mkdir, writeFile } from 'node:fs/promises';
import { cpus } from 'node:os';
import { dirname } from 'node:path';
import { parseArgs } from 'node:util';
import { audiences } from './audiences.ts';
import { bulk } from './bulk.ts';
import { Calm } from './calm.ts';
import { capture } from './capture.ts';
import { drawChart } from './chart.ts';
import { openCluster } from './cluster.ts';
import { edges } from './edges.ts';
import { fanout } from './fanout.ts';
import { type Figure, isMet, showTable, toJson } from './figures.ts';
import { idle } from './idle.ts';
import { latency } from './latency.ts';
import { findDriver } from './load.ts';
import { memory } from './memory.ts';
import { writeReadme } from './readme.ts';
import { retention } from './retention.ts';
import { returns } from './returns.ts';
import type { Bench, Section } from './run.ts';
import { slowCommits, writers } from './writers.ts';

/** The quiet sections first: after a million updates autovacuum is busy for a while. */
const SECTIONS: Record<string, Section> = {
  idle,
  memory,
  capture,
  writers,
  slow: slowCommits,
  bulk,
  latency,
  fanout,
  audiences,
  edges,
  returns,
  retention,
};
/** Ten minutes by itself; and ten thousand clients, which a small machine has no room for. */
const ONLY_IF_ASKED = ['retention', 'returns'];

const { values } = parseArgs({
  options: {
    only: { type: 'string' },
    rounds: { type: 'string', default: '3' },
    quick: { type: 'boolean', default: false },
    chart: { type: 'string' },
    readme: { type: 'string' },
    json: { type: 'boolean', default: false },
    help: { type: 'boolean', default: false },
  },
});

const HELP = `npm run bench -- [options]: Recado beside its peers, measured alternately on the same data.

  --only SECTIONS   comma-separated: ${Object.keys(SECTIONS).join(', ')}
                    (default: all but ${ONLY_IF_ASKED.join(' and ')}: ten minutes by itself, and ten thousand clients)
  --rounds N        rounds of each measurement, of which the median counts (default: 3)
  --quick           shorter rounds: a third of the seconds
  --chart FILE      writes the README's chart, an SVG
  --readme FILE     writes the tables of the README's section on the benchmark
  --json            prints one JSON document; progress goes to standard error
  --help            prints this

DATABASE_URL, of a superuser, names the Postgres to measure on; without it one is made and thrown away.
The exit code is 1 where something is missed that must be shown.`;

const print = (line: string) => process.stdout.write(`${line}\n`);
const say = values.json ? (line: string) => process.stderr.write(`${line}\n`) : print;
if (values.help) {
  print(HELP);
  process.exit(0);
}
const rounds = Number(values.rounds);
const chosen =
  values.only?.split(',') ?? Object.keys(SECTIONS).filter((name) => !ONLY_IF_ASKED.includes(name));
const unknown = chosen.filter((name) => !SECTIONS[name]);
if (unknown.length > 0 || !Number.isInteger(rounds) || rounds < 1) {
  say(`--only takes ${Object.keys(SECTIONS).join(', ')}; --rounds a whole number from 1.`);
  process.exit(2);
}

function describeCalm({ shares, attempts }: Bench['calm']): string {
  const worst = Math.max(0, ...shares) * 100;
  return `${shares.length} measurements in ${attempts} attempts; other machines on the host took ${worst.toFixed(1)} % of the processors at most`;
}

const cluster = await openCluster(process.env.DATABASE_URL);
const bench: Bench = {
  cluster,
  rounds,
  seconds: (whole) => (values.quick ? Math.max(1, Math.round(whole / 3)) : whole),
  say,
  calm: new Calm(say),
};
try {
  const writing = (await findDriver()) === 'pgbench' ? 'pgbench' : 'our own driver (no pgbench here)';
  const [cpu] = cpus();
  const about = `${cluster.about}; Node ${process.version}; writers: ${writing}; ${cpus().length} × ${cpu?.model.trim()}`;
  say(`${about}\n${rounds} rounds${values.quick ? ', short ones' : ''}\n`);
  const figures: Figure[] = [];
  for (const name of chosen) figures.push(...(await SECTIONS[name]!(bench)));
  say(`\n${about}\n${describeCalm(bench.calm)}\n\n${showTable(figures)}`);
  if (values.json) {
    print(JSON.stringify({ about, rounds, quick: values.quick, figures: toJson(figures) }, null, 2));
  }
  if (values.chart !== undefined) {
    await mkdir(dirname(values.chart), { recursive: true });
    await writeFile(values.chart, drawChart(figures, about.replace(/ \(.*?\)/, '')));
    say(`\nChart: ${values.chart}`);
  }
  if (values.readme !== undefined) {
    await writeReadme(values.readme, figures, `${about}.`);
    say(`\nTables: ${values.readme}`);
  }
  const missed = figures.filter((figure) => isMet(figure) === false);
  if (missed.length > 0) {
    say(`\nMissed: ${missed.map(({ section, what }) => `${section}: ${what}`).join('; ')}`);
    process.exitCode = 1;
  }
} finally {
  await cluster.close();
}
