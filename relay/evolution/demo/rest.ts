// The REST answers of the development server about one instance.
import { randomBytes } from 'node:crypto';
import { type FakeInstance, type Fields, fieldsIn, newestFirst } from './instance.ts';

export type Version = '1' | '2' | '2.2';
export const VERSIONS: Record<Version, string> = { '1': '1.8.2', '2': '2.3.7', '2.2': '2.2.3' };

export interface Question {
  instance: FakeInstance;
  body: Fields;
  version: Version;
  /** The server's own switch for websockets. */
  websocket: boolean;
}

/** `null`: the connection breaks instead. */
export type Answer = { status: number; body: unknown } | null;

const ok = (body: unknown, status = 200): Answer => ({ status, body });

function badRequest(...message: unknown[]): Answer {
  return ok({ status: 400, error: 'Bad Request', response: { message } }, 400);
}

/** By method, area and action; undefined: there is no such route, or not in this version. */
export const ANSWERS: Record<string, ((question: Question) => Answer | undefined) | undefined> = {
  'GET /instance/connectionState': ({ instance }) =>
    ok({ instance: { instanceName: instance.name, state: instance.state } }),

  'GET /instance/connect': ({ instance }) =>
    instance.state === 'connecting'
      ? ok({ pairingCode: null, code: instance.qrCode, base64: 'data:image/png;base64,AAAA', count: 1 })
      : ok({ instance: { instanceName: instance.name, state: instance.state } }),

  'POST /message/sendText': (question) => {
    const { body, version } = question;
    if (version === '1' && body.text !== undefined)
      return badRequest(['instance requires property "textMessage"']);
    const text = body.text ?? fieldsIn(body.textMessage).text;
    return send(question, { conversation: text });
  },

  'POST /message/sendMedia': (question) => {
    const { mediatype, caption, media: url, mimetype } = question.body;
    return send(question, { [`${String(mediatype)}Message`]: { caption, url, mimetype } });
  },

  'POST /chat/markMessageAsRead': ({ instance, body }) => {
    const read: unknown[] = Array.isArray(body.readMessages) ? body.readMessages : [];
    instance.markedRead.push(...read.map((item) => String(fieldsIn(item).id)));
    return ok({ message: 'Read messages', read: 'success' }, 201);
  },

  'POST /chat/findContacts': ({ instance }) => ok(instance.contacts),

  'GET /group/fetchAllGroups': ({ instance }) => ok(instance.groups),

  // Before websockets were ever set, the server answers null.
  'GET /websocket/find': ({ instance }) =>
    ok(instance.subscribed ? { enabled: true, events: instance.events } : 'null'),

  'POST /websocket/set': ({ instance, body, version, websocket }) => {
    const wanted = version === '1' ? body : fieldsIn(body.websocket);
    if (typeof wanted.enabled !== 'boolean') return badRequest(['instance requires property "websocket"']);
    if (!Array.isArray(wanted.events)) return ok({ status: 500, error: 'Internal Server Error' }, 500);
    if (!websocket) return ok('', 201);
    instance.subscribed = wanted.enabled;
    instance.events = wanted.events.map(String);
    const { enabled, events } = wanted;
    return ok({ id: 'ckws', enabled, events, instanceId: instance.name }, 201);
  },

  'GET /chat/findChats': ({ instance, version }) =>
    version === '1' ? ok(instance.chats.map((c) => ({ id: c.remoteJid }))) : undefined,

  'POST /chat/findChats': ({ instance, body, version }) => {
    if (version === '1') return undefined;
    const skip = Number(body.skip ?? 0);
    const take = body.take === undefined ? instance.chats.length : Number(body.take);
    const sorted = [...instance.chats].sort((a, b) => String(b.updatedAt).localeCompare(String(a.updatedAt)));
    return ok(sorted.slice(skip, skip + take));
  },

  'POST /chat/findMessages': ({ instance, body, version }) => {
    const { gte, lte } = fieldsIn(fieldsIn(body.where).messageTimestamp);
    // A range is heeded only when both ends are given.
    const [from, to] =
      typeof gte === 'string' && typeof lte === 'string'
        ? [Math.floor(Date.parse(gte) / 1000), Date.parse(lte) / 1000]
        : [-Infinity, Infinity];
    const currentPage = Number(body.page ?? 1);
    instance.beforePage?.(currentPage);
    const found = newestFirst(instance.messages).filter(({ messageTimestamp: at }) => at >= from && at <= to);
    if (version === '1') return ok(found);
    const size = Number(body.offset ?? 50);
    const records = found.slice((currentPage - 1) * size, currentPage * size);
    const total = found.length;
    return ok({ messages: { total, pages: Math.ceil(total / size), currentPage, records } });
  },
};

function send({ instance, body }: Question, message: Fields): Answer {
  const number = String(body.number ?? '');
  if (!/^\d{8,}|@/.test(number))
    return badRequest({ exists: false, jid: `${number}@s.whatsapp.net`, number });
  const fault = instance.sendFault?.() ?? null;
  if (fault === 'before') return null;
  const remoteJid = number.includes('@') ? number : `${number}@s.whatsapp.net`;
  const key = { id: randomBytes(10).toString('hex').toUpperCase(), remoteJid, fromMe: true };
  const sent = instance.message({ key, message, status: 'PENDING', source: 'unknown' }, true);
  instance.emit('send.message', sent);
  return fault === 'after' ? null : ok(sent, 201);
}
