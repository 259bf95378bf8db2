// Spans for OpenTelemetry: one for each event that this process emitted to a socket, from capture to emit. Its parent
// is the span that the writer's session named with relay.traceparent. Parents are looked up here, once a second and
// apart from delivery, so that readers and positions need not carry them.
import type pg from 'pg';
import type { Emission, Trace } from '../delivery/recent-emits.ts';
import { errorText, RecadoError } from '../errors.ts';
import type { Log } from '../log.ts';
import { version } from '../package.ts';

export interface SpansOptions {
  /** Of the collector: OTLP over HTTP, without the path. */
  endpoint: string;
  pool: pg.Pool;
  trace: Trace;
  log: Log;
}

const LOOK_UP_EVERY_MS = 1_000;
/** Between two look-ups; the rest gets no span. */
const MOST_WAITING = 10_000;
const TRACEPARENT = /^[\da-f]{2}-([\da-f]{32})-([\da-f]{16})-([\da-f]{2})$/;

/**
 * Begins to send spans.
 * @throws RecadoError `tracing_not_installed`
 */
export async function startSpans({
  endpoint,
  pool,
  trace,
  log,
}: SpansOptions): Promise<{ close(): Promise<void> }> {
  const { api, base, otlp, resources } = await load();
  const exporter = new otlp.OTLPTraceExporter({ url: `${endpoint.replace(/\/$/, '')}/v1/traces` });
  const processor = new base.BatchSpanProcessor(exporter, {
    scheduledDelayMillis: LOOK_UP_EVERY_MS,
    maxQueueSize: MOST_WAITING,
  });
  // The library reports here that a collector is unreachable or refuses the spans.
  const tell = (error: string) => log.say('spans_failed', { error });
  api.diag.setLogger(
    { error: tell, warn: tell, info: () => {}, debug: () => {}, verbose: () => {} },
    { logLevel: api.DiagLogLevel.WARN, suppressOverrideMessage: true },
  );
  // The operator's variables (OTEL_SERVICE_NAME, OTEL_RESOURCE_ATTRIBUTES) win.
  const resource = resources
    .defaultResource()
    .merge(resources.resourceFromAttributes({ 'service.name': 'recado' }))
    .merge(resources.detectResources({ detectors: [resources.envDetector] }));
  const provider = new base.BasicTracerProvider({ resource, spanProcessors: [processor] });
  const tracer = provider.getTracer('recado', version);
  let waiting: Emission[] = [];
  let dropped = 0;

  trace.onEmission = (emission) => {
    if (emission.sockets === 0) return;
    if (waiting.length < MOST_WAITING) waiting.push(emission);
    else dropped += 1;
  };

  async function send(): Promise<void> {
    const emissions = waiting;
    waiting = [];
    if (dropped > 0) log.say('spans_dropped', { count: dropped });
    dropped = 0;
    if (emissions.length === 0) return;
    const parents = await findParents(pool, emissions).catch((error: unknown) => {
      log.say('spans_failed', { error: errorText(error) });
      return new Map<string, string>();
    });
    for (const { id, event, room, sockets, capturedAt, at } of emissions) {
      const [, traceId, spanId, flags] = TRACEPARENT.exec(parents.get(String(id)) ?? '') ?? [];
      const parent =
        traceId === undefined || spanId === undefined
          ? api.ROOT_CONTEXT
          : api.trace.setSpanContext(api.ROOT_CONTEXT, {
              ...{ traceId, spanId, isRemote: true },
              traceFlags: Number.parseInt(flags ?? '0', 16),
            });
      const attributes = {
        'messaging.system': 'recado',
        'messaging.operation.type': 'send',
        'messaging.message.id': String(id),
        'messaging.destination.name': room,
        'recado.event': event,
        'recado.sockets': sockets,
      };
      const kind = api.SpanKind.PRODUCER;
      tracer
        .startSpan(event, { kind, startTime: capturedAt, attributes }, parent)
        .end(Math.max(at, capturedAt));
    }
  }

  let sending: Promise<void> = Promise.resolve();
  const timer = setInterval(() => {
    sending = sending.then(send);
  }, LOOK_UP_EVERY_MS);
  return {
    async close() {
      clearInterval(timer);
      trace.onEmission = null;
      await sending.then(send);
      // An unreachable collector must not keep the process from closing.
      await provider
        .shutdown()
        .catch((error: unknown) => log.say('spans_failed', { error: errorText(error) }));
    },
  };
}

/** By event, the trace context of its writer. The index is on the transaction. */
async function findParents(pool: pg.Pool, emissions: readonly Emission[]): Promise<Map<string, string>> {
  const { rows } = await pool.query<{ id: string; traceparent: string }>(
    `select id::text as id, traceparent from relay.events where xid = any ($1::xid8[]) and traceparent is not null`,
    [[...new Set(emissions.map(({ xid }) => String(xid)))]],
  );
  return new Map(rows.map(({ id, traceparent }) => [id, traceparent]));
}

/** The packages that send spans do not come with Recado: an operator who wants spans installs them. */
async function load() {
  try {
    const [api, base, otlp, resources] = await Promise.all([
      import('@opentelemetry/api'),
      import('@opentelemetry/sdk-trace-base'),
      import('@opentelemetry/exporter-trace-otlp-http'),
      import('@opentelemetry/resources'),
    ]);
    return { api, base, otlp, resources };
  } catch (error) {
    throw new RecadoError(
      'tracing_not_installed',
      `OTEL_EXPORTER_OTLP_ENDPOINT is set, but the packages that send spans are not installed (${errorText(error)}): npm install @opentelemetry/api@1.9 @opentelemetry/resources@2 @opentelemetry/sdk-trace-base@2 @opentelemetry/exporter-trace-otlp-http@0.223, or leave it unset.`,
      { cause: error },
    );
  }
}
