// What this token hears, after what is stored: a list that stays smooth at hundreds of events a second, and the way of
// the one that was chosen.
import { announce, element, setText } from '../element.js';
import { perFrame } from '../frames.js';
import { EventDetail } from './event-detail.js';
import { LongList } from './long-list.js';
import { preview } from './preview.js';

const MOST = 1_000;
const GLANCE = 240;
const READ_AGAIN_MS = 1_000;
const clock = new Intl.DateTimeFormat('pt-BR', { timeStyle: 'medium' });

/** How an event came here. */
const CAME = {
  live: ['ao vivo', 'tag time strong good'],
  recovered: ['recuperado', 'tag time strong warm'],
  stored: ['guardado', 'tag time'],
};

export class EventTail {
  #filter = document.querySelector('#event-filter');
  #search = document.querySelector('#event-search');
  #topic = document.querySelector('#event-topic');
  /**
   * Stored events of the chosen topic, the oldest first; null: no topic is chosen. An event that arrives does not say its
   * topics, so these are read again when some have arrived.
   */
  #ofTopic = null;
  #reading;
  #readAt = null;
  /** Why they could not be read again. */
  #problem = '';
  /** Why what is stored could not be read at the start; null: it could. */
  #missing = null;
  #pause = document.querySelector('#event-pause');
  #viewport = document.querySelector('#events-view');
  #names = new Set();
  /** The oldest first. */
  #all = [];
  /** Since the last frame. */
  #fresh = [];
  #held = [];
  #position = null;
  #session;
  #viewer = null;
  #detail;
  #list;
  #show = perFrame(() => this.#flush());

  constructor(session) {
    this.#session = session;
    this.#detail = new EventDetail(session, () => this.#list.draw());
    this.#list = new LongList(this.#viewport, {
      make: () => this.#makeRow(),
      fill: (row, entry) => this.#fillRow(row, entry),
    });
    session.addEventListener('arrival', ({ detail }) => this.#hear(detail));
    session.addEventListener('position', ({ detail }) => {
      this.#position = detail.position;
      this.#show();
    });
    session.addEventListener('stored', ({ detail }) => this.#begin(detail));
    session.addEventListener('state', () => this.#showMissing());
    const again = document.querySelector('#events-missing button');
    again.addEventListener('click', () => session.readAgain());
    this.#filter.addEventListener('change', () => this.#choose());
    this.#search.addEventListener('input', () => this.#choose());
    this.#topic.addEventListener('change', () => this.#chooseTopic());
    this.#pause.addEventListener('click', () => this.#togglePause());
    document.querySelector('#event-clear').addEventListener('click', () => this.#clear());
    this.#viewport.addEventListener('keydown', (pressed) => this.#move(pressed));
  }

  shown(shown) {
    clearTimeout(this.#reading);
    this.#reading = undefined;
    if (!shown) return;
    this.#flush();
    if (this.#ofTopic !== null) this.#readTopic();
  }

  /** What somebody else heard is not shown. After a resync those that are here stay. */
  #begin({ events, topics, problem = null }) {
    if (this.#viewer !== this.#session.viewer) this.#clear();
    this.#viewer = this.#session.viewer;
    this.#missing = problem;
    this.#showTopics(topics);
    if (this.#all.length > 0) return;
    this.#fresh.unshift(...events.map(stored));
    this.#show();
  }

  /** A token that is refused has its own words. */
  #showMissing() {
    const banner = document.querySelector('#events-missing');
    banner.hidden = this.#missing === null || this.#session.state !== 'live';
    const text = `Os eventos guardados não puderam ser lidos (${this.#missing}). Os novos aparecem aqui.`;
    setText(banner.firstElementChild, banner.hidden ? '' : text);
    this.#showNote();
  }

  #hear({ event, payload, position, recovered, at }) {
    this.#position = position;
    const entry = withGlance({ event, payload, position, at, came: recovered ? 'recovered' : 'live' });
    const paused = this.#pause.getAttribute('aria-pressed') === 'true';
    const waiting = paused ? this.#held : this.#fresh;
    waiting.push(entry);
    if (waiting.length > 2 * MOST) waiting.splice(0, MOST);
    this.#show();
  }

  #flush() {
    const fresh = this.#fresh.splice(0);
    for (const { event } of fresh) {
      if (this.#names.has(event)) continue;
      this.#names.add(event);
      this.#filter.append(element('option', { value: event }, event));
    }
    this.#all.push(...fresh);
    if (this.#all.length > MOST) this.#all.splice(0, this.#all.length - MOST);
    setText(document.querySelector('#position'), this.#position ?? '—');
    setText(this.#pause, this.#pauseText());
    if (this.#ofTopic === null) this.#list.add(fresh.filter(this.#wanted()), MOST);
    else if (fresh.length > 0) this.#reading ??= setTimeout(() => this.#readTopic(), READ_AGAIN_MS);
    this.#showNote();
  }

  #showTopics(topics) {
    const chosen = this.#topic.value;
    this.#topic.replaceChildren(
      element('option', { value: '' }, 'todos'),
      ...topics.map((topic) => element('option', { value: topic }, topic)),
    );
    document.querySelector('#event-topics').hidden = topics.length === 0;
    this.#topic.value = topics.includes(chosen) ? chosen : '';
    if (this.#topic.value !== chosen) this.#chooseTopic();
  }

  #chooseTopic() {
    this.#ofTopic = this.#topic.value === '' ? null : [];
    this.#tell('');
    this.#choose();
    if (this.#ofTopic !== null) this.#readTopic();
  }

  async #readTopic() {
    clearTimeout(this.#reading);
    this.#reading = undefined;
    if (this.#ofTopic === null) return;
    const topic = this.#topic.value;
    const { viewer } = this.#session;
    try {
      const { events } = await this.#session.ask('GET', `console/events?${new URLSearchParams({ topic })}`);
      if (topic !== this.#topic.value || viewer !== this.#session.viewer) return;
      const known = new Set(this.#ofTopic.map(({ id }) => id));
      const fresh = events.filter(({ id }) => !known.has(id)).map(stored);
      this.#readAt = Date.now();
      this.#tell('');
      if (fresh.length < events.length) {
        this.#ofTopic = [...this.#ofTopic, ...fresh].slice(-MOST);
        this.#list.add(fresh.filter(this.#wanted()), MOST);
      } else {
        // None was known: there may be others in between.
        this.#ofTopic = fresh;
        this.#list.set(fresh.filter(this.#wanted()));
      }
    } catch (error) {
      if (topic !== this.#topic.value || viewer !== this.#session.viewer) return;
      this.#tell(`Os eventos deste tópico não puderam ser lidos (${error.code ?? 'o Recado não responde'}).`);
      if (this.#viewport.clientHeight > 0)
        this.#reading ??= setTimeout(() => this.#readTopic(), READ_AGAIN_MS);
    }
    this.#showNote();
  }

  #tell(problem) {
    if (this.#problem === problem) return;
    this.#problem = problem;
    announce(problem);
  }

  /** Which entries are to be seen. */
  #wanted() {
    const name = this.#filter.value;
    const words = this.#search.value.trim().toLowerCase();
    return (entry) => {
      if (name !== '' && entry.event !== name) return false;
      return words === '' || entry.words.includes(words);
    };
  }

  #choose() {
    this.#flush();
    this.#list.set((this.#ofTopic ?? this.#all).filter(this.#wanted()));
    this.#viewport.scrollTop = 0;
    this.#showNote();
  }

  #makeRow() {
    const row = element(
      'li',
      {},
      element(
        'button',
        { type: 'button', class: 'event', onclick: () => this.#detail.show(row.item) },
        element('time', { class: 'muted small' }),
        element('code', { class: 'event-name strong' }),
        element('span'),
        element('code', { class: 'glance muted' }),
      ),
    );
    return row;
  }

  #fillRow(row, entry) {
    const [time, name, came, content] = row.firstElementChild.children;
    const [text, look] = CAME[entry.came];
    setText(time, clock.format(entry.at));
    setText(name, entry.event);
    setText(came, text);
    came.className = look;
    setText(content, entry.glance);
  }

  /** The arrows go from row to row. */
  #move(pressed) {
    const step = { ArrowDown: 1, ArrowUp: -1 }[pressed.key];
    const row = document.activeElement?.closest('#events > li');
    if (!step || !row) return;
    pressed.preventDefault();
    const { top } = row.getBoundingClientRect();
    const distance = ({ offsetHeight }) => step * offsetHeight;
    const next = [...row.parentElement.children].find(
      (other) => !other.hidden && Math.abs(other.getBoundingClientRect().top - top - distance(row)) < 2,
    );
    next?.firstElementChild.focus();
  }

  #togglePause() {
    const paused = this.#pause.getAttribute('aria-pressed') === 'true';
    this.#pause.setAttribute('aria-pressed', String(!paused));
    if (paused) this.#fresh.push(...this.#held.splice(0));
    this.#flush();
  }

  #pauseText() {
    if (this.#pause.getAttribute('aria-pressed') !== 'true') return 'Pausar';
    return this.#held.length === 0 ? 'Continuar' : `Continuar (${Math.min(this.#held.length, MOST)})`;
  }

  #clear() {
    this.#held = [];
    this.#fresh = [];
    this.#all = [];
    this.#topic.value = '';
    this.#ofTopic = null;
    this.#tell('');
    this.#list.set([]);
    this.#detail.hide();
    this.#showNote();
  }

  #showNote() {
    const empty = document.querySelector('#events-empty');
    const { length } = this.#list;
    empty.hidden = length > 0 || this.#missing !== null;
    if (this.#problem && length > 0)
      this.#viewport.dataset.stale = `Eventos até ${clock.format(this.#readAt)}. ${this.#problem}`;
    else delete this.#viewport.dataset.stale;
    const none = this.#all.length === 0 && this.#ofTopic === null;
    setText(
      empty,
      this.#problem ||
        (none
          ? 'Nenhum evento ainda. Eles aparecem aqui assim que alguém grava.'
          : 'Nenhum evento assim entre os que estão aqui.'),
    );
  }
}

function stored(event) {
  return withGlance({ ...event, at: event.capturedAt, came: 'stored' });
}

/** With the beginning of its payload, which is shown and searched. Made as it comes, so that a search is cheap. */
function withGlance(entry) {
  const glance = entry.payload === undefined ? `${entry.bytes} bytes` : preview(entry.payload, GLANCE);
  return { ...entry, glance, words: `${entry.event} ${glance}`.toLowerCase() };
}
