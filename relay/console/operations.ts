// The relay's state, for the operator's charts. Answers even while the database does not.
import type pg from 'pg';
import { type Slow, slowestOf } from '../delivery/recent-emits.ts';
import { type SlowClient, slowestClients } from '../delivery/slow-clients.ts';
import { errorText } from '../errors.ts';
import { type InstanceOverview, readInstances } from '../evolution/overview.ts';
import { metricsText, readChecks } from '../http/probes.ts';
import type { RequestContext } from '../http/reply.ts';
import { snapshotText } from '../outbox/position.ts';

/** Counters are totals; the page makes rates of two of them. */
export interface Operations {
  /** When it was read, in ms since 1970. */
  at: number;
  ready: boolean;
  /** "ok", or what is wrong. */
  checks: Record<string, string>;
  gate: string;
  /** By name without the prefix recado_, summed over labels. */
  metrics: Record<string, number>;
  /** Of capture to emit: how many took at most so many seconds; null is the last bound. */
  latency: { upTo: number | null; count: number }[];
  /** Rooms whose events took longest from capture to emit, in the last minute. */
  slowest: Slow[];
  /** Closed for not reading, in the last hour. */
  slowClients: SlowClient[];
  database: DatabaseNews | null;
  /** Why `database` is null. */
  error: string | null;
}

export interface DatabaseNews {
  /** Those that read events; `lastReadAgo` in seconds. */
  nodes: { pid: number; client: string; since: string; lastReadAgo: number }[];
  /** Committed events this node has not read. */
  backlog: number;
  /** Seconds the oldest transaction that may write has been open. */
  oldestTransaction: number;
  /** How full the notification queue is, 0 to 1. */
  notifyQueue: number;
  instances: InstanceOverview[];
  /** What relay.check() finds off, some seconds ago. */
  problems: CheckRow[];
}

type OutboxNews = Omit<DatabaseNews, 'instances' | 'problems'>;

interface CheckRow {
  problem: string;
  object: string | null;
  detail: string | null;
  remedy: string | null;
}

/** The page polls every second, and must soon show an operator that the database is down. */
const DATABASE_WITHIN_MS = 1_500;

/** relay.check() looks at the whole contract, so its answer serves everybody who asks within this time. */
const CHECK_EVERY_MS = 5_000;

export class OperationsReader {
  readonly #pool: pg.Pool;
  #checked: { at: number; problems: Promise<CheckRow[]> } | null = null;

  constructor(pool: pg.Pool) {
    this.#pool = pool;
  }

  async read(context: RequestContext): Promise<Operations> {
    const asked = Promise.all([
      readDatabase(context, this.#pool),
      readInstances(this.#pool),
      this.#problems(),
    ]).then(
      ([database, instances, problems]) => ({ database: { ...database, instances, problems }, error: null }),
      (error: unknown) => ({ database: null, error: errorText(error) }),
    );
    const { link, trace, slowClients, wakeup } = context;
    const at = Date.now();
    const [{ ready, checks }, text, { rooms, clients }, news] = await Promise.all([
      readChecks(context),
      metricsText(context),
      link ? link.slowest() : { rooms: trace.slowest(at), clients: slowClients.recent(at) },
      withinReason(asked),
    ]);
    const slow = { slowest: slowestOf(rooms), slowClients: slowestClients(clients) };
    return { at, ready, checks, gate: wakeup.gate, ...slow, ...parseMetrics(text), ...news };
  }

  #problems(): Promise<CheckRow[]> {
    if (this.#checked && Date.now() - this.#checked.at < CHECK_EVERY_MS) return this.#checked.problems;
    const problems = this.#pool
      .query<CheckRow>('select problem, object, detail, remedy from relay.check() limit 20')
      .then(({ rows }) => rows);
    this.#checked = { at: Date.now(), problems };
    // What failed is asked again, not remembered.
    problems.catch(() => {
      this.#checked = null;
    });
    return problems;
  }
}

async function withinReason<T>(asked: Promise<T>): Promise<T | { database: null; error: string }> {
  let timer: NodeJS.Timeout | undefined;
  const tooLate = new Promise<{ database: null; error: string }>((resolve) => {
    const error = `no answer within ${DATABASE_WITHIN_MS} ms`;
    timer = setTimeout(() => resolve({ database: null, error }), DATABASE_WITHIN_MS);
  });
  return Promise.race([asked, tooLate]).finally(() => clearTimeout(timer));
}

async function readDatabase({ feed }: RequestContext, pool: pg.Pool): Promise<OutboxNews> {
  const { rows } = await pool.query<{ news: OutboxNews }>(
    `select jsonb_build_object(
       'nodes', coalesce((select jsonb_agg(jsonb_build_object(
            'pid', a.pid, 'client', coalesce(host(a.client_addr), 'local'), 'since', a.backend_start,
            'lastReadAgo', round(extract(epoch from clock_timestamp() - a.query_start)::numeric, 1)) order by a.backend_start)
          from pg_stat_activity as a where a.application_name = 'recado feed' and a.datname = current_database()), '[]'),
       'backlog', (select count(*) from (
          select from relay.events as e
           where (e.xid >= pg_snapshot_xmax($1::pg_snapshot) or e.xid in (select pg_snapshot_xip($1::pg_snapshot)))
           limit 100000) as unread),
       'oldestTransaction', coalesce((select extract(epoch from max(clock_timestamp() - a.xact_start))
          from pg_stat_activity as a where a.backend_xid is not null), 0),
       'notifyQueue', pg_notification_queue_usage()) as news`,
    [snapshotText(feed.seen)],
  );
  return rows[0]!.news;
}

/** Of the text Prometheus reads, because that is what several processes are summed in. */
function parseMetrics(text: string): Pick<Operations, 'metrics' | 'latency'> {
  const metrics: Record<string, number> = {};
  const latency: Operations['latency'] = [];
  for (const line of text.split('\n')) {
    const {
      name,
      labels = '',
      value,
    } = /^recado_(?<name>\w+)(?:\{(?<labels>.*)\})? (?<value>\S+)$/.exec(line)?.groups ?? {};
    if (name === undefined) continue;
    const bound = /\ble="([^"]+)"/.exec(labels)?.[1];
    if (name === 'capture_to_emit_seconds_bucket' && bound !== undefined) {
      latency.push({ upTo: bound === '+Inf' ? null : Number(bound), count: Number(value) });
    } else metrics[name] = (metrics[name] ?? 0) + Number(value);
  }
  return { metrics, latency };
}
