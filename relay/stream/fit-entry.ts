// Decides how much of a batch goes into an entry.
import type { OutboxEvent } from '../outbox/events.ts';
import { type Entry, MOST_ELSEWHERE } from './entry.ts';

/** Larger entries delay the ones behind them. If one event is larger, its account reads it from the table. */
export const ENTRY_BYTES = 512 * 1024;
/** Size of an event apart from its texts. */
const EVENT_BYTES = 160;

type Fitting = Pick<Entry, 'events' | 'elsewhere'>;

/**
 * The events, or as many as fit: whole accounts are left out, largest first. The relay's own events (revocations,
 * resyncs) and events for every account always stay.
 */
export function fitEntry(events: readonly OutboxEvent[], mostBytes = ENTRY_BYTES): Fitting {
  const sizes = new Map<string, number>();
  let bytes = 0;
  for (const event of events) {
    const size = sizeOf(event);
    bytes += size;
    if (mayBeElsewhere(event)) sizes.set(event.account, (sizes.get(event.account) ?? 0) + size);
  }
  if (bytes <= mostBytes) return { events, elsewhere: [] };
  const left = new Set<string>();
  for (const [account, size] of [...sizes].sort(([, a], [, b]) => b - a)) {
    if (bytes <= mostBytes) break;
    bytes -= size;
    left.add(account);
  }
  if (left.size > MOST_ELSEWHERE) {
    return { events: events.filter((event) => !mayBeElsewhere(event)), elsewhere: 'all' };
  }
  return {
    events: events.filter((event) => !mayBeElsewhere(event) || !left.has(event.account)),
    elsewhere: [...left],
  };
}

function mayBeElsewhere(event: OutboxEvent): event is OutboxEvent & { account: string } {
  return event.account !== null && !event.event.startsWith('relay:');
}

/** An estimate: escaping the quotes makes a payload longer. */
function sizeOf({ account, event, payload, audience }: OutboxEvent): number {
  let bytes = EVENT_BYTES + (account?.length ?? 0) + event.length;
  for (const topic of audience ?? []) bytes += topic.length + 3;
  if (payload !== null) bytes += Buffer.byteLength(payload) * 1.2;
  return bytes;
}
