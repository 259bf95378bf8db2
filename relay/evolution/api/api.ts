// The REST side of an Evolution server, of every version. Answers are `unknown` until payloads.ts has read them.
import { setTimeout as delay } from 'node:timers/promises';
import { readBounded } from '../../bounded.ts';
import { RecadoError } from '../../errors.ts';
import { readAddress } from '../payloads/jid.ts';
import { readObject, readText } from '../payloads/scrub.ts';

export type EvolutionErrorCode =
  /** The key is wrong. */
  | 'evolution_unauthorized'
  /** There is no instance of that name. */
  | 'evolution_not_found'
  /** The server understood and will not (a missing licence, a bad request). */
  | 'evolution_refused'
  /** Nobody answers, or the server is in trouble: worth trying again soon. */
  | 'evolution_unreachable';

export class EvolutionError extends RecadoError {
  override readonly name = 'EvolutionError';
  declare readonly code: EvolutionErrorCode;
  /** Status of the answer; null where there was none. */
  readonly status: number | null;
  /** No connection was made, so the server cannot have done what was asked. */
  readonly neverArrived: boolean;

  constructor(code: EvolutionErrorCode, message: string, status: number | null, options?: ErrorOptions) {
    super(code, message, options);
    this.status = status;
    const { code: reason } = (options?.cause as { cause?: { code?: unknown } } | undefined)?.cause ?? {};
    this.neverArrived = NEVER_ARRIVED.has(String(reason));
  }
}

/** What the operating system and fetch say when no connection could be made. */
const NEVER_ARRIVED = new Set([
  'ECONNREFUSED',
  'ENOTFOUND',
  'EAI_AGAIN',
  'EHOSTUNREACH',
  'ENETUNREACH',
  'UND_ERR_CONNECT_TIMEOUT',
]);

export interface MessagePage {
  records: unknown[];
  /** Null where the server does not page: the answer is everything. */
  pages: number | null;
  /** Of all pages; 0 where the server does not page. */
  total: number;
}

/** What is sent to somebody. */
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
  /** Has the server emit every event of the instance. False: websockets are switched off there. */
  subscribe(): Promise<boolean>;
  /** What the server emits of the instance, as text to be compared; always the same where it does not tell. */
  subscription(): Promise<string>;
  chats(skip: number, take: number): Promise<unknown[]>;
  /** Newest first. `from` null: from the beginning. */
  messages(from: Date | null, page: number, size: number): Promise<MessagePage>;
  /** Sends a message, and answers with it. Asked once: a request that broke off may have been sent. */
  send(message: Outgoing): Promise<unknown>;
  markRead(chat: { jid: string; messageIds: readonly string[] }): Promise<void>;
  /** How many messages are dated up to a time; null where the server does not count. */
  countUntil(until: Date): Promise<number | null>;
  /** Every contact the server knows; empty where it does not tell. */
  contacts(): Promise<unknown[]>;
  /** Every group with its subject; empty where the server does not tell. It asks WhatsApp: not to be called often. */
  groups(): Promise<unknown[]>;
  /** The phone's connection and whose it is, as far as the server tells. */
  session(): Promise<{ state: string | null; ownJid: string | null; profileName: string | null }>;
  /** The code to be scanned now; null: none. Only while the state is `connecting`: else the server would connect. */
  qrCode(): Promise<{ code: string; pairingCode: string | null } | null>;
}

export interface ApiOptions {
  host: string;
  instance: string;
  apiKey: string;
  signal: AbortSignal;
  /** For one request; Evolution has no timeouts of its own. */
  timeoutMs?: number;
  /** Attempts at a request that met a server in trouble: it answers 500 for seconds after its start. */
  attempts?: number;
}

// What 1.x and 2.0 want by name; later versions take an empty list for all.
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

/** Of an answer, unpacked. Where the server does not page, it holds all chats at once. */
const MOST_BYTES = 32 * 1024 * 1024;

export function createApi(options: ApiOptions): Api {
  const { instance, apiKey, signal, timeoutMs = 30_000, attempts = 4 } = options;
  const base = options.host.replace(/\/+$/, '');
  const name = encodeURIComponent(instance);
  // 1.x has findChats as GET; found out once.
  let chatsMethod: 'POST' | 'GET' = 'POST';

  /** Neither the key, as it is or as JSON writes it, nor credentials of an address. */
  function masked(text: string): string {
    const spellings = [apiKey, JSON.stringify(apiKey).slice(1, -1)].filter((spelling) => spelling !== '');
    return spellings
      .reduce((rest, spelling) => rest.replaceAll(spelling, '***'), text)
      .replace(/(https?:\/\/)[^\s/@]*@/gi, '$1***@');
  }

  async function once(method: string, path: string, body?: unknown): Promise<unknown> {
    let response: Response;
    try {
      response = await fetch(`${base}${path}`, {
        method,
        headers: { apikey: apiKey, ...(body !== undefined && { 'content-type': 'application/json' }) },
        ...(body !== undefined && { body: JSON.stringify(body) }),
        // A redirect would take the key to another address.
        redirect: 'manual',
        signal: AbortSignal.any([signal, AbortSignal.timeout(timeoutMs)]),
      });
    } catch (error) {
      if (signal.aborted) throw error;
      throw new EvolutionError(
        'evolution_unreachable',
        masked(`no answer from ${base}${path}: ${reasonOf(error)}`),
        null,
        { cause: error },
      );
    }
    let text: string;
    try {
      text = await readBounded(response, MOST_BYTES);
    } catch (error) {
      if (signal.aborted) throw error;
      if (error instanceof RecadoError)
        throw new EvolutionError('evolution_refused', `${path}: ${error.message}`, response.status);
      throw new EvolutionError(
        'evolution_unreachable',
        masked(`the answer of ${path} broke off: ${reasonOf(error)}`),
        response.status,
        { cause: error },
      );
    }
    if (response.ok) return parse(text, path);
    throw refusal(response.status, text, path);
  }

  function refusal(status: number, text: string, path: string): EvolutionError {
    // Before it is cut: half a key is still half a key.
    const said = saidIn(masked(text));
    const sentence = `Evolution answered ${status} to ${path}: ${said}`;
    if (status === 401 || status === 403)
      return new EvolutionError('evolution_unauthorized', sentence, status);
    if (status === 404 && !/^cannot /i.test(said))
      return new EvolutionError('evolution_not_found', sentence, status);
    const isInTrouble = status >= 500 && !/LICENSE/.test(text);
    return new EvolutionError(isInTrouble ? 'evolution_unreachable' : 'evolution_refused', sentence, status);
  }

  async function request(method: string, path: string, body?: unknown): Promise<unknown> {
    for (let attempt = 1; ; attempt++) {
      try {
        return await once(method, path, body);
      } catch (error) {
        const isPassing =
          error instanceof EvolutionError && error.code === 'evolution_unreachable' && error.status !== null;
        if (!isPassing || attempt >= attempts) throw error;
        await delay(200 * 2 ** attempt * (0.5 + Math.random()), undefined, { signal });
      }
    }
  }

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
      // Switched off on the server it answers 201 with nothing.
      const fields = readObject(answer);
      return fields !== null && Object.keys(fields).length > 0;
    },

    async subscription() {
      // What a newer version may not have, but not a key or an instance that is no longer one.
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
      // Evolution heeds the range only when both ends are given. The end lies ahead, so that a clock of ours that
      // is behind leaves nothing out. `offset` is the size of a page.
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
        // 1.x wants the text wrapped. What was refused was not sent.
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
      // By version an instance's own key may ask for itself, or not at all; 1.x answers {instance: {…, owner}}.
      const found = await unlessRefused(request('GET', `/instance/fetchInstances?instanceName=${name}`));
      const rows = Array.isArray(found)
        ? found.map((row) => readObject(readObject(row)?.instance) ?? readObject(row))
        : [];
      const own = rows.find((row) => row?.name === instance || row?.instanceName === instance);
      return {
        state: readText(state?.state),
        ownJid: (readAddress(own?.ownerJid) ?? readAddress(own?.owner))?.jid ?? null,
        profileName: readText(own?.profileName),
      };
    },

    async qrCode() {
      const found = readObject(await unlessRefused(request('GET', `/instance/connect/${name}`)));
      const qr = readObject(found?.qrcode) ?? found;
      const code = readText(qr?.code);
      return code === null ? null : { code, pairingCode: readText(qr?.pairingCode) };
    },
  };
}

/** Null where the server will not say; what is asked here is good to know and no more. */
async function unlessRefused(answer: Promise<unknown>): Promise<unknown> {
  try {
    return await answer;
  } catch (error) {
    if (error instanceof EvolutionError && error.code !== 'evolution_unreachable') return null;
    throw error;
  }
}

function parse(text: string, path: string): unknown {
  if (text.trim() === '') return null;
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new EvolutionError(
      'evolution_unreachable',
      `the answer of ${path} is not JSON; is this an Evolution server?`,
      200,
      { cause: error },
    );
  }
}

// [..], {messages: {records: [..]}}, {messages: [..]}, {records: [..]}: by version.
function listIn(answer: unknown, name: string): unknown[] {
  if (Array.isArray(answer)) return answer;
  const inner = readObject(answer)?.[name];
  const records = readObject(inner)?.records ?? inner ?? readObject(answer)?.records;
  return Array.isArray(records) ? records : [];
}

// {"response": {"message": text | [text] | [[text]]}}, by status.
function saidIn(text: string): string {
  let said = text;
  try {
    const body = readObject(JSON.parse(text));
    const message = readObject(body?.response)?.message ?? body?.message ?? body?.error ?? text;
    said = [message]
      .flat(3)
      .map((part) => (typeof part === 'string' ? part : JSON.stringify(part)))
      .join('; ');
  } catch {
    // A proxy's HTML page: its beginning will do.
  }
  return said.replace(/\s+/g, ' ').slice(0, 300);
}

// fetch says "fetch failed" and puts the reason (refused, unknown host) into `cause`, sometimes only as a code.
function reasonOf(error: unknown): string {
  const fields = error as {
    name?: unknown;
    message?: unknown;
    cause?: { message?: unknown; code?: unknown };
  };
  if (fields.name === 'TimeoutError') return 'it took too long';
  return (
    readText(fields.cause?.message) ??
    readText(fields.cause?.code) ??
    readText(fields.message) ??
    String(error)
  );
}
