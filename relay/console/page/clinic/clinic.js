// The sample clinic. A button has something written and changes nothing here: what is on the list comes from the
// load, and then from events alone.

import { announce, keepingFocus, setText, showList } from '../element.js';
import { afterPaint, perFrame } from '../frames.js';
import {
  ARRIVED,
  fillAppointment,
  fillChat,
  fillDoctor,
  light,
  makeRow,
  SERVING,
  sendingText,
} from './rows.js';
import { Timeline } from './timeline.js';

/** Rows of a list that are shown at once. */
const PAGE = 20;

export class Clinic {
  #session;
  #timeline;
  #root = document.querySelector('#clinica');
  #appointments = new Map();
  #doctors = new Map();
  #chats = new Map();
  /** Rows that just changed, to be lit up once. */
  #fresh = new Set();
  /** Arrived since the last frame. */
  #arrived = [];
  #news = '';
  #chatsShown = PAGE;
  #search = document.querySelector('#chats-search');
  #show = perFrame(() => this.#showNow());
  /** In the frame after: under load each of the two has a frame of its own. */
  #tell = perFrame(() => this.#tellNow());

  constructor(session) {
    this.#session = session;
    this.#timeline = new Timeline(session, () => this.#show());
    this.#search.addEventListener('input', () => {
      this.#chatsShown = PAGE;
      this.#show();
    });
    document.querySelector('#chats-more').addEventListener('click', () => {
      this.#chatsShown += PAGE;
      this.#show();
    });
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
    // What one viewer heard is not announced to the next.
    this.#fresh.clear();
    this.#news = '';
    announce('');
    this.#timeline.clear(`update doctors set "deletedAt" = now() where id = ${doctors.at(-1)?.id ?? 123}`);
    this.#show();
  }

  async #act(action, key, title) {
    const id = key === null ? null : Number(key.split('-')[1]);
    await this.#timeline.act({ action, id, key, title });
    this.#showBanner();
  }

  #hear(arrival) {
    if (!this.#session.demo) return;
    const { event, payload } = arrival;
    const news = this.#changes[event]?.(payload);
    this.#timeline.hear(arrival);
    if (news) this.#news = arrival.recovered ? `Recuperado: ${news}` : news;
    this.#arrived.push(arrival);
    this.#show();
  }

  shown(shown) {
    if (shown) this.#show();
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
    'chat:assigned': (chat) => this.#setChat(chat, 'passou a outra pessoa'),
    'chat:released': ({ chatId }) => {
      const name = this.#chats.get(chatId)?.contactName;
      this.#chats.delete(chatId);
      return `${name ?? 'Conversa'}: agora é de outra pessoa`;
    },
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
      const sending = sendingText(status, reasonCode);
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

  #showNow() {
    const arrived = this.#arrived.splice(0);
    if (arrived.length > 0) {
      afterPaint(() => {
        for (const arrival of arrived) this.#timeline.shown(arrival, Date.now());
      });
    }
    if (!this.#root.hidden) this.#showLists();
    this.#fresh.clear();
    this.#showBanner();
    this.#tell();
  }

  #tellNow() {
    this.#timeline.showForeign();
    if (this.#news) announce(this.#news);
    this.#news = '';
  }

  #showLists() {
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
    const wanted = this.#search.value.trim().toLowerCase();
    const chats = [...this.#chats.values()]
      .filter(({ contactName }) => contactName.toLowerCase().includes(wanted))
      .sort((a, b) => compare(String(b.lastMessageAt ?? ''), String(a.lastMessageAt ?? '')));
    document.querySelector('#chats-tools').hidden = this.#chats.size <= PAGE;
    const more = document.querySelector('#chats-more');
    more.hidden = chats.length <= this.#chatsShown;
    setText(more, `Mostrar mais (${chats.length - this.#chatsShown})`);
    keepingFocus(this.#root, () => {
      for (const [id, group] of Object.entries(groups)) {
        this.#showRows(id, group, 'appointment', fillAppointment);
        setText(document.querySelector(`#${id}-count`), String(group.length));
      }
      this.#showRows('doctors', doctors, 'doctor', fillDoctor);
      this.#showRows('chats', chats.slice(0, this.#chatsShown), 'chat', fillChat);
    });
  }

  #showRows(id, items, kind, fill) {
    const key = (item) => `${kind}-${item.id}`;
    showList(document.querySelector(`#${id}`), items, {
      key,
      make: () => makeRow(kind, (action, row, title) => this.#act(action, row.dataset.key, title)),
      update: (row, item) => {
        const waits = this.#timeline.waitsFor(key(item));
        // An item that changed is another object.
        if (row.item === item && row.waits === waits) return;
        Object.assign(row, { item, waits });
        fill(row, item);
        setText(row.querySelector('.waiting-note'), waits ? 'Gravado; esperando o evento' : '');
        if (this.#fresh.has(key(item))) light(row);
      },
    });
  }

  #showBanner() {
    const banner = document.querySelector('#cut-banner');
    const { state } = this.#session;
    const waiting = this.#timeline.waiting;
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

function compare(a, b) {
  if (a === b) return 0;
  return a < b ? -1 : 1;
}
