// Spans, as a collector receives them over HTTP.
import { once } from 'node:events';
import { createServer, type Server } from 'node:http';
import { json } from 'node:stream/consumers';
import pg from 'pg';
import { Trace } from '../../delivery/recent-emits.ts';
import { portOf } from '../../port.ts';
import type { Relay } from '../../server/relay.ts';
import { startSpans } from '../../server/spans.ts';
import { hearing } from '../hearing.ts';
import { Client, type Database, deadPort, freshDatabase, startNode, token, until } from '../world.ts';

interface Span {
  traceId: string;
  parentSpanId?: string;
  name: string;
  startTimeUnixNano: string;
  endTimeUnixNano: string;
  attributes: { key: string; value: { stringValue?: string; intValue?: number } }[];
}

const TRACE = '4bf92f3577b34da6a3ce929d0e0e4736';
const SPAN = '00f067aa0ba902b7';

let database: Database;
let collector: Server;
let relay: Relay;
let client: Client;
const spans: Span[] = [];

beforeAll(async () => {
  database = await freshDatabase();
  await database.query(`select relay.publish('item')`);
  collector = createServer(async (request, response) => {
    const body = (await json(request)) as { resourceSpans: { scopeSpans: { spans: Span[] }[] }[] };
    if (request.url === '/v1/traces') {
      spans.push(
        ...body.resourceSpans.flatMap(({ scopeSpans }) => scopeSpans.flatMap((scope) => scope.spans)),
      );
    }
    response.setHeader('content-type', 'application/json').end('{}');
  }).listen(0, '127.0.0.1');
  await once(collector, 'listening');
  const endpoint = `http://127.0.0.1:${portOf(collector)}`;
  relay = await startNode(database.url, { OTEL_EXPORTER_OTLP_ENDPOINT: endpoint });
  await relay.ready();
  client = await new Client(relay, { token: await token() }).live();
});
beforeEach(() => {
  spans.length = 0;
});
afterAll(async () => {
  client.close();
  await relay.close();
  collector.closeAllConnections();
  collector.close();
  await database.close();
});

const of = (span: Span, key: string) =>
  span.attributes.find((attribute) => attribute.key === key)?.value.stringValue;

async function emit(traceparent: string | null, account = 'acc-1'): Promise<string> {
  const writer = await database.connect();
  if (traceparent !== null)
    await writer.query(`select set_config('relay.traceparent', $1, false)`, [traceparent]);
  await writer.query(`select relay.emit($1, 'item', '1')`, [account]);
  const { rows } = await writer.query<{ id: string }>('select max(id)::text as id from relay.events');
  await writer.end();
  return rows[0]!.id;
}

test('an event is a span of the trace that its writer named, from its capture to its emit', async () => {
  const id = await emit(`00-${TRACE}-${SPAN}-01`);
  const span = await until('the span arrives', () =>
    spans.find((each) => of(each, 'messaging.message.id') === id),
  );
  expect(span).toMatchObject({ traceId: TRACE, parentSpanId: SPAN, name: 'item' });
  expect(of(span, 'messaging.destination.name')).toBe('orders.account.acc-1');
  expect(BigInt(span.endTimeUnixNano)).toBeGreaterThanOrEqual(BigInt(span.startTimeUnixNano));
  const rows = await database.query<{ ns: string }>(
    `select (extract(epoch from created_at) * 1000)::bigint::text || '000000' as ns from relay.events where id = $1`,
    [id],
  );
  // The outbox tells milliseconds.
  expect(Math.abs(Number(BigInt(span.startTimeUnixNano) - BigInt(rows[0]!.ns)))).toBeLessThanOrEqual(
    1_000_000,
  );
});

test('an event whose writer names no trace, or an invalid one, begins a trace of its own', async () => {
  const ids = [await emit(null), await emit("nonsense'; drop table relay.events; --".repeat(9))];
  for (const id of ids) {
    const span = await until('the span arrives', () =>
      spans.find((each) => of(each, 'messaging.message.id') === id),
    );
    expect(span.parentSpanId ?? '').toBe('');
  }
});

test('what a writer did not sample, and what nobody heard, is no span', async () => {
  await emit(`00-${TRACE}-${SPAN}-00`);
  await emit(`00-${TRACE}-${SPAN}-01`, 'acc-2');
  const last = await emit(`00-${TRACE}-${SPAN}-01`);
  await until('the last one arrives', () => spans.some((span) => of(span, 'messaging.message.id') === last));
  expect(spans).toHaveLength(1);
});

test('a collector that is away is told in the log', async () => {
  const said: string[] = [];
  const trace = new Trace();
  const pool = new pg.Pool({ connectionString: database.url });
  const endpoint = `http://127.0.0.1:${await deadPort()}`;
  const log = hearing((name, fields) => said.push(`${name} ${fields}`));
  const sender = await startSpans({ endpoint, pool, trace, log });
  const at = Date.now();
  trace.onEmission?.({
    id: 1n,
    xid: 1n,
    event: 'item',
    room: 'orders.account.1',
    sockets: 1,
    capturedAt: at,
    at,
  });
  await until('it is told', () => said.some((line) => /^spans_failed .*ECONNREFUSED/.test(line)));
  await sender.close();
  await pool.end();
});
