// Small live charts, drawn by hand: a few lines over the last two minutes.
import { element, setText } from './element.js';

const SAMPLES = 120;
const WIDTH = 240;
const HEIGHT = 56;

/**
 * @param {{title: string, lines: string[], show: (values: number[]) => string, least?: number, steps?: boolean}} options
 *   `show` makes the text of the latest values; `least` is the smallest top of the scale
 */
export class Chart {
  element;
  #options;
  #samples = [];
  #paths;
  #value = element('p', { class: 'value' });
  #top = element('span', { class: 'top-label', 'aria-hidden': 'true' });
  #svg;

  constructor(options) {
    this.#options = options;
    this.#svg = draw('svg', { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: 'none', role: 'img' });
    const area = draw('path', { class: 'area' });
    this.#paths = options.lines.map((_, index) => draw('path', { class: `curve curve-${index}` }));
    this.#svg.append(area, ...this.#paths);
    this.#paths.area = area;
    const legend = options.lines.map((name, index) => element('li', { class: `curve-${index}` }, name));
    this.element = element(
      'figure',
      { class: 'card chart' },
      element('figcaption', {}, options.title),
      this.#value,
      element('div', { class: 'plot' }, this.#svg, this.#top),
      options.lines.length > 1 ? element('ul', { class: 'legend', 'aria-hidden': 'true' }, legend) : null,
    );
  }

  /** @param {(number | null)[]} values one per line; null: nothing was measured */
  push(values) {
    this.#samples = [...this.#samples.slice(1 - SAMPLES), values];
    const { title, show, least = 1 } = this.#options;
    const top = roundUp(Math.max(least, ...this.#samples.flat().map((value) => value ?? 0)));
    this.#paths.forEach((path, line) => {
      path.setAttribute('d', this.#curve(line, top));
    });
    const first = this.#curve(0, top);
    const x = WIDTH - (this.#samples.length - 1) * (WIDTH / (SAMPLES - 1));
    this.#paths.area.setAttribute('d', first === '' ? '' : `${first}V${HEIGHT}H${x}Z`);
    const text = show(values);
    setText(this.#value, text);
    setText(
      this.#top,
      this.#options.steps ? '' : (this.#options.scale?.(top) ?? new Intl.NumberFormat('pt-BR').format(top)),
    );
    this.#svg.setAttribute('aria-label', `${title}: ${text}`);
  }

  #curve(line, top) {
    const step = WIDTH / (SAMPLES - 1);
    const begin = WIDTH - (this.#samples.length - 1) * step;
    let last = 0;
    return this.#samples
      .map((values, index) => {
        // Where nothing was measured the line goes on as it was.
        last = values[line] ?? last;
        const x = (begin + index * step).toFixed(1);
        const y = (HEIGHT - 1 - (last / top) * (HEIGHT - 4)).toFixed(1);
        if (index === 0) return `M${x} ${y}`;
        return this.#options.steps ? `H${x}V${y}` : `L${x} ${y}`;
      })
      .join('');
  }
}

function draw(tag, attributes) {
  const made = document.createElementNS('http://www.w3.org/2000/svg', tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  return made;
}

/** 1, 2 or 5 times a power of ten. */
function roundUp(value) {
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 5, 10].map((step) => step * power).find((step) => step >= value * 0.999);
}
