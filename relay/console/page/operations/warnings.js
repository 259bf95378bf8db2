// What an operator is warned of, in Portuguese. What relay.check() says in detail is English, and marked as such.
import { element } from '../element.js';

const number = new Intl.NumberFormat('pt-BR', { maximumFractionDigits: 1 });

const CHECKS = {
  database:
    'Os eventos não estão sendo lidos: veja o banco e o log do relay. Nada se perde, as telas esperam.',
  listen: 'Sem LISTEN: os eventos chegam pela leitura de segurança, até um segundo depois.',
};

/** What relay.check() finds. */
const PROBLEMS = {
  asynchronous_commit: 'O Postgres confirma gravações antes de guardá-las',
  capture_privileges: 'A captura não tem os direitos de que precisa',
  captures_failed: 'Eventos não puderam ser capturados',
  default_missing: 'Um valor padrão de relay.events foi mudado',
  disk_full: 'O disco do Postgres está cheio: as gravações do aplicativo falham',
  event_doubled: 'Um evento é capturado duas vezes',
  event_overtaken: 'Um evento passou à frente de outro',
  event_suspended: 'Um evento está suspenso',
  event_too_large: 'Um evento era grande demais para ser enviado',
  event_unknown: 'Um evento está fora do contrato',
  account_unknown: 'Linhas foram apagadas sem que se soubesse a conta',
  expression_broken: 'Uma expressão do contrato não funciona mais',
  function_missing: 'Falta uma função de captura',
  function_owner: 'Uma função de captura tem outro dono',
  function_replaced: 'Uma função de captura foi trocada',
  function_settings: 'Uma função de captura tem outros ajustes',
  identity_cached: 'Os números dos eventos são reservados com antecedência',
  index_missing: 'Falta um índice de relay.events',
  lock_taken: 'Uma sessão alheia segura uma trava do Recado',
  notification_queue: 'A fila de notificações do Postgres está enchendo',
  outbox_row_security: 'relay.events tem segurança por linha',
  outbox_trigger: 'Há um gatilho alheio em relay.events',
  outbox_unlogged: 'relay.events não sobrevive a uma queda do Postgres',
  outbox_writer: 'Um papel pode gravar direto em relay.events',
  partition_missing: 'Falta uma partição de relay.events',
  row_security: 'Uma tabela esconde linhas da captura',
  slot_overdue: 'Eventos antigos não puderam ser apagados',
  table_missing: 'A tabela de um evento não existe mais',
  table_renamed: 'A tabela de um evento mudou de nome',
  table_replaced: 'A tabela de um evento foi trocada por outra',
  trigger_altered: 'Um gatilho foi alterado',
  trigger_disabled: 'Um gatilho está desligado',
  trigger_missing: 'Falta um gatilho',
  trigger_unpublished: 'Há um gatilho de um evento que não está no contrato',
  triggers_bypassed: 'Gatilhos não disparam nesta sessão ou neste papel',
};

/** States of an instance; the others are its troubles. */
export const INSTANCE_STATES = {
  connected: 'conectada',
  polling: 'lida por REST',
  waiting: 'esperando o primeiro evento do servidor',
  connecting: 'conectando',
  disconnected: 'desconectada',
  unreachable: 'servidor fora de alcance',
  unauthorized: 'chave recusada',
  not_found: 'desconhecida do servidor',
  refused: 'recusada pelo servidor',
};

/** @returns {{text: string, object?: string, detail?: Element}[]} object: in English, as it was said or named */
export function warningsOf({ at, checks, database, error, metrics, slowClients }) {
  const texts = Object.entries(checks)
    .filter(([, text]) => text !== 'ok')
    .map(([name, text]) => CHECKS[name] ?? text);
  for (const { account, address, times, lastAt, bytes } of slowClients) {
    const who = times === 1 ? 'Uma tela lenta' : 'Telas lentas';
    const often = times === 1 ? 'foi desconectada' : `foram desconectadas ${times} vezes, a última`;
    texts.push(
      `${who} da conta ${account ?? 'desconhecida'} em ${address} ${often} há ${number.format((at - lastAt) / 1_000)} s, com ${number.format(bytes / 1_048_576)} MiB por ler. A rede ou a página de lá é lenta, ou os eventos são grandes; ao voltar, recupera tudo.`,
    );
  }
  if (metrics.retention_failures_total > 0) {
    texts.push(
      'Eventos antigos não puderam ser apagados: o disco do Postgres pode estar cheio (veja retention_failed no log).',
    );
  }
  if (database === null) {
    return [...texts.map((text) => ({ text })), { text: 'O banco não respondeu ao painel', object: error }];
  }
  const { oldestTransaction, notifyQueue, backlog, nodes, instances, problems } = database;
  if (oldestTransaction > 60) {
    texts.push(`Há uma transação aberta há ${number.format(oldestTransaction)} s.`);
  }
  if (notifyQueue > 0.1) texts.push(`A fila do NOTIFY está ${number.format(notifyQueue * 100)} % cheia.`);
  if (backlog > 10_000) texts.push(`${number.format(backlog)} eventos esperam para ser lidos.`);
  for (const { pid, client, lastReadAgo } of nodes) {
    if (lastReadAgo <= FROZEN_AFTER) continue;
    texts.push(
      `O nó do backend ${pid} (${client}) não lê há ${number.format(lastReadAgo)} s: travou, ou sua consulta não termina. Reinicie esse nó.`,
    );
  }
  const troubled = instances.filter(({ status }) => !['connected', 'polling', 'waiting'].includes(status));
  return [
    ...texts.map((text) => ({ text })),
    ...troubled.map(({ name, status, reason }) => ({
      text: `Instância ${name}: ${INSTANCE_STATES[status] ?? status}`,
      object: reason,
    })),
    ...problems.map(problemOf),
  ];
}

/** A node reads about once a second. */
export const FROZEN_AFTER = 15;

function problemOf({ problem, object, detail, remedy }) {
  return {
    text: PROBLEMS[problem] ?? 'Algo no banco não está certo',
    object,
    detail: element(
      'details',
      {},
      element('summary', {}, `O que fazer (em inglês, ${problem})`),
      element('p', { lang: 'en' }, detail ?? ''),
      element('code', { lang: 'en' }, remedy ?? ''),
    ),
  };
}
