// A network that breaks on command: each link is a port on loopback that leads to another one.
import { once } from 'node:events';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { portOf } from '../../port.ts';

export class Link {
  readonly port: number;
  readonly #server: Server;
  readonly #wires = new Set<Wire>();
  #target: number;
  #hanging = false;
  #delayMs = 0;
  #bytesPerSecond = Number.POSITIVE_INFINITY;

  private constructor(server: Server, target: number) {
    this.#server = server;
    this.port = portOf(server);
    this.#target = target;
    server.on('connection', (socket) => this.#accept(socket));
  }

  /** Resolves when the link takes connections. */
  static async to(target: number): Promise<Link> {
    const server = createServer({ allowHalfOpen: false }).listen(0, '127.0.0.1');
    await once(server, 'listening');
    return new Link(server, target);
  }

  get target(): number {
    return this.#target;
  }

  get delayMs(): number {
    return this.#delayMs;
  }

  get bytesPerSecond(): number {
    return this.#bytesPerSecond;
  }

  /** Where new connections go. */
  point(target: number): void {
    this.#target = target;
  }

  /** Both ends learn at once that the connection is gone. */
  cut(): void {
    for (const wire of this.#wires) wire.cut();
  }

  /** Nothing moves in either direction, and neither end is told; new connections hang too. */
  freeze(): void {
    this.#hanging = true;
    for (const wire of this.#wires) wire.freeze();
  }

  thaw(): void {
    this.#hanging = false;
    for (const wire of this.#wires) wire.thaw();
  }

  /**
   * A router forgot the connections: what is there goes silent for good, new ones work.
   * @param callerLearns the side that connected is told, the other one is not
   */
  forget(callerLearns: boolean, lingerMs: number): void {
    for (const wire of this.#wires) wire.forget(callerLearns, lingerMs);
  }

  /** Of everything that passes from now on. 0 heals it. */
  delay(ms: number): void {
    this.#delayMs = ms;
    if (ms === 0) this.#hasten();
  }

  /** From the far end to the caller. Infinity heals it. */
  throttle(bytesPerSecond: number): void {
    this.#bytesPerSecond = bytesPerSecond;
    if (bytesPerSecond === Number.POSITIVE_INFINITY) this.#hasten();
  }

  /** What is on its way does not keep the old pace: it would pass minutes after the link is healed. */
  #hasten(): void {
    for (const wire of this.#wires) wire.hasten();
  }

  async close(): Promise<void> {
    this.#server.close();
    this.cut();
    if (this.#server.listening) await once(this.#server, 'close');
  }

  #accept(caller: Socket): void {
    const wire = new Wire(caller, connect({ port: this.#target, host: '127.0.0.1' }), this);
    this.#wires.add(wire);
    wire.onGone = () => this.#wires.delete(wire);
    if (this.#hanging) wire.freeze();
  }
}

/** One connection through a link. */
class Wire {
  onGone: () => void = () => {};
  readonly #caller: Socket;
  readonly #far: Socket;
  readonly #lanes: readonly [Lane, Lane];
  #timer: NodeJS.Timeout | undefined;
  #forgotten = false;

  constructor(caller: Socket, far: Socket, link: Link) {
    this.#caller = caller;
    this.#far = far;
    this.#lanes = [
      new Lane(caller, far, link, () => Number.POSITIVE_INFINITY),
      new Lane(far, caller, link, () => link.bytesPerSecond),
    ];
    const closed = () => {
      if (caller.destroyed && far.destroyed) {
        clearTimeout(this.#timer);
        this.onGone();
      }
    };
    caller.on('close', closed);
    far.on('close', closed);
  }

  cut(): void {
    clearTimeout(this.#timer);
    reset(this.#caller);
    reset(this.#far);
  }

  freeze(): void {
    for (const lane of this.#lanes) lane.freeze();
  }

  thaw(): void {
    if (this.#forgotten) return;
    for (const lane of this.#lanes) lane.thaw();
  }

  hasten(): void {
    for (const lane of this.#lanes) lane.hasten();
  }

  forget(callerLearns: boolean, lingerMs: number): void {
    if (this.#forgotten) return;
    this.#forgotten = true;
    this.freeze();
    if (callerLearns) reset(this.#caller);
    this.#timer = setTimeout(() => this.cut(), lingerMs);
  }
}

/** Not where the socket is ending: libuv refuses to reset it then, its handle stays, and the process never ends. */
function reset(socket: Socket): void {
  if (socket.writableEnded) socket.destroy();
  else socket.resetAndDestroy();
}

/** One direction of a wire. What arrives is passed on in order, later, slower or not at all. */
class Lane {
  readonly #from: Socket;
  readonly #to: Socket;
  readonly #link: Link;
  readonly #bytesPerSecond: () => number;
  /** Chunks and, last, the end (null), each with when it may pass. */
  readonly #queue: { readonly chunk: Buffer | null; at: number }[] = [];
  #frozen = false;
  #full = false;
  #timer: NodeJS.Timeout | undefined;

  constructor(from: Socket, to: Socket, link: Link, bytesPerSecond: () => number) {
    this.#from = from;
    this.#to = to;
    this.#link = link;
    this.#bytesPerSecond = bytesPerSecond;
    from.setNoDelay(true);
    from.on('data', (chunk: Buffer) => this.#arrive(chunk));
    from.on('close', () => this.#arrive(null));
    // 'close' follows, and says it to the other end.
    from.on('error', () => undefined);
    to.on('drain', () => {
      this.#full = false;
      this.#pass();
    });
    to.on('close', () => clearTimeout(this.#timer));
  }

  freeze(): void {
    this.#frozen = true;
    this.#from.pause();
  }

  thaw(): void {
    this.#frozen = false;
    this.#pass();
  }

  hasten(): void {
    for (const waiting of this.#queue) waiting.at = 0;
    this.#pass();
  }

  #arrive(chunk: Buffer | null): void {
    const free = this.#queue.at(-1)?.at ?? 0;
    const pace = chunk === null ? 0 : (chunk.length / this.#bytesPerSecond()) * 1_000;
    this.#queue.push({ chunk, at: Math.max(Date.now() + this.#link.delayMs, free) + pace });
    this.#pass();
  }

  #pass(): void {
    clearTimeout(this.#timer);
    if (this.#to.destroyed) {
      this.#from.destroy();
      return;
    }
    while (!this.#frozen && !this.#full && this.#queue.length > 0) {
      const { chunk, at } = this.#queue[0]!;
      const wait = at - Date.now();
      if (wait > 0) {
        this.#timer = setTimeout(() => this.#pass(), wait);
        break;
      }
      this.#queue.shift();
      if (chunk === null) this.#to.end();
      else this.#full = !this.#to.write(chunk);
    }
    // Whoever sends more than passes feels it.
    if (this.#frozen || this.#queue.length > 16) this.#from.pause();
    else this.#from.resume();
  }
}
