// The contract, as the database has it now.
import { codeBlock, element, setText } from '../element.js';
import { trialOf } from './trial.js';

export class Contract {
  #session;
  #root = document.querySelector('#contract');
  #problem = document.querySelector('#contract-problem');

  constructor(session) {
    this.#session = session;
    const download = (id, path, name) =>
      document.querySelector(id).addEventListener('click', () => this.#download(path, name));
    download('#download-asyncapi', 'console/contract.asyncapi.json', 'recado.asyncapi.json');
    download('#download-typescript', 'console/contract.d.ts', 'recado.d.ts');
  }

  shown(shown) {
    if (shown) this.#load();
  }

  async #load() {
    try {
      const { events, calls } = await this.#session.ask('GET', 'console/contract');
      const ask = (path) => this.#session.ask('GET', path);
      this.#root.replaceChildren(...events.map((event) => card(event, calls[event.event] ?? [], ask)));
      setText(this.#problem, '');
    } catch (error) {
      setText(this.#problem, `O contrato não pôde ser lido (${error.code ?? 'o Recado não responde'}).`);
    }
  }

  /** Through fetch(), since a link could not bring the token. */
  async #download(path, name) {
    try {
      const text = await this.#session.askText(path);
      const url = URL.createObjectURL(new Blob([text], { type: 'text/plain' }));
      element('a', { href: url, download: name }).click();
      URL.revokeObjectURL(url);
      setText(this.#problem, '');
    } catch (error) {
      setText(this.#problem, `O arquivo não pôde ser gerado (${error.code ?? 'o Recado não responde'}).`);
    }
  }
}

function card({ event, room, audience, description, payload, sample, recorded }, calls, ask) {
  const enabled = recorded.every((recording) => recording.enabled);
  const title = element('h3', { id: `contract-${event}`, class: 'breaks' }, element('code', {}, event));
  return element(
    'article',
    { class: 'card stack', 'aria-labelledby': `contract-${event}` },
    element(
      'div',
      { class: 'flow apart' },
      title,
      element('span', { class: enabled ? 'tag good' : 'tag warm' }, enabled ? 'ativo' : 'suspenso'),
    ),
    description === null
      ? null
      : element(
          'p',
          {},
          element('span', { class: 'tag' }, 'descrição no banco'),
          ' ',
          element('span', { lang: 'en' }, description),
        ),
    element('ul', { class: 'stack small' }, recorded.filter(({ when }) => when !== '').map(sourceLine)),
    element('p', { class: 'muted small breaks' }, 'Sala ', element('code', {}, room)),
    audience === 'topics'
      ? element('p', { class: 'muted small breaks' }, 'Só para quem tem um dos tópicos ', ...topics(recorded))
      : null,
    folded('Exemplo', JSON.stringify(sample, null, 2), true),
    folded('Formato (JSON Schema)', JSON.stringify(payload, null, 2), false),
    calls.length === 0 ? null : folded('Como foi publicado (SQL)', calls.join(';\n\n'), false),
    calls.length > 0 && recorded.some(({ table }) => table !== null) ? trialOf(event, ask) : null,
  );
}

/** The expressions; only operators get them. */
function topics(recorded) {
  const expressions = new Set(recorded.map((recording) => recording.audience));
  expressions.delete(null);
  return [...expressions].map((expression) => element('code', { lang: 'en' }, expression));
}

function sourceLine({ table, when }) {
  return element(
    'li',
    {},
    table === null ? null : element('code', {}, table),
    element('p', { class: 'muted small breaks' }, ...inPortuguese(when)),
  );
}

/** What relay.fires_when() says. The condition is SQL. */
function inPortuguese(when) {
  if (when === 'an application calls relay.emit()') {
    return ['quando a aplicação chama ', element('code', {}, 'relay.emit()')];
  }
  if (when.startsWith('TRUNCATE'))
    return ['depois de ', element('code', {}, 'TRUNCATE'), ' (todas as contas recarregam)'];
  const match =
    /^(?<late>at commit, )?after (?<operation>\w+) of (?<what>a row|any number of rows)(?: when (?<condition>.*))?$/s.exec(
      when,
    );
  if (!match) return [element('code', { lang: 'en' }, when)];
  const { late, operation, what, condition } = match.groups;
  return [
    late ? 'no commit, depois de ' : 'depois de ',
    element('code', {}, operation),
    what === 'a row' ? ' de uma linha' : ' de qualquer número de linhas',
    ...(condition ? [', quando ', element('code', {}, condition)] : []),
  ];
}

function folded(title, text, open) {
  return element(
    'details',
    { open },
    element('summary', { class: 'small strong' }, title),
    codeBlock(title, text),
  );
}
