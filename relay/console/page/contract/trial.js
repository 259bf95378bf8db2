// An event tried with a row that is there: what would be sent, and who would hear it. Nothing is written.
import { codeBlock, element } from '../element.js';

const MOST_OF_A_ROW = 70;

/** @param {(path: string) => Promise<object>} ask */
export function trialOf(event, ask) {
  const outcome = element('div', { class: 'outcome stack', role: 'status' });
  const select = element('select', { id: `rows-${event}`, onchange: () => show() });
  const details = element(
    'details',
    { ontoggle: () => details.open && load() },
    element('summary', { class: 'small strong' }, 'Experimentar com uma linha'),
    element('div', { class: 'field flow' }, element('label', { for: `rows-${event}` }, 'Linha'), select),
    outcome,
  );
  let rows = [];

  async function load() {
    try {
      ({ rows } = await ask(`console/rows?${new URLSearchParams({ event })}`));
    } catch (error) {
      outcome.replaceChildren(problem('As linhas não puderam ser lidas', error));
      return;
    }
    select.replaceChildren(
      ...rows.map(({ table, row }, index) => element('option', { value: index }, `${table}: ${glance(row)}`)),
    );
    if (rows.length > 0) await show();
    else
      outcome.replaceChildren(
        element('p', { class: 'muted small' }, 'As tabelas deste evento estão vazias.'),
      );
  }

  async function show() {
    const { table, at } = rows[Number(select.value)];
    try {
      const { previews } = await ask(`console/preview?${new URLSearchParams({ event, table, at })}`);
      outcome.replaceChildren(...previews.map(told));
    } catch (error) {
      outcome.replaceChildren(
        error.code === 'row_gone'
          ? element(
              'p',
              { class: 'problem strong' },
              'A linha mudou agora: feche e abra de novo para escolher.',
            )
          : problem('O evento não pôde ser experimentado', error),
      );
    }
  }

  return details;
}

function told({ operation, fires, account, payload, audience, room, sockets }) {
  return element(
    'div',
    {},
    element('p', {}, element('code', {}, operation), ': ', verdict(fires, account)),
    account === null
      ? null
      : element(
          'p',
          { class: 'muted small breaks' },
          'Sala ',
          element('code', {}, room),
          `, ${heardBy(audience)}; agora ${sockets === 1 ? '1 tela' : `${sockets} telas`} neste processo`,
        ),
    codeBlock(`Conteúdo que seria enviado (${operation})`, JSON.stringify(payload, null, 2)),
  );
}

function verdict(fires, account) {
  if (account === null) return 'nada seria enviado, a linha não tem conta';
  if (fires === null) return 'depende do que a alteração muda na linha';
  return fires ? 'seria enviado' : 'não seria enviado, a condição não vale para esta linha';
}

function heardBy(audience) {
  if (audience === null) return 'para toda a conta';
  return audience.length === 0 ? 'para ninguém' : `só para quem tem um dos tópicos ${audience.join(', ')}`;
}

function problem(text, error) {
  return element(
    'p',
    { class: 'problem strong' },
    `${text}: `,
    element('span', { lang: 'en' }, error.message ?? error.code ?? 'sem resposta'),
  );
}

function glance(row) {
  const text = Object.entries(row)
    .map(([name, value]) => `${name} ${typeof value === 'object' ? JSON.stringify(value) : value}`)
    .join(', ');
  return text.length > MOST_OF_A_ROW ? `${text.slice(0, MOST_OF_A_ROW - 1)}…` : text;
}
