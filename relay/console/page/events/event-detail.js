// One event: what it carries, and its way from the capture to this screen.
import { codeBlock, element, setText } from '../element.js';

const MOST = 20_000;
const number = new Intl.NumberFormat('pt-BR');
const moment = new Intl.DateTimeFormat('pt-BR', {
  hour: '2-digit',
  minute: '2-digit',
  second: '2-digit',
  fractionalSecondDigits: 3,
});

export class EventDetail {
  #session;
  #resized;
  #root = document.querySelector('#event-detail');
  #shown = null;

  /** @param {() => void} resized called when the room beside it changes */
  constructor(session, resized) {
    this.#session = session;
    this.#resized = resized;
    document.querySelector('#event-close').addEventListener('click', () => this.hide());
  }

  hide() {
    this.#shown = null;
    this.#root.hidden = true;
    this.#resized();
  }

  async show(entry) {
    this.#shown = entry;
    this.#root.hidden = false;
    this.#resized();
    setText(document.querySelector('#event-title'), entry.event);
    const body = document.querySelector('#event-body');
    const way = element('ol', { class: 'way thread stack', 'aria-label': 'O caminho deste evento' });
    body.replaceChildren(
      content(entry),
      way,
      entry.position
        ? element('p', { class: 'muted small breaks' }, 'Posição ', element('code', {}, entry.position))
        : '',
    );
    if (entry.event.startsWith('relay:')) {
      way.replaceChildren(step('Enviado pelo próprio Recado', moment.format(entry.at)));
      return;
    }
    let steps;
    try {
      steps = stepsOf(entry, await this.#ask(entry));
    } catch (error) {
      steps = [step('O caminho não pôde ser lido', error.code ?? 'o Recado não responde')];
    }
    if (this.#shown === entry) way.replaceChildren(...steps);
  }

  async #ask({ event, id, position, payload }) {
    const asked = new URLSearchParams({ event, ...(id ? { id } : { position }) });
    const { events } = await this.#session.ask('GET', `console/event?${asked}`);
    // A position only says how far a client has seen. Among events of one name the content identifies the right one.
    const text = JSON.stringify(payload);
    return id
      ? events[0]
      : events.find((found) => found.bytes > 4_096 || JSON.stringify(found.payload) === text);
  }
}

function content({ event, payload, bytes }) {
  if (payload === undefined) {
    return element(
      'p',
      { class: 'muted small' },
      `O conteúdo tem ${number.format(bytes)} bytes e não é mostrado aqui.`,
    );
  }
  const text = JSON.stringify(payload, null, 2);
  const rest = text.length - MOST;
  return element(
    'div',
    {},
    codeBlock(`Conteúdo de ${event}`, text.slice(0, MOST)),
    rest > 0
      ? element('p', { class: 'muted small' }, `Mais ${number.format(rest)} caracteres não são mostrados.`)
      : null,
  );
}

function stepsOf({ at, came }, found) {
  const steps = [];
  if (found) {
    const { capturedAt, committedAt, xid, emitted, topics } = found;
    steps.push(
      step('Capturado', `${moment.format(capturedAt)}, transação ${xid}`),
      step(
        'Gravado (commit)',
        committedAt === null
          ? 'sim; o Postgres só guarda a hora com track_commit_timestamp = on'
          : moment.format(committedAt),
      ),
    );
    steps.push(
      step(
        'Para quem',
        topics === null ? 'toda a conta' : `quem tem um tópico dele; aqui, ${topics.join(', ')}`,
      ),
    );
    for (const { at: emittedAt, sockets } of emitted) {
      const screens = sockets === 1 ? '1 tela' : `${number.format(sockets)} telas`;
      steps.push(step('Lido e enviado', `${moment.format(emittedAt)}, a ${screens}`));
    }
    if (emitted.length === 0)
      steps.push(step('Lido e enviado', 'antes do que este nó lembra, ou por outro nó'));
  } else steps.push(step('No banco', 'não está mais guardado'));
  if (came !== 'stored') steps.push(step('Nesta tela', moment.format(at)));
  return steps;
}

function step(name, text) {
  return element('li', {}, element('strong', {}, name), ' ', element('span', { class: 'muted' }, text));
}
