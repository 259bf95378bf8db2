// Replay reads from the table what a client missed and memory no longer holds. Pages are shared: any number of clients
// of one account that return with the same position cost one query. Replays have a few database sessions of their own,
// so they wait for each other and never delay live events.
import type pg from 'pg';
import type { Metrics } from '../../metrics.ts';
import type { OutboxEvent, Page, PageLimits } from '../../outbox/events.ts';
import { nextRange, readAccountPage } from '../../outbox/pages.ts';
import { formatPosition, isTooOld, type Position, type Snapshot } from '../../outbox/position.ts';
import { FairQueryQueue } from './fair-queue.ts';

export interface ReplayPage {
  /** Retention may have removed events after the position. The other fields mean nothing then. */
  readonly tooOld: boolean;
  /** In the order of their ids. */
  readonly events: readonly OutboxEvent[];
  /** What the client had seen before the first page. */
  readonly seen: Snapshot;
  /** What it has seen after the last page. */
  readonly bound: Snapshot;
  /** This is the last page before `bound`. */
  readonly complete: boolean;
  /** The position after this page. */
  readonly next: Position;
}

/** A page is kept this long after its last use: a reconnect storm asks for the same pages while it lasts. */
const SHARED_FOR_MS = 5_000;
/** The same for a page of a long replay. There may be a thousand, and clients that share them are close together. */
const PART_SHARED_FOR_MS = 1_000;
const MOST_SHARED = 200;
/** A transaction is large if it fills more than 1/4 of a page. */
const LARGE_FRACTION = 4;

interface SharedPage {
  readonly page: Promise<ReplayPage>;
  /** For each client that asked before the page was read: whether it is still connected. */
  readonly wanted: (() => boolean)[];
  /** Runs once the page is read. */
  expiry: NodeJS.Timeout | undefined;
}

export class Replay {
  readonly #pool: pg.Pool;
  readonly #limits: PageLimits;
  readonly #metrics: Metrics;
  readonly #pages = new Map<string, SharedPage>();
  readonly #queries: FairQueryQueue;
  /** By account: transactions that fill much of a page, and so probably of the next. */
  readonly #large = new Map<string, bigint[]>();

  /** @param pool read-only sessions (openReader); its size limits how many replays read at a time */
  constructor(pool: pg.Pool, limits: PageLimits, metrics: Metrics) {
    this.#pool = pool;
    this.#limits = limits;
    this.#metrics = metrics;
    this.#queries = new FairQueryQueue(pool.options.max);
  }

  /**
   * The next page for a client of `account` at `position`, on the way to `bound`. A shared page may lead to the
   * slightly older bound of the client that asked first.
   * @param isThere whether the client is still connected
   * @throws RecadoError `nobody_waits`: all clients that asked left before the page was read
   */
  page(account: string, position: Position, bound: Snapshot, isThere: () => boolean): Promise<ReplayPage> {
    const key = `${formatPosition(position)} ${account}`;
    const cached = this.#pages.get(key);
    if (cached) {
      if (cached.expiry) cached.expiry.refresh();
      else cached.wanted.push(isThere);
      return cached.page;
    }
    const wanted = [isThere];
    const page = this.#queries.run(
      account,
      () => wanted.some((isWanted) => isWanted()),
      () => this.#read(account, position, bound),
    );
    const shared: SharedPage = { page, wanted, expiry: undefined };
    this.#pages.set(key, shared);
    const oldest = this.#pages.size > MOST_SHARED ? this.#pages.keys().next().value : undefined;
    if (oldest !== undefined) this.#pages.delete(oldest);
    const forget = () => {
      if (this.#pages.get(key) === shared) this.#pages.delete(key);
    };
    shared.page.then(({ complete }) => {
      wanted.length = 0;
      shared.expiry = setTimeout(forget, complete ? SHARED_FOR_MS : PART_SHARED_FOR_MS).unref();
    }, forget);
    return shared.page;
  }

  #noteLarge(account: string, { events, more }: Page): void {
    this.#large.delete(account);
    if (!more) return;
    const counts = new Map<bigint, number>();
    for (const { xid } of events) counts.set(xid, (counts.get(xid) ?? 0) + 1);
    const large = [...counts]
      .filter(([, count]) => count * LARGE_FRACTION > events.length)
      .map(([xid]) => xid);
    if (large.length > 0) this.#large.set(account, large);
  }

  async #read(account: string, position: Position, target: Snapshot): Promise<ReplayPage> {
    const session = await this.#pool.connect();
    let broken = true;
    try {
      this.#metrics.replayQueries.inc();
      const range = nextRange(position, target);
      const page = await readAccountPage(session, account, range, this.#limits, this.#large.get(account));
      this.#noteLarge(account, page);
      broken = false;
      const { seen } = position;
      const bound = range.bound ?? target;
      const through = page.events.at(-1)?.id ?? range.after;
      return {
        tooOld: isTooOld(seen, page.emptied),
        events: page.events,
        seen,
        bound,
        complete: !page.more,
        next: {
          epoch: position.epoch,
          ...(page.more ? { seen, batch: { bound, through } } : { seen: bound }),
        },
      };
    } finally {
      session.release(broken);
    }
  }
}
