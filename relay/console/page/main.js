// The page: tabs, who looks, and how the connection is.
import { Clinic } from './clinic/clinic.js';
import { Contract } from './contract/contract.js';
import { element, setText } from './element.js';
import { EventTail } from './events/events.js';
import { Operations } from './operations/operations.js';
import { Session } from './session.js';

const session = new Session();
const clinic = new Clinic(session);
const panels = {
  clinica: clinic,
  eventos: new EventTail(session),
  contrato: new Contract(session),
  operacao: new Operations(),
};
const find = (selector) => document.querySelector(selector);
const tabs = [...document.querySelectorAll('[role=tab]')];

// ---------------------------------------------------------------------------------------------------------
// Tabs: the address keeps which one; arrows, Home and End move between them.

function showTab(name, { focus = false } = {}) {
  for (const tab of tabs) {
    const shown = tab.getAttribute('aria-controls') === name;
    tab.setAttribute('aria-selected', String(shown));
    tab.tabIndex = shown ? 0 : -1;
    if (shown && focus) tab.focus();
  }
  for (const [id, panel] of Object.entries(panels)) {
    const shown = id === name && (id === 'operacao' || hasToken());
    find(`#${id}`).hidden = !shown;
    panel.shown?.(shown);
  }
  find('#sign-in').hidden = hasToken() || name === 'operacao';
  if (location.hash !== `#${name}`) history.replaceState(null, '', `#${name}`);
}

function hasToken() {
  return session.demo || !['signed-out', 'refused'].includes(session.state);
}

function wantedTab() {
  const wanted = tabs.find((tab) => `#${tab.getAttribute('aria-controls')}` === location.hash && !tab.hidden);
  return (wanted ?? tabs.find((tab) => !tab.hidden)).getAttribute('aria-controls');
}

for (const tab of tabs) {
  tab.addEventListener('click', () => showTab(tab.getAttribute('aria-controls')));
  tab.addEventListener('keydown', ({ key }) => {
    const visible = tabs.filter(({ hidden }) => !hidden);
    const at = visible.indexOf(tab);
    const moves = {
      ArrowRight: at + 1,
      ArrowLeft: at - 1 + visible.length,
      Home: 0,
      End: visible.length - 1,
    };
    const next = visible[moves[key] % visible.length];
    if (next) showTab(next.getAttribute('aria-controls'), { focus: true });
  });
}
addEventListener('hashchange', () => showTab(wantedTab()));

// ---------------------------------------------------------------------------------------------------------
// Who looks.

function showAccounts() {
  find('#accounts').hidden = !session.demo;
  find('#accounts')
    .querySelectorAll('label')
    .forEach((label) => {
      label.remove();
    });
  for (const { id, name } of session.accounts) {
    const radio = element('input', {
      type: 'radio',
      name: 'account',
      value: id,
      checked: id === session.account,
      class: 'unseen',
    });
    radio.addEventListener('change', () => open(id, session.person));
    find('#accounts').append(element('label', { class: 'muted small' }, radio, element('span', {}, name)));
  }
  const { people } = session.accounts.find(({ id }) => id === session.account) ?? { people: [] };
  find('#people').hidden = !session.demo;
  find('#person').replaceChildren(
    ...people.map(({ id, name }) => element('option', { value: id, selected: id === session.person }, name)),
  );
  showBeside();
}

find('#person').addEventListener('change', ({ target }) => open(session.account, target.value));

/** The address keeps whose page it is. */
function open(account, person) {
  history.replaceState(null, '', `?${new URLSearchParams({ conta: account, quem: person })}${location.hash}`);
  session.open(account, person);
  showBeside();
}

function showBeside() {
  const other = session.accounts.find(({ id }) => id !== session.account);
  const link = find('#beside');
  link.hidden = !other;
  link.href = `?conta=${other?.id}`;
  link.target = '_blank';
  setText(link, `Abrir a ${other?.name} ao lado`);
}

find('#sign-in').addEventListener('submit', (submit) => {
  submit.preventDefault();
  session.signIn(find('#token').value);
  find('#token').value = '';
});
find('#sign-out').addEventListener('click', () => session.signOut());

// ---------------------------------------------------------------------------------------------------------
// How the connection is.

const WORDS = {
  'signed-out': ['Sem token', '--soft-ink'],
  connecting: ['Conectando…', '--wait'],
  recovering: ['Recuperando…', '--wait'],
  live: ['Ao vivo', '--live'],
  away: ['Reconectando…', '--wait'],
  cut: ['Conexão cortada', '--broken'],
  refused: ['Token recusado', '--broken'],
};
const REFUSALS = {
  token_expired: 'O token venceu. Cole um novo.',
  token_revoked: 'O token foi revogado. Entre de novo na sua aplicação e cole o novo.',
  token_missing: 'Falta o token.',
  token_malformed: 'Isto não é um token. Copie o token inteiro e cole de novo.',
  token_signature: 'O token foi assinado com uma chave que o Recado não conhece.',
  token_claim: 'O token não diz de que conta é.',
  token_issuer: 'O token foi emitido por outro serviço.',
  token_audience: 'O token é de outra aplicação.',
  token_too_long: 'Isto é longo demais para um token. Copie só o token e cole de novo.',
};

session.addEventListener('state', () => {
  const { state } = session;
  const [words, colour] = WORDS[state];
  const account = state === 'live' && !session.demo ? `, conta ${session.account}` : '';
  setText(find('#state-text'), words + account);
  find('#state').style.setProperty('--dot', `var(${colour})`);
  const button = find('#line-switch');
  button.hidden = !['live', 'cut', 'away', 'connecting', 'recovering'].includes(state);
  button.setAttribute('aria-checked', String(state !== 'cut'));
  button.setAttribute('aria-disabled', String(!['live', 'cut'].includes(state)));
  find('#sign-out').hidden = session.demo || state === 'signed-out' || state === 'refused';
  const refusal = `O token não foi aceito (${session.refusal}).`;
  setText(find('#sign-in-problem'), state === 'refused' ? (REFUSALS[session.refusal] ?? refusal) : '');
  if (document.body.dataset.ready === 'yes') showTab(wantedTab());
});

find('#line-switch').addEventListener('click', () => {
  if (session.state === 'cut') session.restore();
  else session.cut();
});

const asked = new URLSearchParams(location.search);
try {
  await session.begin({ account: asked.get('conta'), person: asked.get('quem') });
} catch {
  setText(find('#state-text'), 'O Recado não responde. Recarregue a página.');
}
find('#tab-clinica').hidden = !session.demo;
showAccounts();
document.body.dataset.ready = 'yes';
showTab(wantedTab());
