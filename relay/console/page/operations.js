// How it goes, for operators: asked every second while somebody looks.
import { Chart } from './chart.js';
import { element, setText } from './element.js';

const EVERY_MS = 1_000;
const TOKEN_IN_TAB = 'recado-operator';
const number = new Intl.NumberFormat('pt-BR', { maximumFractionDigits: 1 });
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
    this.#charts.rate.push([rate('events_read_total'), rate('deliveries_total')]);
    this.#charts.latency.push(percentiles(before.latency, now.latency, [0.5, 0.95, 0.99]));
    this.#charts.gate.push([metrics.gate_closed > 0 || now.gate !== 'open' ? 1 : 0]);
    this.#charts.backlog.push([database?.backlog ?? null]);
    this.#charts.sockets.push([metrics.sockets ?? 0]);
    this.#charts.transaction.push([database?.oldestTransaction ?? null]);
    const warnings = warningsOf(now);
    verdict(
      ...(now.ready
        ? warnings.length === 0
          ? ['Tudo em ordem', 'good']
          : ['Atende, com avisos', 'fair']
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
    showRows('#nodes', database.nodes, 3, 'Nenhum nó lê este banco.', ({ pid, client, since }) => [
      `backend ${pid}`,
      client,
      moment.format(new Date(since)),
    ]);
    showRows('#instances', database.instances, 5, 'Nenhuma instância cadastrada.', (instance) => [
      instance.name,
      instance.account,
      lamp(
        instance.status,
        instance.status === 'connected' || instance.status === 'polling',
        instance.reason,
      ),
      lamp(instance.state ?? '—', instance.state === 'open', null),
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
    p50 === null ? 'sem eventos agora' : `p50 ${seconds(p50)} · p95 ${seconds(p95)} · p99 ${seconds(p99)}`;
  const gate = ([closed]) =>
    closed === 1 ? 'fechado: muitas gravações, leitura em ritmo' : 'aberto: cada gravação toca a campainha';
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
    gate: new Chart({ title: 'Portão', lines: ['fechado'], show: gate, steps: true }),
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

const CHECKS = {
  database:
    'Os eventos não estão sendo lidos: veja o banco e o log do relay. Nada se perde, as telas esperam.',
  listen: 'Sem LISTEN: os eventos chegam pela leitura de segurança, até um segundo depois.',
};

function warningsOf({ checks, database, error, metrics }) {
  const warnings = Object.entries(checks)
    .filter(([, text]) => text !== 'ok')
    .map(([name, text]) => CHECKS[name] ?? text);
  if (database === null) return [...warnings, `O banco não respondeu ao painel (${error}).`];
  const { oldestTransaction, notifyQueue, backlog, instances, problems } = database;
  if (oldestTransaction > 60)
    warnings.push(`Há uma transação aberta há ${number.format(oldestTransaction)} s.`);
  if (notifyQueue > 0.1) warnings.push(`A fila do NOTIFY está ${number.format(notifyQueue * 100)} % cheia.`);
  if (backlog > 10_000) warnings.push(`${number.format(backlog)} eventos esperam para ser lidos.`);
  if (metrics.slow_consumers_closed_total > 0) {
    warnings.push(
      `${metrics.slow_consumers_closed_total} telas lentas foram desconectadas; elas voltam e recuperam.`,
    );
  }
  if (metrics.retention_failures_total > 0) {
    warnings.push(
      'Eventos antigos não puderam ser apagados: o disco do Postgres pode estar cheio (veja retention_failed no log).',
    );
  }
  for (const { problem, object, detail, remedy } of problems) {
    warnings.push([problem, object, detail, remedy].filter(Boolean).join(' · '));
  }
  for (const { name, status, reason } of instances) {
    if (!['connected', 'polling', 'waiting'].includes(status)) {
      warnings.push(`A instância ${name} está ${status}${reason ? ` (${reason})` : ''}.`);
    }
  }
  return warnings;
}

function showWarnings(warnings) {
  const list = document.querySelector('#warnings');
  list.hidden = warnings.length === 0;
  if (list.textContent === warnings.join('')) return;
  list.replaceChildren(...warnings.map((text) => element('li', {}, text)));
}

function verdict(text, look) {
  const target = document.querySelector('#verdict');
  setText(target, text);
  target.dataset.look = look;
}

function lamp(text, good, title) {
  return element('span', { class: good ? 'tag on' : 'tag off', title }, text);
}

function showRows(selector, items, columns, empty, cells) {
  const rows = items.map((item) =>
    element(
      'tr',
      {},
      cells(item).map((cell) => element('td', {}, cell)),
    ),
  );
  const none = element('tr', {}, element('td', { colspan: columns, class: 'empty' }, empty));
  document.querySelector(selector).replaceChildren(...(rows.length > 0 ? rows : [none]));
}

const TOTALS = {
  events_read_total: 'Eventos lidos',
  deliveries_total: 'Entregas',
  replays_total: 'Retomadas',
  resyncs_total: 'Pedidos de recarga',
  handshakes_refused_total: 'Conexões recusadas',
  slow_consumers_closed_total: 'Telas lentas fechadas',
  wakeups_total: 'Toques da campainha',
  events_unknown_total: 'Fora do contrato',
};

function showTotals(metrics) {
  const pairs = Object.entries(TOTALS).flatMap(([name, text]) => [
    element('dt', {}, text),
    element('dd', {}, number.format(metrics[name] ?? 0)),
  ]);
  document.querySelector('#totals').replaceChildren(...pairs);
}
