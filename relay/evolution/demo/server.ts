// An Evolution server for development: the real protocol with no WhatsApp behind it. It keeps the traps of the
// real one: a namespace exists only after the first emit to it since the start, and that event is lost; without a
// subscription nothing is emitted; a restart forgets namespaces and not data; `offset` is the size of a page.
import { randomBytes } from 'node:crypto';
import {
  createServer,
  type Server as HttpServer,
  type IncomingMessage,
  type ServerResponse,
} from 'node:http';
import type { AddressInfo } from 'node:net';
import { Server } from 'socket.io';

type Fields = Record<string, unknown>;

export interface ServerOptions {
  /** 0 takes a free one; it stays the same across restarts. */
  port?: number;
  /** Opens every instance. */
  globalKey?: string;
  /** `2` answers like 2.3.7; `1` has GET findChats, flat bodies and arrays. */
  version?: '1' | '2';
  /** Emit everything to the root namespace, as WEBSOCKET_GLOBAL_EVENTS does. */
  globalEvents?: boolean;
  /** False: as with WEBSOCKET_ENABLED=false, REST only. */
  websocket?: boolean;
}

export interface StoredMessage extends Fields {
  key: { id: string; remoteJid: string; fromMe: boolean } & Fields;
  messageTimestamp: number;
}

export interface FakeInstance {
  readonly name: string;
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
  /** Ids of messages that were marked read. */
  readonly markedRead: string[];
  readonly contacts: Fields[];
  readonly groups: Fields[];
  /** WhatsApp's connection, as the last connection.update had it. */
  state: string;
}

export interface EvolutionServer {
  readonly url: string;
  add(name: string, token?: string): FakeInstance;
  instance(name: string): FakeInstance;
  remove(name: string): void;
  /** Stops, waits, starts on the same port. Data stays, namespaces do not. */
  restart(downMs?: number): Promise<void>;
  down(): Promise<void>;
  up(): Promise<void>;
  close(): Promise<void>;
  /** Answers requests whose path contains `path` with this, until called with null. */
  fail(path: string, answer: { status: number; body: string } | null): void;
  /** `METHOD /path` of every request so far. */
  readonly requests: string[];
  readonly sockets: number;
}

// Sorting is Evolution's database's work; here it is done again only when something was added.
const sorted = new WeakMap<StoredMessage[], { length: number; list: StoredMessage[] }>();

function newestFirst(messages: StoredMessage[]): StoredMessage[] {
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

const OWN_NUMBER = '5511900000000@s.whatsapp.net';

export async function startEvolutionServer(options: ServerOptions = {}): Promise<EvolutionServer> {
  const { version = '2', globalEvents = false, websocket = true } = options;
  const globalKey = options.globalKey ?? randomBytes(16).toString('hex');
  const instances = new Map<string, FakeInstance>();
  const failures = new Map<string, { status: number; body: string }>();
  const requests: string[] = [];
  let port = options.port ?? 0;
  let http: HttpServer | null = null;
  let io: Server | null = null;

  const isKey = (key: unknown) =>
    typeof key === 'string' && (key === globalKey || [...instances.values()].some((i) => i.token === key));

  function handshake(
    request: IncomingMessage,
    answer: (error: string | null, success: boolean) => void,
  ): void {
    const query = new URL(request.url ?? '/', 'http://x').searchParams.get('apikey');
    const key = request.headers.apikey ?? query;
    if (key === undefined || key === null) answer('apiKey is required', false);
    else answer(isKey(key) ? null : 'Invalid global token', isKey(key));
  }

  function emit(instance: FakeInstance, event: string, data: unknown): void {
    if (io === null || !websocket) return;
    const envelope = {
      event,
      instance: instance.name,
      data,
      server_url: url(),
      date_time: new Date().toISOString(),
      sender: OWN_NUMBER,
      apikey: instance.token,
    };
    if (globalEvents) io.emit(event, envelope);
    if (instance.events.length > 0 && !instance.events.includes(event.toUpperCase().replaceAll('.', '_')))
      return;
    // The namespace is made by the first emit; a client cannot have been in it.
    if (instance.subscribed && !(globalEvents && version === '1')) {
      io.of(`/${instance.name}`).emit(event, envelope);
    }
  }

  async function up(): Promise<void> {
    http = createServer((request, response) => void handle(request, response));
    if (websocket) {
      io = new Server(http, { allowRequest: handshake, cors: { origin: '*' } });
    }
    await new Promise<void>((resolve, reject) => {
      http!.once('error', reject).listen(port, '127.0.0.1', resolve);
    });
    port = (http.address() as AddressInfo).port;
  }

  async function down(): Promise<void> {
    const [server, sockets] = [http, io];
    http = null;
    io = null;
    if (sockets !== null) await sockets.close();
    server?.closeAllConnections();
    if (server?.listening) await new Promise((resolve) => server.close(resolve));
  }

  async function handle(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { method = 'GET' } = request;
    const path = new URL(request.url ?? '/', 'http://x');
    requests.push(`${method} ${path.pathname}`);
    let body: Fields = {};
    let text = '';
    for await (const chunk of request) text += String(chunk);
    if (text !== '') body = JSON.parse(text) as Fields;
    const answer = (status: number, value: unknown) => {
      response.writeHead(status, { 'content-type': 'application/json' });
      response.end(typeof value === 'string' ? value : JSON.stringify(value));
    };
    for (const [part, failure] of failures) {
      if (path.pathname.includes(part)) return answer(failure.status, failure.body);
    }
    const [, area, action, name] = path.pathname.split('/').map(decodeURIComponent);
    const instance = name === undefined ? undefined : instances.get(name);
    if (name !== undefined && instance === undefined) {
      return answer(404, {
        status: 404,
        error: 'Not Found',
        response: { message: [`The "${name}" instance does not exist`] },
      });
    }
    const key = request.headers.apikey;
    if (key !== globalKey && (instance === undefined ? !isKey(key) : key !== instance.token)) {
      return answer(401, { status: 401, error: 'Unauthorized', response: { message: 'Unauthorized' } });
    }
    const route = `${method} /${area}/${action}`;
    if (route === 'GET /instance/fetchInstances') {
      const wanted = path.searchParams.get('instanceName');
      return answer(
        200,
        [...instances.values()]
          .filter((i) => (wanted ?? i.name) === i.name && (key === globalKey || key === i.token))
          .map((i) => ({
            id: i.name,
            name: i.name,
            connectionStatus: i.state,
            profileName: i.profileName,
            ownerJid: OWN_NUMBER,
            token: i.token,
          })),
      );
    }
    if (instance === undefined)
      return answer(
        404,
        `{"status":404,"error":"Not Found","response":{"message":["Cannot ${method} ${path.pathname}"]}}`,
      );
    switch (route) {
      case 'GET /instance/connectionState':
        return answer(200, { instance: { instanceName: instance.name, state: instance.state } });
      case 'GET /instance/connect':
        if (instance.state !== 'connecting')
          return answer(200, { instance: { instanceName: instance.name, state: instance.state } });
        return answer(200, {
          pairingCode: null,
          code: instance.qrCode,
          base64: 'data:image/png;base64,AAAA',
          count: 1,
        });
      case 'POST /message/sendText':
      case 'POST /message/sendMedia': {
        const number = String(body.number ?? '');
        const text = body.text ?? (body.textMessage as Fields | undefined)?.text;
        if (version === '1' && body.text !== undefined)
          return answer(400, {
            status: 400,
            error: 'Bad Request',
            response: { message: [['instance requires property "textMessage"']] },
          });
        if (!/^\d{8,}|@/.test(number))
          return answer(400, {
            status: 400,
            error: 'Bad Request',
            response: { message: [{ exists: false, jid: `${number}@s.whatsapp.net`, number }] },
          });
        const fault = instance.sendFault?.() ?? null;
        if (fault === 'before') return void response.destroy();
        const jid = number.includes('@') ? number : `${number}@s.whatsapp.net`;
        const content =
          action === 'sendMedia'
            ? {
                [`${String(body.mediatype)}Message`]: {
                  caption: body.caption,
                  url: body.media,
                  mimetype: body.mimetype,
                },
              }
            : { conversation: text };
        const id = randomBytes(10).toString('hex').toUpperCase();
        const sent = instance.message(
          {
            key: { id, remoteJid: jid, fromMe: true },
            message: content,
            status: 'PENDING',
            source: 'unknown',
          },
          true,
        );
        emit(instance, 'send.message', sent);
        if (fault === 'after') return void response.destroy();
        return answer(201, sent);
      }
      case 'POST /chat/markMessageAsRead': {
        const read = Array.isArray(body.readMessages) ? (body.readMessages as Fields[]) : [];
        instance.markedRead.push(...read.map(({ id }) => String(id)));
        return answer(201, { message: 'Read messages', read: 'success' });
      }
      case 'POST /chat/findContacts':
        return answer(200, instance.contacts);
      case 'GET /group/fetchAllGroups':
        return answer(200, instance.groups);
      case 'GET /websocket/find':
        // Never set: the server answers with nothing.
        return answer(200, instance.subscribed ? { enabled: true, events: instance.events } : 'null');
      case 'POST /websocket/set': {
        const wanted = version === '1' ? body : (body.websocket as Fields | undefined);
        if (wanted === undefined || typeof wanted.enabled !== 'boolean') {
          return answer(400, {
            status: 400,
            error: 'Bad Request',
            response: { message: [['instance requires property "websocket"']] },
          });
        }
        if (!Array.isArray(wanted.events))
          return answer(500, { status: 500, error: 'Internal Server Error' });
        if (!websocket) return answer(201, '');
        instance.subscribed = wanted.enabled;
        instance.events = wanted.events.map(String);
        return answer(201, {
          id: 'ckws',
          enabled: wanted.enabled,
          events: wanted.events,
          instanceId: instance.name,
        });
      }
      case 'GET /chat/findChats':
        if (version === '1')
          return answer(
            200,
            instance.chats.map((c) => ({ id: c.remoteJid })),
          );
        break;
      case 'POST /chat/findChats': {
        if (version === '1') break;
        const skip = Number(body.skip ?? 0);
        const take = body.take === undefined ? instance.chats.length : Number(body.take);
        const sorted = [...instance.chats].sort((a, b) =>
          String(b.updatedAt).localeCompare(String(a.updatedAt)),
        );
        return answer(200, sorted.slice(skip, skip + take));
      }
      case 'POST /chat/findMessages': {
        const range = (body.where as Fields | undefined)?.messageTimestamp as
          | { gte?: string; lte?: string }
          | undefined;
        const between =
          range?.gte && range.lte
            ? ([Date.parse(range.gte) / 1000, Date.parse(range.lte) / 1000] as const)
            : null;
        const found = newestFirst(instance.messages).filter(
          (m) =>
            between === null ||
            (m.messageTimestamp >= Math.floor(between[0]) && m.messageTimestamp <= between[1]),
        );
        if (version === '1') return answer(200, found);
        const size = Number(body.offset ?? 50);
        const page = Number(body.page ?? 1);
        return answer(200, {
          messages: {
            total: found.length,
            pages: Math.ceil(found.length / size),
            currentPage: page,
            records: found.slice((page - 1) * size, page * size),
          },
        });
      }
    }
    answer(404, {
      status: 404,
      error: 'Not Found',
      response: { message: [`Cannot ${method} ${path.pathname}`] },
    });
  }

  function add(name: string, token = randomBytes(12).toString('hex')): FakeInstance {
    const instance: FakeInstance = {
      name,
      token,
      chats: [],
      messages: [],
      subscribed: false,
      events: [],
      qrCode: null,
      profileName: null,
      sendFault: null,
      markedRead: [],
      contacts: [],
      groups: [],
      state: 'open',
      emit(event, data) {
        if (event === 'connection.update') instance.state = String((data as Fields).state);
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
        const { status, ...stored } = message;
        instance.messages.push({
          id: `c${randomBytes(8).toString('hex')}`,
          ...stored,
          MessageUpdate: [],
        } as StoredMessage);
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
    instances.set(name, instance);
    return instance;
  }

  function url(): string {
    return `http://127.0.0.1:${port}`;
  }

  await up();
  return {
    get url() {
      return url();
    },
    add,
    instance(name) {
      const found = instances.get(name);
      if (found === undefined) throw new Error(`there is no instance ${name}`);
      return found;
    },
    remove: (name) => void instances.delete(name),
    async restart(downMs = 0) {
      await down();
      await new Promise((resolve) => setTimeout(resolve, downMs));
      await up();
    },
    down,
    up,
    close: down,
    fail(path, answer) {
      if (answer === null) failures.delete(path);
      else failures.set(path, answer);
    },
    requests,
    get sockets() {
      return io?.engine.clientsCount ?? 0;
    },
  };
}
