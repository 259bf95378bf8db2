// The REST side of an Evolution server, of every version. Answers are `unknown` until payloads.ts has read them.

import { readObject, readText } from '../payloads/field.ts';
import { readAddress } from '../payloads/jid.ts';
import { createRequests, EvolutionError, type RequestOptions } from './request.ts';

export interface MessagePage {
  records: unknown[];
  /** Null where the server does not page: the answer is everything. */
  pages: number | null;
  /** Of all pages; 0 where the server does not page. */
  total: number;
}

/** A message to be sent. */
export interface Outgoing {
  /** Where it goes: an address of WhatsApp, or a phone number. */
  readonly to: string;
  readonly text: string;
  readonly media: OutgoingMedia | null;
  readonly quotedMessageId: string | null;
}

export interface OutgoingMedia {
  readonly kind: 'image' | 'video' | 'audio' | 'document';
  readonly url: string;
  readonly mimetype?: string;
  readonly fileName?: string;
}

export interface Api {
  /** Makes the server emit every event of the instance. False: websockets are switched off there. */
  subscribe(): Promise<boolean>;
  /** What the server emits of the instance, as text to be compared; constant where the server does not say. */
  subscription(): Promise<string>;
  chats(skip: number, take: number): Promise<unknown[]>;
  /** Newest first. `from` null: from the beginning. */
  messages(from: Date | null, page: number, size: number): Promise<MessagePage>;
  /** Sends a message, and returns it. Never repeated: a request that broke off may have been sent. */
  send(message: Outgoing): Promise<unknown>;
  markRead(chat: { jid: string; messageIds: readonly string[] }): Promise<void>;
  /** How many messages are dated up to a time; null where the server does not count. */
  countUntil(until: Date): Promise<number | null>;
  /** Every contact the server knows; empty where it does not say. */
  contacts(): Promise<unknown[]>;
  /** Every group with its subject; empty where the server does not say. The server asks WhatsApp: call it rarely. */
  groups(): Promise<unknown[]>;
  /** The phone's connection and whose it is, as far as the server says. */
  session(): Promise<Session>;
  /** The server's version; null where it does not say. */
  version(): Promise<string | null>;
  /** The code to scan now, or null. Only for the state `connecting`: in another, asking makes the server connect. */
  qrCode(): Promise<{ code: string; pairingCode: string | null } | null>;
}

export interface Session {
  state: string | null;
  ownJid: string | null;
  profileName: string | null;
  /** Changes when the instance is deleted and created again. */
  serverId: string | null;
}

// 1.x and 2.0 need every event by name. To later versions an empty list means all.
const EVENTS = [
  'MESSAGES_SET',
  'MESSAGES_UPSERT',
  'MESSAGES_EDITED',
  'MESSAGES_UPDATE',
  'MESSAGES_DELETE',
  'SEND_MESSAGE',
  'CONTACTS_SET',
  'CONTACTS_UPSERT',
  'CONTACTS_UPDATE',
  'CHATS_SET',
  'CHATS_UPSERT',
  'CHATS_UPDATE',
  'CHATS_DELETE',
  'GROUPS_UPSERT',
  'GROUP_UPDATE',
  'CONNECTION_UPDATE',
  'QRCODE_UPDATED',
];
// 1.x refuses a list with a name it does not know.
const EVENTS_OF_1 = EVENTS.filter((name) => name !== 'MESSAGES_EDITED');

export interface ApiOptions extends RequestOptions {
  instance: string;
}

export function createApi({ instance, ...options }: ApiOptions): Api {
  const { once, request } = createRequests(options);
  const name = encodeURIComponent(instance);
  // 1.x has findChats as GET. Remembered after the first answer.
  let chatsMethod: 'POST' | 'GET' = 'POST';

  return {
    async subscribe() {
      const path = `/websocket/set/${name}`;
      let answer: unknown;
      try {
        answer = await request('POST', path, { websocket: { enabled: true, events: [] } });
      } catch (error) {
        // 1.x and 2.0 take a flat body.
        if (!(error instanceof EvolutionError) || error.status !== 400) throw error;
        try {
          answer = await request('POST', path, { enabled: true, events: EVENTS });
        } catch (again) {
          if (!(again instanceof EvolutionError) || again.status !== 400) throw again;
          answer = await request('POST', path, { enabled: true, events: EVENTS_OF_1 });
        }
      }
      // With websockets switched off the server answers 201 with nothing.
      const fields = readObject(answer);
      return fields !== null && Object.keys(fields).length > 0;
    },

    async subscription() {
      // A newer version may lack the route. A refused key or a missing instance is still an error.
      const found = readObject(
        await request('GET', `/websocket/find/${name}`).catch((error: unknown) => {
          if (error instanceof EvolutionError && error.code === 'evolution_refused') return null;
          throw error;
        }),
      );
      const { enabled, events } = found ?? {};
      return JSON.stringify([enabled, Array.isArray(events) ? events.map(String).sort() : events]);
    },

    async chats(skip, take) {
      const path = `/chat/findChats/${name}`;
      if (chatsMethod === 'GET') return skip > 0 ? [] : listIn(await request('GET', path), 'chats');
      try {
        return listIn(await request('POST', path, { take, skip }), 'chats');
      } catch (error) {
        const isMissing =
          error instanceof EvolutionError &&
          (error.status === 405 || (error.status === 404 && error.code === 'evolution_refused'));
        if (!isMissing) throw error;
        chatsMethod = 'GET';
        return listIn(await request('GET', path), 'chats');
      }
    },

    async messages(from, page, size) {
      // Evolution uses the range only when both ends are given. The end is a day ahead, in case our clock is slow.
      // `offset` is the size of a page.
      const range = { gte: from?.toISOString(), lte: new Date(Date.now() + 86_400_000).toISOString() };
      const where = from === null ? {} : { messageTimestamp: range };
      const answer = await request('POST', `/chat/findMessages/${name}`, { where, page, offset: size });
      const { pages, total } = readObject(readObject(answer)?.messages) ?? {};
      return {
        records: listIn(answer, 'messages'),
        pages: typeof pages === 'number' ? pages : null,
        total: typeof total === 'number' ? total : 0,
      };
    },

    async send({ to: number, text, media, quotedMessageId }) {
      const quoted = quotedMessageId === null ? {} : { quoted: { key: { id: quotedMessageId } } };
      if (media !== null) {
        const { kind, url, mimetype, fileName } = media;
        const file = { mediatype: kind, media: url, mimetype, fileName, caption: text };
        return once('POST', `/message/sendMedia/${name}`, { number, ...file, ...quoted });
      }
      try {
        return await once('POST', `/message/sendText/${name}`, { number, text, ...quoted });
      } catch (error) {
        // 1.x wants the text wrapped. A refused message was not sent, so this sends it once.
        if (!(error instanceof EvolutionError) || error.status !== 400) throw error;
        return await once('POST', `/message/sendText/${name}`, { number, textMessage: { text } }).catch(
          () => {
            throw error;
          },
        );
      }
    },

    async markRead({ jid, messageIds }) {
      const readMessages = messageIds.map((id) => ({ remoteJid: jid, fromMe: false, id }));
      await request('POST', `/chat/markMessageAsRead/${name}`, { readMessages });
    },

    async countUntil(until) {
      const range = { gte: new Date(0).toISOString(), lte: until.toISOString() };
      const answer = await request('POST', `/chat/findMessages/${name}`, {
        where: { messageTimestamp: range },
        page: 1,
        offset: 1,
      });
      const total = readObject(readObject(answer)?.messages)?.total;
      return typeof total === 'number' ? total : null;
    },

    async contacts() {
      return listIn(
        await unlessRefused(request('POST', `/chat/findContacts/${name}`, { where: {} })),
        'contacts',
      );
    },

    async groups() {
      const path = `/group/fetchAllGroups/${name}?getParticipants=false`;
      return listIn(await unlessRefused(request('GET', path)), 'groups');
    },

    async session() {
      const state = readObject(
        readObject(await unlessRefused(request('GET', `/instance/connectionState/${name}`)))?.instance,
      );
      // By version an instance's key can fetch that instance, or nothing. 1.x answers {instance: {…, owner}}.
      const found = await unlessRefused(request('GET', `/instance/fetchInstances?instanceName=${name}`));
      const rows = Array.isArray(found)
        ? found.map((row) => readObject(readObject(row)?.instance) ?? readObject(row))
        : [];
      const own = rows.find((row) => row?.name === instance || row?.instanceName === instance);
      return {
        state: readText(state?.state),
        ownJid: (readAddress(own?.ownerJid) ?? readAddress(own?.owner))?.jid ?? null,
        profileName: readText(own?.profileName),
        serverId: readText(own?.id) ?? readText(own?.instanceId),
      };
    },

    async version() {
      return readText(readObject(await unlessRefused(request('GET', '/')))?.version);
    },

    async qrCode() {
      const found = readObject(await unlessRefused(request('GET', `/instance/connect/${name}`)));
      const qr = readObject(found?.qrcode) ?? found;
      const code = readText(qr?.code);
      return code === null ? null : { code, pairingCode: readText(qr?.pairingCode) };
    },
  };
}

/** Null where the server refuses. Only for answers that the worker can do without. */
async function unlessRefused(answer: Promise<unknown>): Promise<unknown> {
  try {
    return await answer;
  } catch (error) {
    if (error instanceof EvolutionError && error.code !== 'evolution_unreachable') return null;
    throw error;
  }
}

// [..], {messages: {records: [..]}}, {messages: [..]}, {records: [..]}: by version.
function listIn(answer: unknown, name: string): unknown[] {
  if (Array.isArray(answer)) return answer;
  const inner = readObject(answer)?.[name];
  const records = readObject(inner)?.records ?? inner ?? readObject(answer)?.records;
  return Array.isArray(records) ? records : [];
}
