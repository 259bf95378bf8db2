// The way of each change: the statement, the commit, the event, the screen. The relay says which events a statement
// caused; each is found again among those that arrive, and the time between is what is shown.
import { codeBlock, element, setText } from '../element.js';

const MOST = 30;
const LATENCIES = 50;
const number = new Intl.NumberFormat('pt-BR', { maximumFractionDigits: 1 });
const clock = new Intl.DateTimeFormat('pt-BR', { timeStyle: 'medium' });

export class Timeline {
  #session;
  #changed;
  #list = document.querySelector('#timeline');
  /** Written, and not all of its events seen: {key, awaited, committedAt, shown}. */
  #pending = new Set();
  /** Arrived while an answer is on its way that may claim them. */
  #unclaimed = [];
  #asking = 0;
  /** Written elsewhere, and not shown yet. */
  #foreign = [];
  #latencies = [];
  /** arrival → where its time is shown, and since when it counts */
  #places = new Map();

  /** @param {() => void} changed called when a row begins or ends to wait */
  constructor(session, changed) {
    this.#session = session;
    this.#changed = changed;
  }

  clear(example) {
    this.#pending.clear();
    this.#unclaimed = [];
    this.#foreign = [];
    this.#list.replaceChildren();
    document.querySelector('#timeline-example').replaceChildren("npm run sql -- '", ...colour(example), "'");
    this.#showHint();
  }

  /** Whether something written for this row has not come back. */
  waitsFor(key) {
    return [...this.#pending].some((entry) => entry.key === key);
  }

  get waiting() {
    return this.#pending.size;
  }

  async act({ action, id, key, title }) {
    this.#asking += 1;
    const { viewer } = this.#session;
    try {
      const done = await this.#session.ask('POST', 'demo/act', { action, id });
      if (viewer === this.#session.viewer) this.#begin({ key, title, ...done });
    } catch (error) {
      const text = error.code
        ? `Não foi gravado (${error.code}).`
        : 'Não foi gravado: o Recado não responde.';
      this.#add(title, element('p', { class: 'muted small' }, text));
    } finally {
      this.#asking -= 1;
      if (this.#asking === 0) this.#foreign.push(...this.#unclaimed.splice(0));
      this.#changed();
    }
  }

  #begin({ key, title, statement, rows, committedAt, events }) {
    const chips = element('ul', { class: 'chips thread stack' });
    const entry = { key, committedAt, awaited: [] };
    for (const { event, payload } of events) {
      const time = element('span', { class: 'tag time' }, 'a caminho…');
      chips.append(element('li', { class: 'flow apart' }, element('code', {}, event), time));
      entry.awaited.push({ name: nameOf(event, payload), time });
    }
    const sql = codeBlock('Comando SQL', colour(statement));
    sql.classList.add('sql');
    const none = events.length > 0 ? null : whyNoEvent(statement, rows);
    this.#add(title, sql, none === null ? chips : element('p', { class: 'muted small' }, none));
    if (events.length === 0) return;
    this.#pending.add(entry);
    this.#unclaimed = this.#unclaimed.filter((arrival) => !this.#claim(arrival));
  }

  hear(arrival) {
    if (this.#claim(arrival)) return;
    if (this.#asking > 0) this.#unclaimed.push(arrival);
    else this.#foreign.push(arrival);
  }

  /** Somebody else wrote: another page, the terminal, a job at night. What came in one frame is one entry. */
  showForeign() {
    const foreign = this.#foreign.splice(0);
    if (foreign.length === 0) return;
    const counts = new Map();
    for (const { event, recovered } of foreign) {
      const kind = `${event} ${recovered}`;
      const { count = 0 } = counts.get(kind) ?? {};
      counts.set(kind, { event, recovered, count: count + 1 });
    }
    const chips = [...counts.values()].map(({ event, recovered, count }) => {
      const came = recovered ? 'recuperado' : 'ao vivo';
      const time = element('span', { class: recovered ? 'tag time strong warm' : 'tag time strong good' });
      setText(time, count === 1 ? came : `${came}, ${count} vezes`);
      return element('li', { class: 'flow apart' }, element('code', {}, event), time);
    });
    this.#add('Gravado fora desta página', element('ul', { class: 'chips thread stack' }, chips));
  }

  #claim(arrival) {
    if (this.#pending.size === 0) return false;
    const name = nameOf(arrival.event, arrival.payload);
    for (const entry of this.#pending) {
      const at = entry.awaited.findIndex((awaited) => awaited.name === name);
      if (at < 0) continue;
      const [{ time }] = entry.awaited.splice(at, 1);
      if (entry.awaited.length === 0) this.#pending.delete(entry);
      this.#place(arrival, time, entry.committedAt);
      return true;
    }
    return false;
  }

  #place(arrival, time, since) {
    const { shownAt } = arrival;
    if (shownAt === undefined) this.#places.set(arrival, { time, since });
    else this.#showTime(arrival, time, since, shownAt);
  }

  /** Called when the change an arrival made is on the screen. */
  shown(arrival, at) {
    arrival.shownAt = at;
    const place = this.#places.get(arrival);
    this.#places.delete(arrival);
    if (place) this.#showTime(arrival, place.time, place.since, at);
  }

  #showTime({ recovered }, target, since, at) {
    const ms = Math.max(0, at - since);
    if (recovered) {
      target.className = 'tag time strong warm';
      setText(target, `recuperado, esperou ${ms < 1_000 ? `${ms} ms` : `${number.format(ms / 1_000)} s`}`);
      return;
    }
    setText(target, `${ms} ms`);
    target.className = 'tag time strong good';
    target.title = 'Do commit até a tela';
    this.#latencies = [...this.#latencies.slice(1 - LATENCIES), ms];
    const sorted = [...this.#latencies].sort((a, b) => a - b);
    const median = sorted[Math.floor(sorted.length / 2)];
    setText(document.querySelector('#median'), `${median} ms do commit à tela (mediana)`);
  }

  #add(title, ...parts) {
    const head = element(
      'p',
      { class: 'flow apart' },
      element('strong', {}, title),
      element('time', { class: 'muted small' }, clock.format()),
    );
    this.#list.prepend(element('li', { class: 'entry stack' }, head, parts));
    while (this.#list.children.length > MOST) this.#list.lastElementChild.remove();
    this.#showHint();
  }

  #showHint() {
    const begun = this.#list.children.length > 0;
    document.querySelector('#timeline-hint').hidden = begun;
    document.querySelector('#timeline-example').hidden = begun;
  }
}

function whyNoEvent(statement, rows) {
  if (statement.startsWith('select')) return 'Pedido feito; o que o worker encontrar chega como evento.';
  return rows === 0 ? 'Nada mudou: nenhuma linha nova.' : 'Nenhum evento para quem olha esta página.';
}

/** The same for both reports of an event: in the answer to its statement, and on arrival. */
function nameOf(event, payload) {
  return `${event} ${JSON.stringify(payload)}`;
}

const PARTS =
  /(?<text>'(?:[^']|'')*')|(?<column>"[^"]*")|\b(?<word>with|update|set|where|and|insert|into|values|select|from|as|returning|not|exists|is|null|order|by|limit|now)\b/g;

/** SQL with its words, texts and quoted columns in colour. */
function colour(sql) {
  const parts = [];
  let at = 0;
  for (const match of sql.matchAll(PARTS)) {
    const [look] = Object.entries(match.groups).find(([, found]) => found !== undefined);
    parts.push(sql.slice(at, match.index), element('span', { class: look }, match[0]));
    at = match.index + match[0].length;
  }
  return [...parts, sql.slice(at)];
}
