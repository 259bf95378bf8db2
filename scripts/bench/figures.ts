// What sections hand back, and how it is printed.

export interface Figure {
  readonly section: string;
  readonly what: string;
  readonly value: number;
  readonly unit: string;
  /** The limit that the value must keep, if it has one. */
  readonly limit?: { readonly atLeast: number } | { readonly atMost: number };
  /** Every round's value. */
  readonly rounds?: readonly number[];
  /** For the chart: which peer it is a bar of. */
  readonly bar?: string;
}

export function median(values: readonly number[]): number {
  return percentile(values, 50);
}

export function percentile(values: readonly number[], percent: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  const at = ((sorted.length - 1) * percent) / 100;
  const below = sorted[Math.floor(at)] ?? Number.NaN;
  const above = sorted[Math.ceil(at)] ?? below;
  return below + (above - below) * (at - Math.floor(at));
}

/** Median of the rounds' own ratios: what disturbs a round disturbs both sides of it. */
export function medianRatio(over: readonly number[], under: readonly number[]): number {
  return median(over.map((value, round) => value / under[round]!));
}

export function isMet({ value, limit }: Figure): boolean | null {
  if (!limit) return null;
  return 'atLeast' in limit ? value >= limit.atLeast : value <= limit.atMost;
}

export function showNumber(value: number): string {
  if (!Number.isFinite(value)) return '–';
  if (Math.abs(value) >= 1_000) return Math.round(value).toLocaleString('en-US');
  if (Math.abs(value) >= 100) return value.toFixed(0);
  return Math.abs(value) >= 10 ? value.toFixed(1) : value.toFixed(2);
}

export function showLimit({ limit }: Figure): string {
  if (!limit) return '';
  return 'atLeast' in limit ? `≥ ${showNumber(limit.atLeast)}` : `≤ ${showNumber(limit.atMost)}`;
}

/** The table, as Markdown that also reads well in a terminal. */
export function showTable(figures: readonly Figure[]): string {
  const rows = figures.map((figure) => {
    const { section, what, value, unit, rounds } = figure;
    const met = isMet(figure);
    const spread =
      rounds && rounds.length > 1
        ? `${showNumber(Math.min(...rounds))} … ${showNumber(Math.max(...rounds))}`
        : '';
    return [
      section,
      what,
      `${showNumber(value)}${unit === '' ? '' : ` ${unit}`}`,
      spread,
      showLimit(figure),
      met === null ? '' : met ? 'yes' : 'NO',
    ];
  });
  const head = ['', 'figure', 'median', 'rounds', 'must be', 'met'];
  const widths = head.map((title, n) => Math.max(title.length, ...rows.map((row) => row[n]!.length)));
  const line = (cells: readonly string[]) =>
    `| ${cells.map((cell, n) => cell.padEnd(widths[n]!)).join(' | ')} |`;
  return [line(head), line(widths.map((width) => '-'.repeat(width))), ...rows.map(line)].join('\n');
}

/** The same for programs: with `met` where something must be shown. */
export function toJson(figures: readonly Figure[]): object[] {
  return figures.map(({ bar, ...figure }) => {
    const met = isMet(figure);
    return { ...figure, ...(met !== null && { met }) };
  });
}
