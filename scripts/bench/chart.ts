// The chart of the README: bars of what was measured, as an SVG that a page in either colour scheme can show.
import type { Figure } from './figures.ts';
import { type PeerName, peers } from './peers.ts';

interface Group {
  readonly section: string;
  readonly title: string;
}

const GROUPS: readonly Group[] = [
  { section: 'writers', title: '32 writers, a small UPDATE each: commits per second' },
  { section: 'writers, commit 1 ms', title: 'The same where a commit takes 1 ms' },
  { section: 'writers, commit 5 ms', title: 'The same where a commit takes 5 ms' },
  {
    section: 'fan-out, 1,000 clients',
    title: 'Ten events in a batch to 1,000 clients: deliveries per second',
  },
];

const WIDTH = 720;
const LABEL = 260;
const ROW = 22;
const TITLE = 34;

export function drawChart(figures: readonly Figure[], about: string): string {
  const parts: string[] = [];
  let y = 10;
  for (const { section, title } of GROUPS) {
    const bars = figures.filter((figure) => figure.section === section && figure.bar !== undefined);
    if (bars.length === 0) continue;
    const most = Math.max(...bars.map(({ value }) => value));
    parts.push(text(0, y + 18, title, 'title'));
    y += TITLE;
    for (const { value, bar } of bars) {
      const length = Math.max(2, (value / most) * (WIDTH - LABEL - 80));
      const kind = bar === 'recado' ? 'ours' : 'theirs';
      parts.push(
        text(LABEL - 10, y + 14, labelOf(bar!, section), 'label'),
        `<rect x="${LABEL}" y="${y + 3}" width="${length.toFixed(0)}" height="14" class="${kind}"/>`,
        text(LABEL + length + 6, y + 14, Math.round(value).toLocaleString('en-US'), 'value'),
      );
      y += ROW;
    }
    y += 10;
  }
  parts.push(text(0, y + 12, `Medians of npm run bench. ${about}`, 'note'));
  y += 20;
  return `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${y}" width="${WIDTH}" height="${y}" font-family="system-ui, sans-serif" font-size="13" role="img" aria-labelledby="title">
<title id="title">Recado beside its peers, medians of npm run bench</title>
<style>text{fill:#57606a}.title{fill:#24292f;font-weight:600}.label{text-anchor:end}.note{font-size:11px}.ours{fill:#1a7f64}.theirs{fill:#afb8c1}@media(prefers-color-scheme:dark){text{fill:#9da7b1}.title{fill:#e6edf3}.ours{fill:#3fb994}.theirs{fill:#545d68}}</style>
${parts.join('\n')}
</svg>
`;
}

function labelOf(bar: string, section: string): string {
  if (section.startsWith('fan-out'))
    return (
      { textbook: 'stock io.to().emit', ws: 'raw ws (d)', wire: 'no library', nats: 'nats-server' }[bar] ??
      bar
    );
  return peers[bar as Exclude<PeerName, 'ws' | 'wire'>].label.replace(
    ', pg_notify per commit, id > cursor',
    ' + pg_notify',
  );
}

function text(x: number, y: number, words: string, kind: string): string {
  const escaped = words.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;');
  return `<text x="${x.toFixed(0)}" y="${y.toFixed(0)}" class="${kind}">${escaped}</text>`;
}
