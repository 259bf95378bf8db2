// Server-Sent Events, as a program reads them.
import type { IncomingMessage } from 'node:http';
import { until } from '../world.ts';

interface ServerSentEvent {
  event: string;
  id: string;
  payload: unknown;
}

/** A program that reads a stream as the specification says. */
export class Stream {
  readonly heard: ServerSentEvent[] = [];
  ended = false;
  readonly response: IncomingMessage;
  #rest = '';

  constructor(response: IncomingMessage) {
    this.response = response;
    response.setEncoding('utf8');
    response.on('data', (text: string) => this.#read(text));
    response.on('error', () => undefined);
    response.on('close', () => {
      this.ended = true;
    });
  }

  #read(text: string): void {
    const blocks = (this.#rest + text).split('\n\n');
    this.#rest = blocks.pop()!;
    for (const block of blocks) {
      const fields = new Map(
        block
          .split('\n')
          .map((line) => [line.slice(0, line.indexOf(':')), line.slice(line.indexOf(':') + 2)]),
      );
      const event = fields.get('event');
      if (event === undefined) continue;
      this.heard.push({ event, id: fields.get('id')!, payload: JSON.parse(fields.get('data')!) as unknown });
    }
  }

  /** What a client sends back as Last-Event-ID. */
  get position(): string {
    return this.heard.at(-1)!.id;
  }

  get payloads(): unknown[] {
    return this.heard.filter(({ event }) => !event.startsWith('relay:')).map(({ payload }) => payload);
  }

  hears(count: number): Promise<unknown> {
    return until(
      `a stream hears ${count} events, it heard ${this.payloads.length}`,
      () => this.payloads.length >= count,
    );
  }

  end(): Promise<unknown> {
    return until('a stream ends', () => this.ended);
  }

  close(): void {
    this.response.destroy();
  }
}
