// A process of clients that come back as the stock client does: after a pause of about a second, doubled to five, with
// the position that they saw last. Plain websockets: five thousand stock clients would be slower than the edge.
import { WebSocket } from 'ws';
import { answerParent } from './child.ts';
import { ACCOUNTS, EVENT } from './peers.ts';

export interface Opened {
  /** Of the edges, one of which may go away. */
  readonly ports: readonly number[];
  readonly count: number;
  /** What a client of each account says in its handshake. */
  readonly auths: readonly object[];
}

export interface Counted {
  /** Connections that are joined now. */
  readonly joined: number;
  readonly returns: number;
  /** Of these, on a session that the edge took up again. */
  readonly recovered: number;
  readonly twice: number;
  readonly resyncs: number;
}

const LONGEST_PAUSE_MS = 5_000;

/** Where nothing listens: a balancer leads nobody there. */
const gone = new Set<number>();
let ports: readonly number[] = [];
let onChange: () => void = () => {};

class Client {
  readonly #auth: object;
  readonly #heard = new Set<number>();
  #port: number;
  #session: { pid: string; offset?: string } | null = null;
  #pauses = 0;
  joined = false;
  returns = 0;
  recovered = 0;
  twice = 0;
  resyncs = 0;

  constructor(auth: object, port: number) {
    this.#auth = auth;
    this.#port = port;
    this.#connect();
  }

  get heard(): number {
    return this.#heard.size;
  }

  #connect(): void {
    if (gone.has(this.#port)) this.#port = ports.find((port) => !gone.has(port)) ?? this.#port;
    const address = `ws://127.0.0.1:${this.#port}/socket.io/?EIO=4&transport=websocket`;
    const socket = new WebSocket(address, { perMessageDeflate: false });
    socket.on('message', (data) => this.#take(socket, String(data)));
    socket.on('error', (error) => {
      if ('code' in error && error.code === 'ECONNREFUSED') gone.add(this.#port);
    });
    socket.on('close', () => {
      this.joined = false;
      const pause = Math.min(LONGEST_PAUSE_MS, 1_000 * 2 ** this.#pauses) * (0.5 + Math.random());
      this.#pauses += 1;
      setTimeout(() => this.#connect(), pause);
    });
  }

  #take(socket: WebSocket, text: string): void {
    if (text.startsWith('0')) socket.send(`40${JSON.stringify({ ...this.#auth, ...this.#session })}`);
    else if (text === '2') socket.send('3');
    else if (text.startsWith('40')) this.#join(JSON.parse(text.slice(2)));
    else if (text.startsWith('42')) this.#hear(JSON.parse(text.slice(2)));
  }

  #join({ pid }: { pid: string }): void {
    if (this.#session !== null) this.returns += 1;
    if (this.#session?.pid === pid) this.recovered += 1;
    this.#session = { ...this.#session, pid };
    this.#pauses = 0;
    this.joined = true;
    onChange();
  }

  #hear([event, ...parts]: [event: string, ...parts: unknown[]]): void {
    const offset = parts.at(-1);
    if (this.#session !== null && typeof offset === 'string') this.#session.offset = offset;
    if (event === 'relay:resync') this.resyncs += 1;
    if (event !== EVENT) return;
    const { id } = parts[0] as { id: number };
    if (this.#heard.has(id)) this.twice += 1;
    this.#heard.add(id);
    onChange();
  }
}

const clients: Client[] = [];

function whenEvery(is: (client: Client) => boolean): Promise<void> {
  return new Promise((resolve) => {
    // One after the other: who is there stays there.
    let first = 0;
    onChange = () => {
      while (first < clients.length && is(clients[first]!)) first += 1;
      if (first < clients.length) return;
      onChange = () => {};
      resolve();
    };
    onChange();
  });
}

async function open(wanted: Opened): Promise<void> {
  ports = wanted.ports;
  for (let n = 0; n < wanted.count; n += 1) {
    const port = ports[Math.floor(n / ACCOUNTS) % ports.length]!;
    clients.push(new Client(wanted.auths[n % wanted.auths.length]!, port));
    // In small groups: a listening queue is short.
    if (n % 50 === 49) await whenEvery(({ joined }) => joined);
  }
  await whenEvery(({ joined }) => joined);
}

function sum(of: (client: Client) => number): number {
  return clients.reduce((total, client) => total + of(client), 0);
}

answerParent({
  open,
  reach: ({ events }: { events: number }) => whenEvery(({ joined, heard }) => joined && heard >= events),
  count: (): Counted => ({
    joined: sum(({ joined }) => (joined ? 1 : 0)),
    returns: sum(({ returns }) => returns),
    recovered: sum(({ recovered }) => recovered),
    twice: sum(({ twice }) => twice),
    resyncs: sum(({ resyncs }) => resyncs),
  }),
});
