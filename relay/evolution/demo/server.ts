// An Evolution server for development: the real protocol with no WhatsApp behind it. It has the pitfalls of the
// real one: a namespace exists only after the first emit to it since the start, and that event is lost; without a
// subscription nothing is emitted; a restart forgets namespaces and not data; `offset` is the size of a page.
import { randomBytes } from 'node:crypto';
import {
  createServer,
  type Server as HttpServer,
  type IncomingMessage,
  type ServerResponse,
} from 'node:http';
import { Server } from 'socket.io';
import { portOf } from '../../port.ts';
import { createInstance, type FakeInstance, type Fields, fieldsIn } from './instance.ts';
import { ANSWERS, VERSIONS, type Version } from './rest.ts';

export interface ServerOptions {
  /** 0 takes a free one; it stays the same across restarts. */
  port?: number;
  /** Opens every instance. */
  globalKey?: string;
  /** `2` answers like 2.3.7, `2.2` says so of itself; `1` has GET findChats, flat bodies and arrays. */
  version?: Version;
  /** Emit everything to the root namespace, as WEBSOCKET_GLOBAL_EVENTS does. */
  globalEvents?: boolean;
  /** False: as with WEBSOCKET_ENABLED=false, REST only. */
  websocket?: boolean;
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
    // The first emit creates the namespace, so no client is in it yet.
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
    port = portOf(http);
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
    let text = '';
    for await (const chunk of request) text += String(chunk);
    const body = fieldsIn(text === '' ? {} : JSON.parse(text));
    const answer = (status: number, value: unknown) => {
      response.writeHead(status, { 'content-type': 'application/json' });
      response.end(typeof value === 'string' ? value : JSON.stringify(value));
    };
    for (const [part, failure] of failures) {
      if (path.pathname.includes(part)) return answer(failure.status, failure.body);
    }
    if (path.pathname === '/') return answer(200, { status: 200, version: VERSIONS[version] });
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
      const shown = [...instances.values()].filter(
        (i) => (wanted ?? i.name) === i.name && (key === globalKey || key === i.token),
      );
      return answer(200, shown.map(describeInstance));
    }
    const found = instance && ANSWERS[route]?.({ instance, body, version, websocket });
    if (found === null) response.destroy();
    else if (found !== undefined) answer(found.status, found.body);
    else
      answer(404, {
        status: 404,
        error: 'Not Found',
        response: { message: [`Cannot ${method} ${path.pathname}`] },
      });
  }

  function add(name: string, token = randomBytes(12).toString('hex')): FakeInstance {
    const instance = createInstance(name, token, emit);
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

function describeInstance({ id, name, token, state, profileName }: FakeInstance): Fields {
  return { id, name, connectionStatus: state, profileName, ownerJid: OWN_NUMBER, token };
}
