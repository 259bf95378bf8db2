// What Prometheus makes of two scrapes of a relay: the first one for half an hour, then the second one. promtool, of
// Debian's package prometheus, evaluates the rules.
import { execFile } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { parse, stringify } from 'yaml';
import { packageRoot } from '../../package.ts';

const PROMTOOL = '/usr/bin/promtool';
const RULES_FILE = join(packageRoot, 'deploy/monitoring/alerts.yml');
interface Rule {
  alert: string;
  labels: { severity: string };
  annotations: Record<string, string>;
}
const { groups } = parse(readFileSync(RULES_FILE, 'utf8')) as { groups: { rules: Rule[] }[] };
export const RULES = groups.flatMap(({ rules }) => rules);

/** In CI its package is installed. */
export const promtoolIsMissing = !existsSync(PROMTOOL) && process.env.RECADO_CI === undefined;

export const TARGET = { instance: 'relay-1:3000', job: 'recado' };
const BEFORE_MINUTES = 30;

/** A series as Prometheus names it, and its value. */
export type Scrape = ReadonlyMap<string, number>;

export const valueIn = (scraped: Scrape, name: string) =>
  [...scraped].find(([series]) => series.startsWith(`${name}{`))?.[1];

/** Of a Prometheus that knows no node. */
export const NO_TARGET: Scrape = new Map();

export async function scrape(port: number, headers: Record<string, string>): Promise<Scrape> {
  const up = named('up', []);
  const response = await fetch(`http://127.0.0.1:${port}/metrics`, { headers }).catch(() => null);
  if (!response?.ok) return new Map([[up, 0]]);
  const samples = [...(await response.text()).matchAll(/^(\w+)(?:\{(.*)\})? (\S+)$/gm)].map(
    ([, name = '', labels = '', value]): [string, number] => [
      named(name, labels.match(/\w+="[^"]*"/g) ?? []),
      Number(value),
    ],
  );
  return new Map([[up, 1], ...samples.filter(([, value]) => Number.isFinite(value))]);
}

/** The target's labels win: a label of the same name gets a prefix, as Prometheus does it by default. */
function named(name: string, labels: readonly string[]): string {
  const own = labels.map((label) => (/^(instance|job)=/.test(label) ? `exported_${label}` : label));
  const target = Object.entries(TARGET).map(([key, value]) => `${key}="${value}"`);
  return `${name}{${[...own, ...target].join(',')}}`;
}

export interface Course {
  before: Scrape;
  after: Scrape;
  /** How long the second one lasts. */
  minutes: number;
  /** What was counted between the two happens again, so often a minute. */
  again?: number;
  /** By how much a gauge goes on growing in a minute. */
  growing?: Record<string, number>;
}

/** Fails if other alerts than these fire at the end, or any before the second scrape. */
export async function expectAlerts(course: Course, alerts: readonly Record<string, string>[]): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), 'recado-alerts-'));
  const firing = 'ALERTS{alertstate="firing"}';
  const tests = {
    rule_files: [RULES_FILE],
    evaluation_interval: '1m',
    tests: [
      {
        interval: '1m',
        input_series: seriesOf(course),
        promql_expr_test: [
          { expr: firing, eval_time: `${BEFORE_MINUTES - 1}m`, exp_samples: [] },
          {
            expr: firing,
            eval_time: `${BEFORE_MINUTES + course.minutes}m`,
            exp_samples: alerts.map((labels) => ({
              labels: `ALERTS${JSON.stringify({ alertstate: 'firing', ...labels }).replace(/"(\w+)":/g, '$1=')}`,
              value: 1,
            })),
          },
        ],
      },
    ],
  };
  try {
    const file = join(folder, 'tests.yml');
    await writeFile(file, stringify(tests, { lineWidth: 0 }));
    await promisify(execFile)(PROMTOOL, ['test', 'rules', file]).catch(
      (error: { stdout: string; stderr: string }) => {
        throw new Error(`promtool: ${error.stdout}${error.stderr}`);
      },
    );
  } finally {
    await rm(folder, { recursive: true });
  }
}

function seriesOf({ before, after, minutes, again = 0, growing = {} }: Course) {
  const names = new Set([...before.keys(), ...after.keys()]);
  return [...names].map((series) => {
    const [from, to] = [before.get(series), after.get(series)];
    const counted = /_(total|bucket|sum|count)\{/.test(series) ? ((to ?? 0) - (from ?? 0)) * again : 0;
    const step = growing[series.split('{')[0]!] ?? counted;
    const first = from === undefined ? `_x${BEFORE_MINUTES}` : `${from}+0x${BEFORE_MINUTES - 1}`;
    return { series, values: `${first} ${to === undefined ? 'stale' : `${to}+${step}x${minutes}`}` };
  });
}
