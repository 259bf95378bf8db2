// The answers of /readyz and /metrics.
import { errorText } from '../errors.ts';
import type { Metrics } from '../metrics.ts';
import { countProblems, readLoad } from '../outbox/load.ts';
import type { Reply, RequestContext } from './reply.ts';

/** The metrics of all processes behind this port, in Prometheus's text format. */
export async function metricsText(context: RequestContext): Promise<string> {
  gaugeProcess(context);
  const { metrics, link } = context;
  // The first process reads the database for all workers.
  if (link) return link.metrics();
  if (!context.hasStream) await gaugeDatabase(context);
  return metrics.registry.metrics();
}

/** relay.check() plans every expression of the contract, which is too slow for every scrape. */
const CHECK_EVERY_MS = 60_000;
const checkedAt = new WeakMap<Metrics, number>();

/** Sets the gauges of this process. A worker sets them regularly, since another process answers the scrape. */
export function gaugeProcess(
  context: Pick<RequestContext, 'metrics' | 'subscribers' | 'feed' | 'wakeup'>,
): void {
  const { metrics, subscribers, feed, wakeup } = context;
  metrics.sockets.set(subscribers.count);
  metrics.feedReady.set(feed.ready ? 1 : 0);
  metrics.listening.set(wakeup.listening ? 1 : 0);
  metrics.streaming.set(wakeup.listening ? 1 : 0);
}

/** Sets the gauges of the database. If it does not answer, the last values stay. */
export async function gaugeDatabase(
  context: Pick<RequestContext, 'metrics' | 'feed' | 'pool' | 'gauges' | 'log'>,
): Promise<void> {
  const { metrics, feed, pool, gauges, log } = context;
  if (!feed.ready) return;
  try {
    const load = await readLoad(pool);
    metrics.notifyQueue.set(load.notifyQueue);
    metrics.oldestTransaction.set(load.oldestTransactionSeconds);
    metrics.outboxBytes.set(load.outboxBytes);
    metrics.captureFailures.set(load.captureFailures);
    metrics.slowestReader.set(load.slowestReaderSeconds);
    for (const set of gauges) await set(pool, metrics);
    if (Date.now() - (checkedAt.get(metrics) ?? 0) < CHECK_EVERY_MS) return;
    checkedAt.set(metrics, Date.now());
    const { ofContract, overdueSlots, fullDisks } = await countProblems(pool);
    metrics.contractProblems.set(ofContract);
    metrics.overdueSlots.set(overdueSlots);
    metrics.diskFull.set(fullDisks);
  } catch (error) {
    log.say('http_failed', { path: '/metrics', error: errorText(error) });
  }
}

/** 503 if clients cannot be served. Without LISTEN they can, and events are up to a second late. */
export async function readiness(context: RequestContext): Promise<Reply> {
  if (context.closing)
    return { status: 503, body: { ready: false, checks: { process: 'it is shutting down' } } };
  const { ready, checks } = await readChecks(context);
  return { status: ready ? 200 : 503, body: { ready, checks } };
}

/** Each check is "ok" or says what is wrong. */
export async function readChecks({ feed, wakeup, link, hasStream }: RequestContext): Promise<{
  ready: boolean;
  checks: Record<string, string>;
}> {
  const own = { pid: process.pid, ready: feed.ready, listening: wakeup.listening };
  const { expected, workers } = link ? await link.workers() : { expected: 1, workers: [own] };
  const unready = expected - workers.filter((worker) => worker.ready).length;
  const disconnected = workers.filter((worker) => !worker.listening).length;
  const of = expected > 1 ? (count: number) => ` (${count} of ${expected} processes)` : () => '';
  const late = hasStream
    ? 'no entries come; events are read from the database'
    : 'not listening; events arrive with the safety reads';
  const checks = {
    database: unready === 0 ? 'ok' : `events cannot be read; see the log${of(unready)}`,
    [hasStream ? 'stream' : 'listen']: disconnected === 0 ? 'ok' : `${late}${of(disconnected)}`,
  };
  return { ready: unready === 0, checks };
}
