// The live tail: what this token hears.
import { codeBlock, element, setText } from './element.js';

const MOST = 200;
const clock = new Intl.DateTimeFormat('pt-BR', { timeStyle: 'medium' });

export class EventTail {
  #list = document.querySelector('#events');
  #filter = document.querySelector('#event-filter');
  #pause = document.querySelector('#event-pause');
  #held = [];

  constructor(session) {
    session.addEventListener('arrival', ({ detail }) => this.#hear(detail));
    session.addEventListener('position', ({ detail }) => this.#showPosition(detail.position));
    // Another account's events are not shown under this one's name.
    session.addEventListener('clinic', () => this.#accountMayHaveChanged(session.account));
    this.#filter.addEventListener('change', () => this.#showFiltered());
    this.#pause.addEventListener('click', () => this.#togglePause());
    document.querySelector('#event-clear').addEventListener('click', () => this.#clear());
  }

  #account = null;
  #accountMayHaveChanged(account) {
    if (this.#account !== account) this.#clear();
    this.#account = account;
  }

  #hear(arrival) {
    this.#showPosition(arrival.position);
    if (![...this.#filter.options].some(({ value }) => value === arrival.event)) {
      this.#filter.append(element('option', { value: arrival.event }, arrival.event));
    }
    if (this.#pause.getAttribute('aria-pressed') === 'true') {
      this.#held = [...this.#held.slice(1 - MOST), arrival];
      setText(this.#pause, `Continuar (${this.#held.length})`);
      return;
    }
    this.#add(arrival);
  }

  #add({ event, payload, position, recovered, at }) {
    const text = JSON.stringify(payload, null, 2);
    const entry = element(
      'li',
      { 'data-event': event },
      element(
        'details',
        {},
        element(
          'summary',
          {},
          element('time', {}, clock.format(at)),
          element('code', { class: 'event-name' }, event),
          element(
            'span',
            { class: recovered ? 'time recovered' : 'time live' },
            recovered ? 'recuperado' : 'ao vivo',
          ),
          element('code', { class: 'glance' }, JSON.stringify(payload)),
        ),
        codeBlock(`Conteúdo de ${event}`, text),
        element('p', { class: 'position' }, 'Posição ', element('code', {}, position ?? '—')),
      ),
    );
    entry.hidden = this.#filter.value !== '' && this.#filter.value !== event;
    this.#list.prepend(entry);
    while (this.#list.children.length > MOST) this.#list.lastElementChild.remove();
    this.#showEmpty();
  }

  #togglePause() {
    const paused = this.#pause.getAttribute('aria-pressed') === 'true';
    this.#pause.setAttribute('aria-pressed', String(!paused));
    setText(this.#pause, paused ? 'Pausar' : 'Continuar');
    if (paused) for (const arrival of this.#held.splice(0)) this.#add(arrival);
  }

  #showFiltered() {
    for (const entry of this.#list.children) {
      entry.hidden = this.#filter.value !== '' && this.#filter.value !== entry.dataset.event;
    }
    this.#showEmpty();
  }

  #showPosition(position) {
    setText(document.querySelector('#position'), position ?? '—');
  }

  #clear() {
    this.#held = [];
    this.#list.replaceChildren();
    this.#showEmpty();
  }

  #showEmpty() {
    document.querySelector('#events-empty').hidden = [...this.#list.children].some(({ hidden }) => !hidden);
  }
}
