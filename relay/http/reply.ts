// What a route receives and what it answers.
import type { IncomingMessage } from 'node:http';
import type pg from 'pg';
import type { Settings } from '../config/settings.ts';
import type { EmittedBy, Slow, Trace } from '../delivery/recent-emits.ts';
import type { SlowClient, SlowClients } from '../delivery/slow-clients.ts';
import type { Subscribers } from '../delivery/subscribers.ts';
import { RecadoError } from '../errors.ts';
import type { Feed } from '../feed/feed.ts';
import type { Wakeup } from '../feed/wakeup.ts';
import type { Log } from '../log.ts';
import type { Metrics } from '../metrics.ts';
import type { Streams } from '../transport/sse.ts';

/** The state of a process behind the port. */
export interface WorkerState {
  pid: number;
  ready: boolean;
  listening: boolean;
}

/** Rooms that had to wait in the last minute, and clients that did not read in the last hour. */
export interface Slowness {
  rooms: Slow[];
  clients: SlowClient[];
}

/** All processes behind one port, this one included. */
export interface AllProcesses {
  /** The metrics of all processes, summed. */
  metrics(): Promise<string>;
  workers(): Promise<{ expected: number; workers: WorkerState[] }>;
  /** What they remember of an event. */
  emitted(event: bigint): Promise<EmittedBy>;
  slowest(): Promise<Slowness>;
}

export interface RequestContext {
  feed: Feed;
  wakeup: Pick<Wakeup, 'listening' | 'gate'>;
  subscribers: Subscribers;
  streams: Streams;
  metrics: Metrics;
  trace: Trace;
  slowClients: SlowClients;
  pool: pg.Pool;
  /** null unless several processes share the port. */
  link: AllProcesses | null;
  /** Whether events come through Redis: then a hub reads the database and measures it. */
  hasStream: boolean;
  /** The routes of the console. */
  routes: Routes;
  /** Gauges of other rooms, measured at each scrape. */
  gauges: readonly ((pool: pg.Pool, metrics: Metrics) => Promise<void>)[];
  settings: Settings['http'];
  /** Whether the relay is disconnecting its clients. */
  closing: boolean;
  /** In the demo, a browser on this machine is the operator. */
  demo: boolean;
  log: Log;
}

export interface Reply {
  status: number;
  /** Text and bytes are sent unchanged, anything else as JSON. */
  body: unknown;
  type?: string;
  headers?: Record<string, string>;
}

export type Route = (request: IncomingMessage, context: RequestContext) => Reply | Promise<Reply>;

/** By method and path: "GET /healthz". GET also answers HEAD; a final * matches any name. */
export type Routes = Readonly<Record<string, Route>>;

/** What the processes behind this port remember of an event. */
export async function emittedBy({ trace, link }: RequestContext, event: bigint): Promise<EmittedBy> {
  if (link) return link.emitted(event);
  const own = trace.find(event);
  return { emitted: own ? [own] : [], silent: 0 };
}

/** A refusal whose reason the caller may know. */
export class RefusedRequest extends RecadoError {
  readonly status: number;

  constructor(status: number, code: string, message: string) {
    super(code, message);
    this.status = status;
  }
}

/**
 * The body of a request, parsed.
 * @throws RefusedRequest `body_not_json`, `body_too_large`
 */
export async function readJson(request: IncomingMessage, maxBytes: number): Promise<unknown> {
  const type = request.headers['content-type'] ?? '';
  // A page of another site cannot send this type without a CORS preflight.
  if (!/^application\/json\b/.test(type)) {
    const sentence = `The body's type is ${JSON.stringify(type)}, but application/json is expected.`;
    throw new RefusedRequest(415, 'body_not_json', sentence);
  }
  const chunks: Buffer[] = [];
  let bytes = 0;
  const body: AsyncIterable<Buffer> = request;
  for await (const chunk of body) {
    bytes += chunk.length;
    if (bytes > maxBytes) {
      const sentence = `The body is longer than ${maxBytes} bytes, the limit here.`;
      throw new RefusedRequest(413, 'body_too_large', sentence);
    }
    chunks.push(chunk);
  }
  try {
    return JSON.parse(Buffer.concat(chunks).toString('utf8'));
  } catch {
    throw new RefusedRequest(400, 'body_not_json', 'The body cannot be parsed as JSON.');
  }
}
