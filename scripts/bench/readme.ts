// The tables of the README's section on the benchmark, out of the figures of one run.
import { readFile, writeFile } from 'node:fs/promises';
import { type Figure, showNumber } from './figures.ts';
import { findNatives, labelOfNative } from './natives.ts';
import { peers } from './peers.ts';

const BEGIN = '<!-- figures: npm run bench -- --chart docs/bench.svg --readme README.md -->';
const END = '<!-- end of figures -->';

type Find = (section: string, what: string) => string;

/**
 * Replaces what stands between the two marks of the page.
 * @throws Error where a mark is missing
 */
export async function writeReadme(file: string, figures: readonly Figure[], about: string): Promise<void> {
  const page = await readFile(file, 'utf8');
  const from = page.indexOf(BEGIN);
  const to = page.indexOf(END);
  if (from < 0 || to < from) throw new Error(`${file}: expected "${BEGIN}" before "${END}".`);
  const text = `${page.slice(0, from)}${BEGIN}\n${toReadme(figures, about)}\n${page.slice(to)}`;
  await writeFile(file, text);
}

/** A section that did not run is a dash. */
export function toReadme(figures: readonly Figure[], about: string): string {
  const find: Find = (section, what) => {
    const found = figures.find((figure) => figure.section === section && figure.what === what);
    return found ? `${showNumber(found.value)}${found.unit === 'ms' ? ' ms' : ''}` : '–';
  };
  return [`Medians of one run. ${about}`, writers(find), latency(find), fanout(find), rest(find)].join(
    '\n\n',
  );
}

function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const line = (cells: readonly string[]) => `| ${cells.join(' | ')} |`;
  return [line(head), `|${head.map(() => '---|').join('')}`, ...rows.map(line)].join('\n');
}

function writers(find: Find): string {
  const row = (title: string, section: string) => [
    title,
    ...[peers.recado, peers.textbook, peers.outbox, peers.none].map(({ label }) => find(section, label)),
  ];
  return table(
    ['32 writers, commits/s', 'Recado', 'textbook (event in pg_notify)', 'bare outbox row', 'no trigger'],
    [
      row('nothing but the CPU limits them', 'writers'),
      row('a commit takes 1 ms', 'writers, commit 1 ms'),
      row('a commit takes 5 ms', 'writers, commit 5 ms'),
    ],
  );
}

function latency(find: Find): string {
  const both = (section: string, label: string) =>
    `${find(section, `${label}, p50`)}, ${find(section, `${label}, p99`)}`;
  return table(
    ['from commit to client, p50 and p99', 'Recado', 'textbook'],
    ['100/s', '1,000/s', '2,000/s', '3,000/s'].map((rate) => [
      `at ${rate}`,
      both(`latency, ${rate}`, peers.recado.label),
      rate === '3,000/s' ? '' : both(`latency, ${rate}`, peers.textbook.label),
    ]),
  );
}

function fanout(find: Find): string {
  const labels = [
    'recado',
    'stock io.to().emit',
    'raw ws, a send per event (d)',
    ...findNatives().map(labelOfNative),
  ];
  const row = (title: string, what: string) => [
    title,
    ...labels.map((label) => find('fan-out, 1,000 clients', `${what}${label}`)),
  ];
  return table(
    ['to 1,000 clients', 'Recado', 'stock Socket.IO', 'raw ws', ...labels.slice(3)],
    [
      row('one event: µs of server CPU a delivery', 'one event: server CPU, '),
      row('ten in a burst: deliveries/s', 'ten in a batch: '),
    ],
  );
}

function rest(find: Find): string {
  const memory = 'memory, 5,000 clients';
  const capture = 'capture, CPU of a commit';
  return table(
    ['', ''],
    [
      [
        'memory of an idle connection, of 5,000',
        `${find(memory, 'recado')} KiB; stock Socket.IO ${find(memory, 'stock Socket.IO')}`,
      ],
      [
        'UPDATE of 10,000 rows, one event each',
        `${find('bulk', 'UPDATE of 10,000 rows, statement level')} by statement, ${find('bulk', 'UPDATE of 10,000 rows, row level')} by row; no trigger ${find('bulk', 'UPDATE of 10,000 rows, no trigger')}`,
      ],
      [
        'the same trigger with nobody told, commits/s',
        `${find('writers', peers.muted.label)}; by CPU ${find(capture, "hand-written ÷ recado's trigger")} of a bare outbox row`,
      ],
    ],
  );
}
