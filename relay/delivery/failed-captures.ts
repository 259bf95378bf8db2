// A capture that failed stands in relay.failures; here it leaves a line in the log, the first of an event in a minute.
import type { Log } from '../log.ts';
import type { OutboxEvent } from '../outbox/events.ts';

const AGAIN_AFTER_MS = 60_000;
const MOST_NAMES = 1_000;

export class FailedCaptures {
  readonly #log: Log;
  readonly #said = new Map<string, { at: number; more: number }>();

  constructor(log: Log) {
    this.#log = log;
  }

  /** The text of the error is not said: it may hold values of the row. */
  note({ event, payload }: Pick<OutboxEvent, 'event' | 'payload'>): void {
    if (event !== 'relay:resync' || payload === null) return;
    const record: unknown = JSON.parse(payload);
    if (typeof record !== 'object' || record === null) return;
    const fields: { reason?: unknown; event?: unknown; table?: unknown; sqlstate?: unknown } = record;
    if (fields.reason !== 'capture_failed') return;
    const name = String(fields.event);
    const now = Date.now();
    const said = this.#said.get(name);
    if (said && now - said.at < AGAIN_AFTER_MS) {
      said.more += 1;
      return;
    }
    if (this.#said.size >= MOST_NAMES) this.#said.clear();
    this.#said.set(name, { at: now, more: 0 });
    this.#log.say('capture_failed', {
      name,
      table: String(fields.table),
      sqlstate: String(fields.sqlstate),
      unsaid: said?.more ?? 0,
    });
  }
}
