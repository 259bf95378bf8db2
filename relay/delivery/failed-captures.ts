// Logs failed captures, at most once a minute for each event name. relay.failures has them all.
import type { Log } from '../log.ts';
import type { OutboxEvent } from '../outbox/events.ts';

const LOG_EVERY_MS = 60_000;
const MOST_NAMES = 1_000;

export class FailedCaptures {
  readonly #log: Log;
  readonly #logged = new Map<string, { at: number; suppressed: number }>();

  constructor(log: Log) {
    this.#log = log;
  }

  /** The error text is not logged: it may contain values of the row. */
  note({ event, payload }: Pick<OutboxEvent, 'event' | 'payload'>): void {
    if (event !== 'relay:resync' || payload === null) return;
    const record: unknown = JSON.parse(payload);
    if (typeof record !== 'object' || record === null) return;
    const fields: { reason?: unknown; event?: unknown; table?: unknown; sqlstate?: unknown } = record;
    if (fields.reason !== 'capture_failed') return;
    const name = String(fields.event);
    const now = Date.now();
    const last = this.#logged.get(name);
    if (last && now - last.at < LOG_EVERY_MS) {
      last.suppressed += 1;
      return;
    }
    if (this.#logged.size >= MOST_NAMES) this.#logged.clear();
    this.#logged.set(name, { at: now, suppressed: 0 });
    this.#log.say('capture_failed', {
      name,
      table: String(fields.table),
      sqlstate: String(fields.sqlstate),
      unsaid: last?.suppressed ?? 0,
    });
  }
}
