// Turns events into what is sent to a client: which of them, in what form, and with which position.
import type { OutboxEvent } from '../outbox/events.ts';
import { formatPosition, type Snapshot } from '../outbox/position.ts';

/** One event as it is sent. */
export interface Delivery {
  readonly event: string;
  /** JSON text of the payload. */
  readonly payload: string;
  /** The client's position once it has handled this event. */
  readonly position: string;
}

/** Why a client is told to refetch. */
export const RESYNC_REASONS = [
  /** The account or payload of an event could not be computed; see relay.failures. */
  'capture_failed',
  /** A watched table was truncated. */
  'truncated',
  /** A watched table was dropped and recreated, or another table now has its name. */
  'table_replaced',
  /** One of the application's triggers changed the row again before the event was recorded. */
  'overtaken',
  /** The account's recorded events were erased. */
  'forgotten',
  /** An event exceeds the size limit. */
  'event_too_large',
  /** The client's topics or its choice of events have changed. */
  'topics',
  /** The position is older than the events that are kept. */
  'retention',
  /** The position is from another database: this one was restored, copied or failed over. */
  'epoch',
  /** The position is ahead of the database. */
  'future',
  /** The position could not be read. */
  'unreadable',
] as const;
export type ResyncReason = (typeof RESYNC_REASONS)[number];

/** A page or batch of events and the positions around it. */
export interface Run {
  readonly epoch: string;
  /** What the client had seen before the first event. */
  readonly seen: Snapshot;
  /** What it has seen after the last event, if the run is complete. */
  readonly bound: Snapshot;
  /** No further event lies between `seen` and `bound`. */
  readonly complete: boolean;
}

/**
 * @param events of one account, together with those for every account, in the order of their ids
 * @returns what is sent; only the last of several resyncs, since it covers the earlier ones
 */
export function toDeliveries(events: readonly OutboxEvent[], run: Run): Delivery[] {
  const audible = events.filter(isSent);
  const lastResync = audible.findLast(isResync);
  const kept = audible.filter((event) => !isResync(event) || event === lastResync);
  return kept.map((event, index) => ({
    ...toEmit(event),
    position:
      run.complete && index === kept.length - 1
        ? formatPosition({ epoch: run.epoch, seen: run.bound })
        : formatPosition({
            epoch: run.epoch,
            seen: run.seen,
            batch: { bound: run.bound, through: event.id },
          }),
  }));
}

/** Events of the relay itself; not part of the contract. */
export const REVOKE = 'relay:revoke';
const RESYNC = 'relay:resync';

/** Whether the event is sent to any client at all. */
export function isSent(event: OutboxEvent): boolean {
  return isResync(event) || isForAccount(event);
}

function isResync(event: OutboxEvent): boolean {
  return event.event === RESYNC || (isForAccount(event) && event.payload === null);
}

/** An event without an account is a mistake in a direct INSERT and is not sent. Only a resync may go to everybody. */
function isForAccount(event: OutboxEvent): boolean {
  return event.known && event.account !== null;
}

function toEmit(event: OutboxEvent): { event: string; payload: string } {
  if (event.payload === null && event.event !== RESYNC) {
    return { event: RESYNC, payload: resyncPayload('event_too_large', event.event) };
  }
  if (event.event === RESYNC) return { event: RESYNC, payload: resyncOfCapture(event.payload) };
  return { event: event.event, payload: event.payload ?? 'null' };
}

/** @param cause the name of the event that could not be delivered, if there is one */
export function resyncPayload(reason: ResyncReason, cause?: string): string {
  return JSON.stringify(cause === undefined ? { reason } : { reason, event: cause });
}

/** A resync for one client. @param hearing fingerprint of what it hears from now on; see hearingOf() */
export function resyncOf(reason: ResyncReason, hearing: string, position: string): Delivery {
  return { event: RESYNC, payload: JSON.stringify({ reason, hearing }), position };
}

/** Tells a client its position when there is no event of the contract to carry it. */
export function positionEvent(position: string): Delivery {
  return { event: 'relay:position', payload: JSON.stringify(position), position: '' };
}

/** Reasons that the database records. */
const RECORDED: readonly ResyncReason[] = ['truncated', 'table_replaced', 'overtaken', 'forgotten'];

/** Whether an event announces that the account's earlier events are erased. */
export function isErasure({ event, payload }: OutboxEvent): boolean {
  return event === RESYNC && payload !== null && resyncOfCapture(payload) === resyncPayload('forgotten');
}

/** The event without its content. */
export function erase(event: OutboxEvent): OutboxEvent {
  if (event.event === REVOKE) return event;
  return { ...event, event: RESYNC, payload: resyncPayload('forgotten') };
}

/** The record of a failed capture holds an error text and a table name, which clients must not see. */
function resyncOfCapture(payload: string | null): string {
  const record: unknown = payload === null ? null : JSON.parse(payload);
  const fields = typeof record === 'object' && record !== null ? record : {};
  const given = 'reason' in fields ? fields.reason : undefined;
  const reason = RECORDED.find((recorded) => recorded === given) ?? 'capture_failed';
  const cause = 'event' in fields && typeof fields.event === 'string' ? fields.event : undefined;
  return resyncPayload(reason, cause);
}
