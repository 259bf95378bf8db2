// The relay's state, for operators: requested every second while the section is visible.

import { element, setText } from '../element.js';
import { Chart } from './chart.js';
import { FROZEN_AFTER, INSTANCE_STATES, warningsOf } from './warnings.js';

const EVERY_MS = 1_000;
const TOKEN_IN_TAB = 'recado-operator';
const number = new Intl.NumberFormat('pt-BR', { maximumFractionDigits: 1 });
/** State of the phone, as the server says it. */
const PHONES = { open: 'conectado', close: 'desconectado', connecting: 'conectando' };

const moment = new Intl.DateTimeFormat('pt-BR', { dateStyle: 'short', timeStyle: 'medium' });

export class Operations {
  #shown = false;
  #timer;
  #before = null;
  /** The last answer in which the database had something to say. */
  #known = null;
  #charts = makeCharts();
  #token = sessionStorage.getItem(TOKEN_IN_TAB);

  constructor() {
    document.querySelector('#charts').append(...Object.values(this.#charts).map((chart) => chart.element));
    document.querySelector('#operator').addEventListener('submit', (submit) => {
      submit.preventDefault();
      this.#token = document.querySelector('#operator-token').value.trim();
      sessionStorage.setItem(TOKEN_IN_TAB, this.#token);
      this.#look();
    });
    document.addEventListener('visibilitychange', () => this.shown(this.#shown));
  }

  shown(shown) {
    this.#shown = shown;
    clearTimeout(this.#timer);
    if (shown && !document.hidden) this.#look();
  }

  async #look() {
    clearTimeout(this.#timer);
    let again = true;
    try {
      const headers = this.#token === null ? {} : { authorization: `Bearer ${this.#token}` };
      const response = await fetch('console/operations', { headers });
      again = response.status !== 403;
      if (response.ok) this.#show(await response.json());
      else this.#refuse(response.status);
    } catch {
      this.#keep('O relay não responde');
    }
    clearTimeout(this.#timer);
    if (again && this.#shown && !document.hidden) this.#timer = setTimeout(() => this.#look(), EVERY_MS);
  }

  #refuse(status) {
    const forbidden = status === 403;
    document.querySelector('#operator').hidden = !forbidden;
    if (!forbidden) return this.#keep('O relay não conseguiu responder');
    document.querySelector('#operations').hidden = true;
    const tried = this.#token !== null;
    setText(
      document.querySelector('#operator-problem'),
      tried ? 'Este token de operador não foi aceito.' : '',
    );
    verdict('', '');
  }

  /** The last values stay, dimmed, with their time. */
  #keep(text) {
    verdict(text, 'bad');
    if (this.#before !== null) age(document.querySelector('#operations'), this.#before.at);
  }

  #show(now) {
    document.querySelector('#operator').hidden = true;
    document.querySelector('#operations').hidden = false;
    const before = this.#before ?? now;
    this.#before = now;
    const seconds = Math.max(0.001, (now.at - before.at) / 1_000);
    const rate = (name) => Math.max(0, ((now.metrics[name] ?? 0) - (before.metrics[name] ?? 0)) / seconds);
    const { database, metrics } = now;
    this.#charts.rate.push(now.at, [rate('events_read_total'), rate('deliveries_total')]);
    this.#charts.latency.push(now.at, percentiles(before.latency, now.latency, [0.5, 0.95, 0.99]));
    this.#charts.gate.push(now.at, [metrics.gate_closed > 0 || now.gate !== 'open' ? 1 : 0]);
    this.#charts.backlog.push(now.at, [database?.backlog ?? null]);
    this.#charts.sockets.push(now.at, [metrics.sockets ?? 0]);
    this.#charts.transaction.push(now.at, [database?.oldestTransaction ?? null]);
    const warnings = warningsOf(now);
    verdict(
      ...(now.ready
        ? warnings.length === 0
          ? ['Tudo em ordem', 'good']
          : ['Atende, com avisos', 'warm']
        : ['Não atende', 'bad']),
    );
    showWarnings(warnings);
    age(document.querySelector('#operations'), null);
    if (database !== null) this.#known = now;
    for (const card of document.querySelectorAll('.of-database')) {
      age(card, database === null && this.#known !== null ? this.#known.at : null);
    }
    if (database !== null) this.#showDatabase(database);
    showTotals(metrics);
  }

  #showDatabase(database) {
    showRows('#nodes', database.nodes, 'Nenhum nó lê este banco.', ({ pid, client, since, lastReadAgo }) => [
      `backend ${pid}`,
      client,
      moment.format(new Date(since)),
      lamp(
        lastReadAgo < 2 ? 'agora' : `há ${number.format(lastReadAgo)} s`,
        lastReadAgo <= FROZEN_AFTER,
        null,
      ),
    ]);
    showRows('#instances', database.instances, 'Nenhuma instância cadastrada.', (instance) => [
      element(
        'div',
        {},
        element('p', { class: 'breaks' }, instance.name),
        element('p', { class: 'muted' }, `conta ${instance.account}`),
      ),
      lamp(
        INSTANCE_STATES[instance.status] ?? instance.status,
        instance.status === 'connected' || instance.status === 'polling',
        instance.reason,
      ),
      lamp(PHONES[instance.state] ?? instance.state ?? '—', instance.state === 'open', null),
      String(instance.rejected),
    ]);
  }
}

/** Values that are not of now are dimmed, and say of when they are. */
function age(target, at) {
  if (at === null) delete target.dataset.stale;
  else target.dataset.stale = `Valores de ${moment.format(at)}`;
}

function makeCharts() {
  const perSecond = ([read, sent]) =>
    `${number.format(read)} lidos · ${number.format(sent)} entregues por segundo`;
  const seconds = (value) =>
    value >= 1 ? `${number.format(value)} s` : `${number.format(value * 1_000)} ms`;
  const latency = ([p50, p95, p99]) =>
    p50 === null
      ? 'nenhum evento neste segundo'
      : `p50 ${seconds(p50)} · p95 ${seconds(p95)} · p99 ${seconds(p99)}`;
  const gate = ([closed]) =>
    closed === 1
      ? 'não: há muitas gravações, e o relay lê a cada poucos milissegundos'
      : 'sim: cada gravação avisa o relay na hora';
  const backlog = ([count]) =>
    count === null ? 'desconhecida' : `${number.format(count)} ${count === 1 ? 'evento' : 'eventos'} por ler`;
  const oldest = ([age]) => (age === null ? 'desconhecida' : `${number.format(age)} s`);
  return {
    rate: new Chart({ title: 'Ritmo', lines: ['lidos', 'entregues'], show: perSecond, least: 5 }),
    latency: new Chart({
      title: 'Da captura ao envio',
      lines: ['p50', 'p95', 'p99'],
      show: latency,
      least: 0.01,
      scale: seconds,
    }),
    gate: new Chart({ title: 'Avisos do Postgres (NOTIFY)', lines: ['sem avisos'], show: gate, steps: true }),
    backlog: new Chart({ title: 'Fila', lines: ['por ler'], show: backlog, least: 10 }),
    sockets: new Chart({
      title: 'Telas conectadas',
      lines: ['sockets'],
      show: ([count]) => number.format(count),
      least: 5,
    }),
    transaction: new Chart({
      title: 'Transação mais antiga',
      lines: ['idade'],
      show: oldest,
      least: 5,
      scale: seconds,
    }),
  };
}

/** Of the events between two looks, interpolated within the bounds of the histogram; null: there were none. */
function percentiles(before, now, wanted) {
  const counts = now.map(({ upTo, count }, index) => ({ upTo, count: count - (before[index]?.count ?? 0) }));
  const total = counts.at(-1)?.count ?? 0;
  if (total <= 0) return wanted.map(() => null);
  return wanted.map((share) => {
    const at = counts.findIndex(({ count }) => count >= share * total);
    const { upTo, count } = counts[at];
    const below = counts[at - 1] ?? { upTo: 0, count: 0 };
    if (upTo === null) return below.upTo;
    return (
      below.upTo + ((upTo - below.upTo) * (share * total - below.count)) / Math.max(1, count - below.count)
    );
  });
}

function showWarnings(warnings) {
  const list = document.querySelector('#warnings');
  list.hidden = warnings.length === 0;
  const said = JSON.stringify(
    warnings.map(({ text, object, detail }) => [text, object, detail?.textContent]),
  );
  // What somebody has opened stays open.
  if (list.dataset.said === said) return;
  list.dataset.said = said;
  list.replaceChildren(
    ...warnings.map(({ text, object, detail }) =>
      element('li', {}, text, object ? [': ', element('code', { lang: 'en' }, object)] : null, detail),
    ),
  );
}

function verdict(text, look) {
  const target = document.querySelector('#verdict');
  setText(target, text);
  target.className = `tag strong ${look}`;
  target.hidden = text === '';
}

function lamp(text, good, title) {
  return element('span', { class: good ? 'tag good' : 'tag warm', title }, text);
}

function showRows(selector, items, empty, cells) {
  const body = document.querySelector(selector);
  const columns = [...body.closest('table').querySelectorAll('th')].map((head) => head.textContent);
  const rows = items.map((item) =>
    element(
      'tr',
      {},
      cells(item).map((cell, index) => element('td', { 'data-column': columns[index] }, cell)),
    ),
  );
  const none = element('tr', {}, element('td', { colspan: columns.length, class: 'empty muted' }, empty));
  body.replaceChildren(...(rows.length > 0 ? rows : [none]));
}

const TOTALS = {
  events_read_total: 'Eventos lidos',
  deliveries_total: 'Entregas',
  replays_total: 'Retomadas',
  resyncs_total: 'Pedidos de recarga',
  handshakes_refused_total: 'Conexões recusadas',
  slow_consumers_closed_total: 'Telas lentas fechadas',
  wakeups_total: 'Avisos do Postgres recebidos',
  events_unknown_total: 'Fora do contrato',
};

function showTotals(metrics) {
  showRows('#totals', Object.entries(TOTALS), '', ([name, text]) => [
    text,
    element('strong', {}, number.format(metrics[name] ?? 0)),
  ]);
}
