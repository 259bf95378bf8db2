// A program without Socket.IO: Server-Sent Events as the standard has them. It comes back by itself and sends the last
// id it got, as an EventSource does; Node 20 has none.
import { EventEmitter } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';

type AnyListener = (event: string, ...parts: unknown[]) => void;

export class EventStream {
  /** As a Socket.IO client has them; a stream knows nothing of the kind. */
  readonly recovered = false;
  #active = true;
  readonly #url: string;
  readonly #token: () => Promise<string>;
  readonly #leaving = new AbortController();
  readonly #emitter = new EventEmitter();
  readonly #anyListeners: AnyListener[] = [];
  #lastId = '';

  constructor(url: string, token: () => Promise<string>) {
    this.#url = url;
    this.#token = token;
    void this.#stay();
  }

  /** A stream cannot be talked to. */
  readonly connected = false;

  emit(): void {}

  /** Whether it comes back after an error. */
  get active(): boolean {
    return this.#active;
  }

  on(event: string, listener: (...parts: never[]) => void): void {
    this.#emitter.on(event, listener as (...parts: unknown[]) => void);
  }

  onAny(listener: AnyListener): void {
    this.#anyListeners.push(listener);
  }

  disconnect(): void {
    this.#leaving.abort();
  }

  async #stay(): Promise<void> {
    const { signal } = this.#leaving;
    while (!signal.aborted && this.#active) {
      try {
        await this.#listen(signal);
      } catch {
        // The connection is gone, which is what it comes back from.
      }
      await sleep(500 + 1_000 * Math.random());
    }
  }

  async #listen(signal: AbortSignal): Promise<void> {
    const authorization = `Bearer ${await this.#token()}`;
    const headers =
      this.#lastId === '' ? { authorization } : { authorization, 'last-event-id': this.#lastId };
    const response = await fetch(this.#url, { headers, signal });
    if (response.status === 401) {
      this.#active = false;
      this.#emitter.emit('connect_error', new Error(await response.text()));
    }
    if (!response.ok || !response.body) return;
    this.#emitter.emit('connect');
    let rest = '';
    for await (const text of response.body.pipeThrough(new TextDecoderStream())) {
      if (signal.aborted) return;
      const blocks = (rest + text).split('\n\n');
      rest = blocks.pop() ?? '';
      for (const block of blocks) this.#dispatch(block);
    }
  }

  #dispatch(block: string): void {
    const fields = new Map<string, string>();
    for (const line of block.split('\n')) {
      const [, name, value] = /^(\w+): ?(.*)$/.exec(line) ?? [];
      if (name !== undefined && value !== undefined) fields.set(name, value);
    }
    this.#lastId = fields.get('id') ?? this.#lastId;
    const event = fields.get('event');
    const data = fields.get('data');
    if (event === undefined || data === undefined) return;
    const parts = [JSON.parse(data), this.#lastId];
    for (const listener of this.#anyListeners) listener(event, ...parts);
    this.#emitter.emit(event, ...parts);
  }
}
