// The rows of the sample clinic's lists: what stands in them, and their buttons.
import { element, setText } from '../element.js';

/** Statuses of an appointment. */
export const ARRIVED = 3;
export const SERVING = 4;

const WAITING = 'na fila: o servidor do WhatsApp não responde';

/** Why a reply was not sent. */
const REASONS = {
  sending_not_allowed: 'o envio está desligado para este número',
  send_unsure: 'a conexão caiu; confira no celular',
  send_without_id: 'confira no celular',
  evolution_unauthorized: 'o servidor do WhatsApp não aceita a chave',
  evolution_not_found: 'o servidor do WhatsApp não conhece este número',
};

const BUTTONS = {
  appointment: [
    ['checkin', 'Check-in', 'main'],
    ['call', 'Chamar', 'main'],
    ['finish', 'Finalizar', 'main'],
    ['cancel', 'Cancelar', 'quiet'],
  ],
  doctor: [['deleteDoctor', 'Excluir', 'quiet']],
  chat: [
    ['message', 'Nova mensagem', 'quiet'],
    ['reply', 'Responder', 'quiet'],
    ['read', 'Lida', 'quiet'],
    ['handOver', 'Passar', 'quiet'],
  ],
};

/** What cannot be taken back is asked for twice. */
const CONFIRMED = { deleteDoctor: 'Excluir mesmo?' };

/** Whether the button was asked before; if not, it asks now, for as long as it has the focus. */
function confirmed(button, label, question) {
  if (button.textContent === question) {
    setText(button, label);
    return true;
  }
  const who = button.getAttribute('aria-label').slice(label.length);
  const say = (text) => {
    setText(button, text);
    button.setAttribute('aria-label', text + who);
  };
  say(question);
  button.focus();
  button.addEventListener('blur', () => say(label), { once: true });
  return false;
}

/** What became of a reply. */
export function sendingText(status, reasonCode) {
  const because = REASONS[reasonCode] ?? 'o servidor recusou';
  return { QUEUED: WAITING, SENDING: 'enviando…', FAILED: `não enviada: ${because}` }[status] ?? '';
}

function fill(row, { mark, name, detail, tag }) {
  setText(row.querySelector('.mark'), mark);
  setText(row.querySelector('.who'), name);
  setText(row.querySelector('.detail'), detail);
  setText(row.querySelector('.tag'), tag);
  row.querySelector('.tag').hidden = tag === '';
}

/** Which buttons a row has now; each says for whom it is. */
function label(row, name, shown) {
  for (const button of row.querySelectorAll('button')) {
    button.hidden = !shown.includes(button.dataset.does);
    button.setAttribute('aria-label', `${button.textContent}: ${name}`);
  }
}

export function light(row) {
  row.classList.add('fresh');
  row.addEventListener('animationend', () => row.classList.remove('fresh'), { once: true });
}

function initials(name) {
  // Not of numbers, titles and signs.
  const words = name.replace(/^(Dra?\.)\s+/i, '').match(/\p{L}+/gu) ?? ['#'];
  return [words[0], words.length > 1 ? words.at(-1) : '']
    .map((word) => [...word][0] ?? '')
    .join('')
    .toUpperCase();
}

/** @param {(action: string, row: Element, title: string) => void} act called for a click on a button */
export function makeRow(kind, act) {
  const buttons = BUTTONS[kind].map(([action, label, look]) =>
    element(
      'button',
      {
        type: 'button',
        class: look,
        'data-does': action,
        onclick: ({ currentTarget: button }) => {
          if (action in CONFIRMED && !confirmed(button, label, CONFIRMED[action])) return;
          act(action, button.closest('li'), button.getAttribute('aria-label'));
        },
      },
      label,
    ),
  );
  return element(
    'li',
    { class: `row flow ${kind}` },
    element('span', { class: 'mark muted strong', 'aria-hidden': 'true' }),
    element(
      'div',
      { class: 'what' },
      element(
        'p',
        { class: 'flow' },
        element('span', { class: 'who strong' }),
        element('span', { class: kind === 'chat' ? 'tag main' : 'tag dot' }),
      ),
      element('p', { class: 'detail muted small breaks' }),
      element('p', { class: 'waiting-note small strong' }),
    ),
    element('div', { class: 'buttons flow' }, buttons),
  );
}

export function fillAppointment(row, { startTime, patient, doctor, status, appointmentProcedures }) {
  const name = patient?.name ?? 'Sem paciente';
  const detail = [appointmentProcedures?.procedure?.name, doctor?.name ?? 'sem médico']
    .filter(Boolean)
    .join(' · ');
  // The heading above says the other statuses.
  const tag = [SERVING, ARRIVED].includes(status?.id) ? '' : (status?.name ?? '');
  fill(row, { mark: startTime, name, detail, tag });
  row.querySelector('.tag').style.setProperty('--dot', status?.color ?? 'transparent');
  const next = { [SERVING]: 'finish', [ARRIVED]: 'call' }[status?.id] ?? 'checkin';
  label(row, name, [next, 'cancel']);
}

export function fillDoctor(row, { name, isBusy }) {
  fill(row, { mark: initials(name), name, detail: '', tag: isBusy ? 'Ocupado' : 'Livre' });
  row.querySelector('.tag').style.setProperty('--dot', `var(${isBusy ? '--wait' : '--live'})`);
  label(row, name, ['deleteDoctor']);
}

/** Attendants of the samples, as a token names them. */
const NAMES = { ana: 'Ana', bruno: 'Bruno' };

export function fillChat(row, { contactName, lastMessage, unreadCount, instanceName, sending, attendant }) {
  const unread = unreadCount === 0 ? '' : `${unreadCount} ${unreadCount === 1 ? 'não lida' : 'não lidas'}`;
  fill(row, {
    mark: initials(contactName),
    name: contactName,
    detail: [NAMES[attendant], sending || (lastMessage ?? 'Sem mensagens')].filter(Boolean).join(' · '),
    tag: unread,
  });
  const next = attendant === 'ana' ? NAMES.bruno : NAMES.ana;
  setText(row.querySelector('[data-does=handOver]'), `Passar a ${next}`);
  // A chat of an instance is written to; the others are only samples.
  const write = instanceName === null ? 'message' : 'reply';
  label(row, contactName, unreadCount > 0 ? [write, 'read', 'handOver'] : [write, 'handOver']);
}
