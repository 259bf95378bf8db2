// Catch-up replays what a client missed, then makes it live. The check that nothing is missing and the join happen
// in one tick, so no event can fall between the last replayed event and the first live one.
import { errorText } from '../../errors.ts';
import type { Feed } from '../../feed/feed.ts';
import type { Log } from '../../log.ts';
import type { Metrics } from '../../metrics.ts';
import type { OutboxEvent } from '../../outbox/events.ts';
import { covers, formatPosition, horizon, type Position, sees } from '../../outbox/position.ts';
import type { ClientWriter } from '../client-writer.ts';
import { type Delivery, positionEvent, type ResyncReason, resyncOf, toDeliveries } from '../deliveries.ts';
import { Encoded } from '../encode.ts';
import { hearingOf, hears } from '../hears.ts';
import type { LiveAccounts } from '../live/live-accounts.ts';
import type { ClientConnection, Subscriber } from '../subscriber.ts';
import { FairWorkQueue } from './fair-queue.ts';
import type { Replay, ReplayPage } from './replay.ts';

export interface CatchUpOptions {
  feed: Feed;
  replay: Replay;
  live: LiveAccounts;
  writer: ClientWriter;
  /** Bytes that may wait for one client. */
  bufferBytes: number;
  log: Log;
  metrics: Metrics;
}

/** Most events in one page from memory. */
const MEMORY_PAGE_EVENTS = 1_000;
/** Bytes written to a client in one tick. A larger event is written alone. */
const REPLAY_CHUNK_BYTES = 64 * 1024;
/** Name, position and framing of an event, roughly. */
const ENVELOPE_BYTES = 300;
/** The next chunk waits until the client's backlog is at most this. */
const REPLAY_BACKLOG_BYTES = 128 * 1024;

export class CatchUp {
  readonly #options: CatchUpOptions;
  readonly #work = new FairWorkQueue();

  constructor(options: CatchUpOptions) {
    this.#options = options;
  }

  /** Resolves when the client is live or disconnected. */
  async run(subscriber: Subscriber): Promise<void> {
    const { connection } = subscriber;
    try {
      await this.#replayAndJoin(subscriber);
    } catch (error) {
      if (!connection.open) return;
      this.#options.log.say('replay_failed', { socket: connection.id, error: errorText(error) });
      connection.close(true);
    }
  }

  async #replayAndJoin(subscriber: Subscriber): Promise<void> {
    const { feed, replay, live, writer, metrics } = this.#options;
    const { connection } = subscriber;
    const account = subscriber.identity.accountId;
    let source = 'window';
    while (connection.open) {
      const { position } = subscriber;
      if (position && position.epoch !== feed.epoch) {
        // The epoch has just changed. The client may already believe that it recovered. When it reconnects, it
        // receives relay:resync.
        connection.close(true);
        return;
      }
      if (!position) {
        live.join(subscriber);
        this.#writeReady(subscriber, subscriber.resync);
        return;
      }
      if (position.seen === feed.seen && !position.batch) {
        live.join(subscriber);
        metrics.replays.inc({ source });
        // relay:ready also follows a replay: it marks where live events begin.
        if (subscriber.needsReady) this.#writeReady(subscriber, null);
        else writer.write(subscriber, new Encoded([positionEvent(formatPosition(position))]));
        return;
      }
      let page = await this.#work.run(account, () => this.#pageFromMemory(account, position));
      if (position.epoch !== feed.epoch) continue;
      if (!page) {
        source = 'table';
        page = await replay.page(account, position, feed.seen, () => connection.open);
      }
      // The client's topics have changed: it refetches, so the rest of this replay is useless.
      if (subscriber.position !== position) continue;
      if (page.tooOld) {
        // Retention overtook a slow client. It reconnects, as above, and receives relay:resync.
        connection.close(true);
        return;
      }
      await this.#writePage(subscriber, page, position);
      if (subscriber.position === position) subscriber.position = page.next;
    }
  }

  /** The next page of recent events; null if they do not reach back to the position. */
  #pageFromMemory(account: string, position: Position): ReplayPage | null {
    const { feed } = this.#options;
    const { epoch, seen, batch } = position;
    if (!feed.recent.reaches(seen) || !covers(feed.seen, horizon(position))) return null;
    const bound = batch?.bound ?? feed.seen;
    const missed = feed.recent.unseen(account, position).filter((event) => sees(bound, event.xid));
    const events = missed.slice(0, MEMORY_PAGE_EVENTS);
    const complete = events.length === missed.length;
    const next: Position = complete
      ? { epoch, seen: bound }
      : { epoch, seen, batch: { bound, through: events.at(-1)!.id } };
    return { tooOld: false, events, seen, bound, complete, next };
  }

  /** Writes in chunks. Each waits until the client has read most of the previous ones. */
  async #writePage(subscriber: Subscriber, page: ReplayPage, from: Position): Promise<void> {
    const { connection } = subscriber;
    const { epoch } = from;
    const isWanted = () => connection.open && subscriber.position === from;
    for (let rest = page.events; rest.length > 0; ) {
      const { events, bytes, complete } = takeChunk(rest);
      while (isWanted() && !this.#fits(connection, bytes)) await connection.drained();
      if (!isWanted()) return;
      const run = { ...page, epoch, complete: complete && page.complete };
      await this.#work.run(subscriber.identity.accountId, () => {
        if (!isWanted()) return;
        const heard = events.filter((event) => hears(subscriber, event));
        this.#writeReplayed(subscriber, toDeliveries(heard, run));
      });
      rest = rest.slice(events.length);
    }
  }

  /** With an empty backlog even an event over the limit fits. */
  #fits(connection: ClientConnection, bytes: number): boolean {
    const waiting = connection.backlog();
    if (waiting === 0) return true;
    return waiting <= REPLAY_BACKLOG_BYTES && waiting + bytes <= this.#options.bufferBytes;
  }

  #writeReplayed(subscriber: Subscriber, deliveries: readonly Delivery[]): void {
    const { writer, metrics } = this.#options;
    if (deliveries.length === 0) return;
    writer.write(subscriber, new Encoded(deliveries));
    metrics.deliveries.inc(deliveries.length);
    writer.countResyncs(deliveries);
  }

  /** relay:ready, or relay:resync in its place: the first event of a client that did not resume. */
  #writeReady(subscriber: Subscriber, resync: ResyncReason | null): void {
    const { feed, writer } = this.#options;
    const { accountId, expiresAt } = subscriber.identity;
    const position = formatPosition({ epoch: feed.epoch, seen: feed.seen });
    const hearing = hearingOf(subscriber);
    const ready = { accountId, expiresAt: new Date(expiresAt).toISOString(), hearing };
    const first = resync
      ? resyncOf(resync, hearing, position)
      : { event: 'relay:ready', payload: JSON.stringify(ready), position };
    writer.countResyncs([first]);
    subscriber.needsReady = false;
    writer.write(subscriber, new Encoded([first]));
  }
}

/** As many events as fit into a chunk, and at least one. */
function takeChunk(events: readonly OutboxEvent[]): {
  events: readonly OutboxEvent[];
  bytes: number;
  complete: boolean;
} {
  let count = 0;
  let bytes = 0;
  for (const { payload } of events) {
    const more = Buffer.byteLength(payload ?? '') + ENVELOPE_BYTES;
    if (count > 0 && bytes + more > REPLAY_CHUNK_BYTES) break;
    count += 1;
    bytes += more;
  }
  return { events: events.slice(0, count), bytes, complete: count === events.length };
}
