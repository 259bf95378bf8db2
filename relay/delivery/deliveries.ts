// From events to what a client hears: which of them, in what form, and with which position.
import type { OutboxEvent } from '../outbox/events.ts';
import { formatPosition, type Snapshot } from '../outbox/position.ts';

/** One emit. */
export interface Delivery {
  readonly event: string;
  /** JSON text of the payload. */
  readonly payload: string;
  /** The position of a client that has handled it. */
  readonly position: string;
}

/** Why a client is told to refetch. */
export type ResyncReason =
  /** The account or payload of an event could not be computed; see relay.failures. */
  | 'capture_failed'
  /** A watched table was truncated. */
  | 'truncated'
  /** Another table has taken the name of a watched one, or was made again under it. */
  | 'table_replaced'
  /** A trigger of the application changed the row again before the event was recorded. */
  | 'overtaken'
  /** What was recorded for the account was erased. */
  | 'forgotten'
  /** An event larger than may be sent. */
  | 'event_too_large'
  /** The client hears other topics than before, or has chosen other events. */
  | 'topics'
  /** The position is older than the events that are kept. */
  | 'retention'
  /** The position is another database's: restored, copied or failed over. */
  | 'epoch'
  /** The position is ahead of the database. */
  | 'future'
  /** The position could not be read. */
  | 'unreadable';

export interface Run {
  readonly epoch: string;
  /** What the client had seen before the first event. */
  readonly seen: Snapshot;
  /** What it has seen after the last one, if the run is complete. */
  readonly bound: Snapshot;
  /** Whether no event of (seen, bound) follows. */
  readonly complete: boolean;
}

/**
 * @param events of one account (and those meant for every account), in the order of their ids
 * @returns what is emitted; of several resyncs only the last, since it covers what came before
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

/** Events the relay itself writes or reads; not part of the contract. */
export const REVOKE = 'relay:revoke';
const RESYNC = 'relay:resync';

/** Whether it is sent to anybody. */
export function isSent(event: OutboxEvent): boolean {
  return isResync(event) || isForAccount(event);
}

function isResync(event: OutboxEvent): boolean {
  return event.event === RESYNC || (isForAccount(event) && event.payload === null);
}

/** Only a resync may be meant for everybody; whoever inserts an event without an account has forgotten it. */
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

/** @param cause the event that could not be delivered, where it was one */
export function resyncPayload(reason: ResyncReason, cause?: string): string {
  return JSON.stringify(cause === undefined ? { reason } : { reason, event: cause });
}

/** For one client. @param hearing what it hears from here on; see hearingOf() */
export function resyncOf(reason: ResyncReason, hearing: string, position: string): Delivery {
  return { event: RESYNC, payload: JSON.stringify({ reason, hearing }), position };
}

/** The position as an event of its own: it tells a client where it is without an event of the contract. */
export function positionEvent(position: string): Delivery {
  return { event: 'relay:position', payload: JSON.stringify(position), position: '' };
}

const RECORDED: readonly unknown[] = [
  'truncated',
  'table_replaced',
  'overtaken',
  'forgotten',
] satisfies ResyncReason[];

/** Whether an event says that those before it are erased. */
export function isErasure({ event, payload }: OutboxEvent): boolean {
  return event === RESYNC && payload !== null && resyncOfCapture(payload) === resyncPayload('forgotten');
}

/** The event without what it said. */
export function erase(event: OutboxEvent): OutboxEvent {
  if (event.event === REVOKE) return event;
  return { ...event, event: RESYNC, payload: resyncPayload('forgotten') };
}

/** The record of a failed capture holds an error text and a table name: not for clients. */
function resyncOfCapture(payload: string | null): string {
  const record: unknown = payload === null ? null : JSON.parse(payload);
  const fields = typeof record === 'object' && record !== null ? record : {};
  const reason =
    'reason' in fields && RECORDED.includes(fields.reason)
      ? (fields.reason as ResyncReason)
      : 'capture_failed';
  const cause = 'event' in fields && typeof fields.event === 'string' ? fields.event : undefined;
  return resyncPayload(reason, cause);
}
