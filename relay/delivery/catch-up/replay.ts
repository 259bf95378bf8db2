// What a client missed that is no longer in memory, read from the table. Pages are shared: clients of one account
// that come back with the same position cost one query, however many they are. The sessions are few and not the
// feed's, so that replays wait for each other and never for the live events.
import type pg from 'pg';
import type { Metrics } from '../../metrics.ts';
import type { OutboxEvent, Page, PageLimits } from '../../outbox/events.ts';
import { nextRange, readAccountPage } from '../../outbox/pages.ts';
import { formatPosition, isTooOld, type Position, type Snapshot } from '../../outbox/position.ts';
import { FairQueryQueue } from './fair-queue.ts';

export interface ReplayPage {
  /** Events may be gone that the position has not seen; the rest is empty then. */
  readonly tooOld: boolean;
  /** In the order of their ids. */
  readonly events: readonly OutboxEvent[];
  /** What had been seen before, and what has been after the last page. */
  readonly seen: Snapshot;
  readonly bound: Snapshot;
  /** No page follows before `bound` is reached. */
  readonly complete: boolean;
  /** The position of a reader that has had this page. */
  readonly next: Position;
}

/** A page is kept this long after somebody asked for it: a storm may last, and asks for the same pages throughout. */
const SHARED_FOR_MS = 5_000;
/** Parts of a long replay, of which there may be a thousand: whoever reads it along is near. */
const PART_SHARED_FOR_MS = 1_000;
const MOST_SHARED = 200;
/** A transaction is large if it has more than this part of a page's events. */
const LARGE_PART = 4;

interface SharedPage {
  readonly page: Promise<ReplayPage>;
  /** Whether each of those who asked before it was read is still there. */
  readonly wanted: (() => boolean)[];
  /** Once it is read. */
  forgetting: NodeJS.Timeout | undefined;
}

export class Replay {
  readonly #pool: pg.Pool;
  readonly #limits: PageLimits;
  readonly #metrics: Metrics;
  readonly #pages = new Map<string, SharedPage>();
  readonly #queries: FairQueryQueue;
  /** By account: transactions that have much of a page, and so probably of the next. */
  readonly #large = new Map<string, bigint[]>();

  /** @param pool sessions for reading (openReader); as many as may work on replays at a time */
  constructor(pool: pg.Pool, limits: PageLimits, metrics: Metrics) {
    this.#pool = pool;
    this.#limits = limits;
    this.#metrics = metrics;
    this.#queries = new FairQueryQueue(pool.options.max);
  }

  /**
   * The next page for a client of `account` at `position`, on the way to `bound` (or to where somebody else who
   * asked just before was going).
   * @param isThere whether the client still waits for it
   * @throws RecadoError `nobody_waits`: all who asked were gone before it was read
   */
  page(account: string, position: Position, bound: Snapshot, isThere: () => boolean): Promise<ReplayPage> {
    const key = `${formatPosition(position)} ${account}`;
    const known = this.#pages.get(key);
    if (known) {
      if (known.forgetting) known.forgetting.refresh();
      else known.wanted.push(isThere);
      return known.page;
    }
    const wanted = [isThere];
    const page = this.#queries.run(
      account,
      () => wanted.some((isWanted) => isWanted()),
      () => this.#read(account, position, bound),
    );
    const shared: SharedPage = { page, wanted, forgetting: undefined };
    this.#pages.set(key, shared);
    const oldest = this.#pages.size > MOST_SHARED ? this.#pages.keys().next().value : undefined;
    if (oldest !== undefined) this.#pages.delete(oldest);
    const forget = () => {
      if (this.#pages.get(key) === shared) this.#pages.delete(key);
    };
    shared.page.then(({ complete }) => {
      wanted.length = 0;
      shared.forgetting = setTimeout(forget, complete ? SHARED_FOR_MS : PART_SHARED_FOR_MS).unref();
    }, forget);
    return shared.page;
  }

  #noteLarge(account: string, { events, more }: Page): void {
    this.#large.delete(account);
    if (!more) return;
    const counts = new Map<bigint, number>();
    for (const { xid } of events) counts.set(xid, (counts.get(xid) ?? 0) + 1);
    const large = [...counts].filter(([, count]) => count * LARGE_PART > events.length).map(([xid]) => xid);
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
