// The sample clinic. A button has something written and changes nothing here: what is on the list comes from the
// load, and then from events alone.
import { announce, element, keepingFocus, painted, setText, showList } from './element.js';
import { Journey } from './journey.js';

const ARRIVED = 3;
const SERVING = 4;

export class Clinic {
  #session;
  #journey;
  #root = document.querySelector('#clinica');
  #appointments = new Map();
  #doctors = new Map();
  #chats = new Map();
  /** Rows that just changed, to be lit up once. */
  #fresh = new Set();

  constructor(session) {
    this.#session = session;
    this.#journey = new Journey(session, () => this.#show());
    session.addEventListener('clinic', ({ detail }) => this.#load(detail));
    session.addEventListener('arrival', ({ detail }) => this.#hear(detail));
    session.addEventListener('state', () => this.#showBanner());
    for (const button of this.#root.querySelectorAll('[data-action]')) {
      button.addEventListener('click', () => this.#act(button.dataset.action, null, button.textContent));
    }
  }

  #load({ appointments, doctors, chats }) {
    const byId = (items) => new Map(items.map((item) => [item.id, item]));
    this.#appointments = byId(appointments);
    this.#doctors = byId(doctors);
    this.#chats = byId(chats);
    this.#journey.clear(`update doctors set "deletedAt" = now() where id = ${doctors.at(-1)?.id ?? 123}`);
    this.#show();
  }

  async #act(action, key, title) {
    const id = key === null ? null : Number(key.split('-')[1]);
    await this.#journey.act({ action, id, key, title });
    this.#showBanner();
  }

  #hear(arrival) {
    if (!this.#session.demo) return;
    const { event, payload } = arrival;
    const news = this.#changes[event]?.(payload);
    this.#journey.hear(arrival);
    if (news) {
      announce(arrival.recovered ? `Recuperado: ${news}` : news);
      this.#show();
    }
    painted().then(() => this.#journey.shown(arrival, Date.now()));
  }

  /** What each event does to the lists, and how it is told. */
  #changes = {
    'appointments.checkin': (appointment) => this.#setAppointment(appointment, 'chegou'),
    'appointments.serving': (appointment) => this.#setAppointment(appointment, 'entrou em atendimento'),
    'appointmnents.finished': ({ id, patient, status }) => {
      this.#appointments.delete(id);
      return `${patient?.name ?? 'Agendamento'}: ${(status?.name ?? 'finalizado').toLowerCase()}`;
    },
    'doctors.created': (doctor) => this.#setDoctor(doctor, 'entrou na lista'),
    'doctors.updated': (doctor) => this.#setDoctor(doctor, 'foi alterado'),
    'doctors.deleted': (id) => {
      const name = this.#doctors.get(id)?.name;
      this.#doctors.delete(id);
      return `${name ?? 'Médico'} saiu da lista`;
    },
    'doctors.busy': ({ id, isBusy }) => {
      const doctor = this.#doctors.get(id);
      return doctor && this.#setDoctor({ ...doctor, isBusy }, isBusy ? 'está em atendimento' : 'está livre');
    },
    'chat:new': (chat) =>
      this.#setChat({ lastMessage: null, ...this.#chats.get(chat.id), ...chat }, 'nova conversa'),
    'chat:message': ({ chatId, message }) => {
      const chat = this.#chats.get(chatId);
      const { content: lastMessage, sentAt: lastMessageAt } = message;
      return chat && this.#setChat({ ...chat, lastMessage, lastMessageAt }, `mensagem: ${lastMessage}`);
    },
    'chat:update': ({ chatId, updates }) => {
      const chat = this.#chats.get(chatId);
      return (
        chat && this.#setChat({ ...chat, ...updates }, `${updates.unreadCount ?? chat.unreadCount} não lidas`)
      );
    },
    'message:outgoing': ({ chatId, status, reasonCode }) => {
      const chat = this.#chats.get(chatId);
      const because = REASONS[reasonCode] ?? 'o servidor recusou';
      const sending =
        { QUEUED: WAITING, SENDING: 'enviando…', FAILED: `não enviada: ${because}` }[status] ?? '';
      return chat && this.#setChat({ ...chat, sending }, sending || 'mensagem enviada');
    },
    // The Cloud API takes a message and says later that it could not deliver it.
    'message:status': ({ chatId, status }) => {
      const chat = this.#chats.get(chatId);
      const sending = 'não entregue';
      return status === 'FAILED' && chat && this.#setChat({ ...chat, sending }, sending);
    },
    // The session loads the lists again.
    'chat:synced': ({ instanceName, chats }) => `${instanceName}: ${chats} conversas carregadas`,
    'chat:merged': ({ chatId }) => {
      this.#chats.delete(chatId);
      return 'Duas conversas viraram uma';
    },
  };

  #setAppointment(appointment, news) {
    this.#appointments.set(appointment.id, appointment);
    this.#fresh.add(`appointment-${appointment.id}`);
    return `${appointment.patient?.name ?? 'Paciente'} ${news}`;
  }

  #setDoctor(doctor, news) {
    this.#doctors.set(doctor.id, doctor);
    this.#fresh.add(`doctor-${doctor.id}`);
    return `${doctor.name} ${news}`;
  }

  #setChat(chat, news) {
    this.#chats.set(chat.id, chat);
    this.#fresh.add(`chat-${chat.id}`);
    return `${chat.contactName}: ${news}`;
  }

  // ---------------------------------------------------------------------------------------------------------

  #show() {
    const appointments = [...this.#appointments.values()].sort(
      (a, b) => a.startTime.localeCompare(b.startTime) || a.id - b.id,
    );
    const groups = {
      serving: appointments.filter(({ status }) => status?.id === SERVING),
      arrived: appointments.filter(({ status }) => status?.id === ARRIVED),
      expected: appointments.filter(({ status }) => ![SERVING, ARRIVED].includes(status?.id)),
    };
    const doctors = [...this.#doctors.values()].sort(
      (a, b) => a.name.localeCompare(b.name, 'pt-BR') || a.id - b.id,
    );
    const chats = [...this.#chats.values()].sort((a, b) =>
      String(b.lastMessageAt ?? '').localeCompare(String(a.lastMessageAt ?? '')),
    );
    keepingFocus(this.#root, () => {
      for (const [id, group] of Object.entries(groups)) {
        this.#showRows(id, group, 'appointment', (row, item) => this.#fillAppointment(row, item));
        setText(document.querySelector(`#${id}-count`), String(group.length));
      }
      this.#showRows('doctors', doctors, 'doctor', (row, item) => this.#fillDoctor(row, item));
      this.#showRows('chats', chats, 'chat', (row, item) => this.#fillChat(row, item));
    });
    this.#fresh.clear();
    this.#showBanner();
  }

  #showRows(id, items, kind, fill) {
    const key = (item) => `${kind}-${item.id}`;
    showList(document.querySelector(`#${id}`), items, {
      key,
      make: (item) => this.#makeRow(kind, key(item)),
      update: (row, item) => {
        fill(row, item);
        const waits = this.#journey.waitsFor(key(item));
        row.classList.toggle('waits', waits);
        setText(row.querySelector('.waiting-note'), waits ? 'Gravado; esperando o evento' : '');
        if (this.#fresh.has(key(item))) light(row);
      },
    });
  }

  #makeRow(kind, key) {
    const buttons = BUTTONS[kind].map(([action, label, look]) =>
      element(
        'button',
        {
          type: 'button',
          class: look,
          'data-does': action,
          onclick: ({ currentTarget }) => this.#act(action, key, currentTarget.getAttribute('aria-label')),
        },
        label,
      ),
    );
    return element(
      'li',
      { class: `row ${kind}` },
      element('span', { class: 'mark', 'aria-hidden': 'true' }),
      element(
        'div',
        { class: 'what' },
        element('p', { class: 'name' }, element('span', { class: 'who' }), element('span', { class: 'tag' })),
        element('p', { class: 'detail' }),
        element('p', { class: 'waiting-note' }),
      ),
      element('div', { class: 'buttons' }, buttons),
    );
  }

  #fillAppointment(row, { startTime, patient, doctor, status, appointmentProcedures }) {
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

  #fillDoctor(row, { name, isBusy }) {
    fill(row, { mark: initials(name), name, detail: '', tag: isBusy ? 'Ocupado' : 'Livre' });
    row.querySelector('.tag').style.setProperty('--dot', isBusy ? '#e0a100' : '#2a9d5c');
    label(row, name, ['deleteDoctor']);
  }

  #fillChat(row, { contactName, lastMessage, unreadCount, instanceName, sending }) {
    const unread = unreadCount === 0 ? '' : `${unreadCount} ${unreadCount === 1 ? 'não lida' : 'não lidas'}`;
    fill(row, {
      mark: initials(contactName),
      name: contactName,
      detail: sending || (lastMessage ?? 'Sem mensagens'),
      tag: unread,
    });
    row.classList.toggle('unread', unreadCount > 0);
    // A chat of an instance is written to; the others are only samples.
    const write = instanceName === null ? 'message' : 'reply';
    label(row, contactName, unreadCount > 0 ? [write, 'read'] : [write]);
  }

  #showBanner() {
    const banner = document.querySelector('#cut-banner');
    const { state } = this.#session;
    const waiting = this.#journey.waiting;
    banner.hidden = !['cut', 'away'].includes(state);
    const because = state === 'cut' ? 'Conexão cortada' : 'Sem conexão';
    setText(banner, banner.hidden ? '' : `${because}: a lista parou. ${promise(state, waiting)}`);
  }
}

/** What a click does while the list stands still. With the connection cut by the switch the relay still answers. */
function promise(state, waiting) {
  if (waiting === 1) return '1 gravação já está no banco e espera; chega na volta.';
  if (waiting > 1) return `${waiting} gravações já estão no banco e esperam; chegam na volta.`;
  if (state === 'cut') return 'Os botões continuam gravando; nada se perde, chega tudo na volta.';
  return 'O que já foi gravado chega na volta. Enquanto o Recado não responde, os botões não gravam.';
}

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
  doctor: [['deleteDoctor', 'Excluir', 'quiet danger']],
  chat: [
    ['message', 'Nova mensagem', 'quiet'],
    ['reply', 'Responder', 'quiet'],
    ['read', 'Lida', 'quiet'],
  ],
};

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

function light(row) {
  row.classList.add('fresh');
  row.addEventListener('animationend', () => row.classList.remove('fresh'), { once: true });
}

function initials(name) {
  const words = name.replace(/^(Dra?\.)\s+/i, '').split(/\s+/);
  return [words[0], words.length > 1 ? words.at(-1) : '']
    .map((word) => [...word][0] ?? '')
    .join('')
    .toUpperCase();
}
