// A small live chart: a few lines over the last two minutes.

import { element, setText } from '../element.js';
import uPlot from '../uplot.js';

const SAMPLES = 120;
const HEIGHT = 110;
const CURVES = ['--brand', '--wait', '--bad'];
const clock = new Intl.DateTimeFormat('pt-BR', { timeStyle: 'medium' });
const number = new Intl.NumberFormat('pt-BR', { maximumFractionDigits: 2 });

export class Chart {
  element;
  #options;
  /** Times, then the values of each line. */
  #samples;
  #plot;
  #value = element('p', { class: 'value strong' });
  #nothing = element('p', { class: 'empty muted' }, 'Nada foi medido nos últimos dois minutos.');
  #canvas = element('div', { class: 'plot', role: 'img' });

  /**
   * @param {{title: string, lines: string[], show: (values: number[]) => string, least?: number, scale?: (value: number) => string, steps?: boolean}} options
   *   `show` makes the text of the latest values; `least` is the smallest top of the scale
   */
  constructor(options) {
    this.#options = options;
    this.#samples = [[], ...options.lines.map(() => [])];
    const legend = options.lines.map((name, index) => {
      const item = element('li', { class: 'dot' }, name);
      item.style.setProperty('--dot', `var(${CURVES[index]})`);
      return item;
    });
    this.element = element(
      'figure',
      { class: 'card stack' },
      element('figcaption', { class: 'muted small strong' }, options.title),
      this.#value,
      this.#canvas,
      this.#nothing,
      options.lines.length > 1
        ? element('ul', { class: 'flow muted small', 'aria-hidden': 'true' }, legend)
        : null,
    );
    new ResizeObserver(() => this.#draw()).observe(this.#canvas);
    matchMedia('(prefers-color-scheme: dark)').addEventListener('change', () => this.#plot?.redraw(false));
  }

  /** @param {(number | null)[]} values one per line; null: nothing was measured */
  push(at, values) {
    for (const [index, value] of [at / 1_000, ...values].entries()) {
      this.#samples[index].push(value);
      if (this.#samples[index].length > SAMPLES) this.#samples[index].shift();
    }
    const text = this.#options.show(values);
    setText(this.#value, text);
    this.#canvas.setAttribute('aria-label', `${this.#options.title}: ${text}`);
    this.#draw();
  }

  #draw() {
    const [times, ...lines] = this.#samples;
    const measured = lines.some((line) => line.some((value) => value !== null));
    this.#nothing.hidden = measured || times.length === 0;
    this.#canvas.hidden = times.length > 0 && !measured;
    const width = this.#canvas.clientWidth;
    if (width === 0 || times.length === 0) return;
    this.#plot ??= this.#make(width);
    if (this.#plot.width !== width) this.#plot.setSize({ width, height: HEIGHT });
    this.#plot.setData(this.#samples);
  }

  #make(width) {
    const { lines, least = 1, scale = (value) => number.format(value), steps = false } = this.#options;
    const axis = {
      stroke: () => this.#colour('--soft-ink'),
      font: '11px system-ui, sans-serif',
      ticks: { show: false },
      grid: { stroke: () => this.#colour('--line'), width: 1 },
    };
    return new uPlot(
      {
        width,
        height: HEIGHT,
        legend: { show: false },
        cursor: { show: false },
        scales: {
          x: { range: (_plot, _least, last) => [last - SAMPLES, last] },
          y: { range: (_plot, _least, most) => [0, Math.max(least, most ?? 0) * 1.1] },
        },
        axes: [
          {
            ...axis,
            size: 22,
            space: 90,
            values: (_plot, times) => times.map((time) => clock.format(time * 1_000)),
          },
          {
            ...axis,
            size: 52,
            space: 34,
            values: (_plot, marks) => marks.map((mark) => (steps ? '' : scale(mark))),
          },
        ],
        series: [
          {},
          ...lines.map((label, index) => ({
            label,
            width: 2,
            points: { show: false },
            stroke: () => this.#colour(CURVES[index]),
            ...(index === 0 && { fill: () => this.#colour('--tint') }),
            ...(steps && { paths: uPlot.paths.stepped({ align: 1 }) }),
          })),
        ],
      },
      this.#samples,
      this.#canvas,
    );
  }

  /** The value of a colour in light or dark, whichever the page has now. */
  #colour(name) {
    this.#canvas.style.color = `var(${name})`;
    return getComputedStyle(this.#canvas).color;
  }
}
