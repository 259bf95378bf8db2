// A long list of rows of one height, of which only those in sight are elements. New rows come on top; a reader who has
// scrolled down keeps the same rows in sight.

const BEYOND = 6;

export class LongList {
  #viewport;
  #list;
  #make;
  #fill;
  /** The oldest first. */
  #items = [];
  /** How many were taken out at the old end since the list began: an item keeps its number. */
  #dropped = 0;
  #elements = [];
  #height;

  /**
   * @param {Element} viewport scrolls; holds one list. Its CSS says in --row how high a row is, in px
   * @param {{make: () => Element, fill: (element: Element, item: object) => void}} rows
   */
  constructor(viewport, { make, fill }) {
    this.#viewport = viewport;
    this.#list = viewport.firstElementChild;
    this.#make = make;
    this.#fill = fill;
    viewport.addEventListener('scroll', () => this.draw(), { passive: true });
    new ResizeObserver(() => this.draw()).observe(viewport);
  }

  get length() {
    return this.#items.length;
  }

  /** Replaces all items; the oldest comes first. */
  set(items) {
    this.#items = items;
    this.#dropped = 0;
    this.#elements = [];
    this.#list.replaceChildren();
    this.draw();
  }

  /** @param {number} most so many are kept */
  add(items, most) {
    this.#items.push(...items);
    const tooMany = this.#items.length - most;
    if (tooMany > 0) {
      this.#items.splice(0, tooMany);
      this.#dropped += tooMany;
    }
    const { scrollTop } = this.#viewport;
    this.draw();
    if (scrollTop > this.#height) this.#viewport.scrollTop = scrollTop + items.length * this.#height;
  }

  draw() {
    const room = this.#viewport.clientHeight;
    if (room === 0) return;
    this.#height = Number.parseFloat(getComputedStyle(this.#viewport).getPropertyValue('--row'));
    const count = Math.ceil(room / this.#height) + 2 * BEYOND;
    while (this.#elements.length < count) {
      const element = this.#make();
      this.#elements.push(element);
      this.#list.append(element);
    }
    this.#list.style.height = `${this.#items.length * this.#height}px`;
    const newest = this.#items.length - 1;
    const first = Math.max(0, Math.floor(this.#viewport.scrollTop / this.#height) - BEYOND);
    const shown = new Set();
    for (let place = first; place < first + this.#elements.length && place <= newest; place += 1) {
      const number = this.#dropped + newest - place;
      const element = this.#elements[number % this.#elements.length];
      const item = this.#items[newest - place];
      shown.add(element);
      element.hidden = false;
      element.style.transform = `translateY(${place * this.#height}px)`;
      if (element.item === item) continue;
      element.item = item;
      this.#fill(element, item);
    }
    for (const element of this.#elements) {
      if (shown.has(element)) continue;
      element.hidden = true;
      element.item = null;
    }
  }
}
