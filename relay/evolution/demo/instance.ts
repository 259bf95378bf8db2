// An instance of the development server: what its database would hold, and what WhatsApp would tell it.
import { randomBytes, randomUUID } from 'node:crypto';

export type Fields = Record<string, unknown>;

/** The value's fields; none if it is no object. */
export function fieldsIn(value: unknown): Fields {
  return isFields(value) ? value : {};
}

function isFields(value: unknown): value is Fields {
  return typeof value === 'object' && value !== null;
}

export interface StoredMessage extends Fields {
  key: { id: string; remoteJid: string; fromMe: boolean } & Fields;
  messageTimestamp: number;
}

export interface FakeInstance {
  readonly name: string;
  /** Another id after the instance is created again. */
  readonly id: string;
  readonly token: string;
  /** Emits an envelope, as the server does when WhatsApp tells it something. */
  emit(event: string, data: unknown): void;
  /** Stores a message and emits messages.upsert; `silent` only stores (nobody was listening). */
  message(message: Partial<StoredMessage> & { text?: string; jid?: string }, silent?: boolean): StoredMessage;
  /** Rows of the REST answers, to be changed by a test as it likes. */
  readonly chats: Fields[];
  readonly messages: StoredMessage[];
  subscribed: boolean;
  /** Events the server emits, as written in its settings; empty: all. */
  events: string[];
  /** The code to be scanned; GET /instance/connect answers with it while the state is connecting. */
  qrCode: string | null;
  profileName: string | null;
  /** What a request to send meets: the connection breaks before or after the message is stored; null: nothing. */
  sendFault: (() => 'before' | 'after' | null) | null;
  /** Told which page of messages is asked for, before it is answered. */
  beforePage: ((page: number) => void) | null;
  /** Ids of messages that were marked read. */
  readonly markedRead: string[];
  readonly contacts: Fields[];
  readonly groups: Fields[];
  /** WhatsApp's connection, as the last connection.update had it. */
  state: string;
}

export function createInstance(
  name: string,
  token: string,
  emit: (instance: FakeInstance, event: string, data: unknown) => void,
): FakeInstance {
  const instance: FakeInstance = {
    name,
    id: randomUUID(),
    token,
    chats: [],
    messages: [],
    subscribed: false,
    events: [],
    qrCode: null,
    profileName: null,
    sendFault: null,
    beforePage: null,
    markedRead: [],
    contacts: [],
    groups: [],
    state: 'open',
    emit(event, data) {
      if (event === 'connection.update') instance.state = String(fieldsIn(data).state);
      emit(instance, event, data);
    },
    message({ text = 'oi', jid = '5511999990000@s.whatsapp.net', ...given }, silent = false) {
      const message: StoredMessage = {
        pushName: null,
        status: 'DELIVERY_ACK',
        message: { conversation: text },
        messageType: 'conversation',
        messageTimestamp: Math.floor(Date.now() / 1000),
        instanceId: name,
        source: 'android',
        ...given,
        key: {
          id: randomBytes(10).toString('hex').toUpperCase(),
          remoteJid: jid,
          fromMe: false,
          ...given.key,
        },
      };
      const stored: StoredMessage = {
        id: `c${randomBytes(8).toString('hex')}`,
        ...message,
        MessageUpdate: [],
      };
      delete stored.status;
      instance.messages.push(stored);
      const updatedAt = new Date(message.messageTimestamp * 1000).toISOString();
      const chat = instance.chats.find((c) => c.remoteJid === message.key.remoteJid);
      if (chat === undefined) {
        instance.chats.push({
          id: `c${randomBytes(8).toString('hex')}`,
          remoteJid: message.key.remoteJid,
          pushName: message.pushName ?? null,
          profilePicUrl: null,
          updatedAt,
          lastMessage: message,
          unreadCount: 0,
          isSaved: true,
        });
      } else if (String(chat.updatedAt) <= updatedAt)
        Object.assign(chat, { updatedAt, lastMessage: message });
      if (!silent) emit(instance, 'messages.upsert', message);
      return message;
    },
  };
  return instance;
}

// Sorting is Evolution's database's work; here it is done again only when something was added.
const sorted = new WeakMap<StoredMessage[], { length: number; list: StoredMessage[] }>();

export function newestFirst(messages: StoredMessage[]): StoredMessage[] {
  let known = sorted.get(messages);
  if (known?.length !== messages.length) {
    known = {
      length: messages.length,
      list: [...messages].sort((a, b) => b.messageTimestamp - a.messageTimestamp),
    };
    sorted.set(messages, known);
  }
  return known.list;
}
