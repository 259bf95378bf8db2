// recado top: how a node is doing, refreshed in a terminal.
import { setTimeout as sleep } from 'node:timers/promises';
import { z } from 'zod';
import { errorText, RecadoError } from '../errors.ts';
import { renderTable } from './sql.ts';

export interface TopOptions {
  relay: string;
  operatorToken: string | null;
  everyMs: number;
  /** Shows one picture; on a terminal it takes the place of the one before. */
  show: (picture: string) => void;
}

/** What GET /console/operations answers. */
const operations = z.object({
  at: z.number(),
  ready: z.boolean(),
  checks: z.record(z.string(), z.string()),
  gate: z.string(),
  metrics: z.record(z.string(), z.number()),
  latency: z.array(z.object({ upTo: z.number().nullable(), count: z.number() })),
  slowest: z.array(
    z.object({ room: z.string(), events: z.number(), median: z.number(), slowest: z.number() }),
  ),
  slowClients: z.array(
    z.object({ account: z.string().nullable(), address: z.string(), times: z.number(), bytes: z.number() }),
  ),
  database: z
    .object({
      nodes: z.array(z.object({ pid: z.number(), client: z.string(), lastReadAgo: z.number() })),
      backlog: z.number(),
      oldestTransaction: z.number(),
      notifyQueue: z.number(),
      problems: z.array(z.object({ problem: z.string(), object: z.string().nullable() })),
    })
    .nullable(),
  error: z.string().nullable(),
});
type Operations = z.infer<typeof operations>;

const ANSWER_WITHIN_MS = 5_000;

/**
 * Shows a picture every so often until it is closed. A relay that does not answer is asked again.
 * @throws RecadoError `operators_only`, `relay_unknown_answer` for the first answer
 */
export async function top({
  relay,
  operatorToken,
  everyMs,
  show,
}: TopOptions): Promise<{ close(): Promise<void> }> {
  const stopping = new AbortController();
  let last = await read(relay, operatorToken);
  const running = (async () => {
    for (;;) {
      await sleep(everyMs, undefined, { signal: stopping.signal });
      try {
        const now = await read(relay, operatorToken);
        show(draw(relay, last, now));
        last = now;
      } catch (error) {
        show(`${relay}: ${errorText(error)}`);
      }
    }
  })().catch(() => undefined);
  return {
    async close() {
      stopping.abort();
      await running;
    },
  };
}

async function read(relay: string, operatorToken: string | null): Promise<Operations> {
  const headers: Record<string, string> =
    operatorToken === null ? {} : { authorization: `Bearer ${operatorToken}` };
  const signal = AbortSignal.timeout(ANSWER_WITHIN_MS);
  const response = await fetch(`${relay}/console/operations`, { headers, signal }).catch((error: unknown) => {
    const why = error instanceof Error && error.cause !== undefined ? error.cause : error;
    throw new RecadoError(
      'relay_unreachable',
      `${relay} does not answer (${errorText(why)}): name the relay with --relay http://host:port.`,
    );
  });
  if (response.status === 403) {
    throw new RecadoError(
      'operators_only',
      `${relay} answers operators only: set OPERATOR_TOKEN to the one of the relay.`,
    );
  }
  const body = operations.safeParse(await response.json().catch(() => null));
  if (body.success) return body.data;
  throw new RecadoError(
    'relay_unknown_answer',
    `${relay} answered ${response.status} with something else than expected: is it a relay of this version?`,
  );
}

/** Rates are those since the picture before. */
function draw(relay: string, before: Operations, now: Operations): string {
  const seconds = Math.max(0.001, (now.at - before.at) / 1_000);
  const total = (name: string) => now.metrics[name] ?? 0;
  const rate = (name: string) =>
    (Math.max(0, total(name) - (before.metrics[name] ?? 0)) / seconds).toFixed(1);
  const wrong = Object.entries(now.checks).filter(([, state]) => state !== 'ok');
  const { database } = now;
  const lines = [
    `${relay}  ${new Date(now.at).toISOString().slice(11, 19)} UTC  ${now.ready ? 'ready' : 'NOT READY'}${wrong.map(([name, state]) => `; ${name}: ${state}`).join('')}`,
    `events    ${rate('events_read_total')} read/s, ${rate('events_emitted_total')} emitted/s, ${rate('deliveries_total')} deliveries/s`,
    `latency   capture to emit: p50 ${quantile(before, now, 0.5)}, p99 ${quantile(before, now, 0.99)}`,
    `sockets   ${total('sockets')}; since the start ${total('handshakes_refused_total')} refused, ${total('resyncs_total')} told to refetch, ${total('slow_consumers_closed_total')} closed for not reading`,
    database === null
      ? `database  ${now.error}`
      : `database  gate ${now.gate}, backlog ${database.backlog}, oldest transaction ${database.oldestTransaction.toFixed(1)} s, notification queue ${(database.notifyQueue * 100).toFixed(1)} %`,
  ];
  const parts = [lines.join('\n')];
  for (const { problem, object } of database?.problems ?? []) {
    parts.push(
      `OFF       ${problem}${object === null ? '' : `: ${object}`}; select * from relay.check() says more`,
    );
  }
  if (database) {
    const nodes = database.nodes.map(({ pid, client, lastReadAgo }) => [
      String(pid),
      client,
      `${lastReadAgo} s`,
    ]);
    parts.push(renderTable(['backend', 'node at', 'last read ago'], nodes));
  }
  if (now.slowest.length > 0) {
    const slow = now.slowest.map((of) => [of.room, String(of.events), ms(of.median), ms(of.slowest)]);
    parts.push(renderTable(['slowest rooms of the last minute', 'events', 'median', 'slowest'], slow));
  }
  if (now.slowClients.length > 0) {
    const slow = now.slowClients.map((of) => [
      of.account ?? '',
      of.address,
      String(of.times),
      String(of.bytes),
    ]);
    parts.push(renderTable(['closed in the last hour: account', 'address', 'times', 'bytes unread'], slow));
  }
  return parts.join('\n\n');
}

function ms(took: number): string {
  return `${Math.round(took)} ms`;
}

/** By the buckets of the histogram. */
function quantile(before: Operations, now: Operations, part: number): string {
  const counts = now.latency.map(({ upTo, count }, index) => ({
    upTo,
    count: count - (before.latency[index]?.count ?? 0),
  }));
  const all = counts.at(-1)?.count ?? 0;
  if (all <= 0) return '–';
  const found = counts.find(({ count }) => count >= part * all);
  const last = counts.at(-2)?.upTo ?? 0;
  return found?.upTo == null ? `over ${last} s` : `up to ${found.upTo * 1_000} ms`;
}
