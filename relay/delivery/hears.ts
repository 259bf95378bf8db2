// Who hears what. hears() is the only place that decides it, for live events and for replays, just before the write.
import { createHash } from 'node:crypto';
import type { Identity } from '../auth/token.ts';
import type { OutboxEvent } from '../outbox/events.ts';
import type { EventChoice } from './event-choice.ts';

export type Topical = Pick<Identity, 'topics' | 'ownTopic'>;

export interface Listener {
  readonly identity: Topical;
  /** null means every event. */
  readonly choice: EventChoice | null;
}

/** Whether a client is sent this event of its account. */
export function hears(
  { identity, choice }: Listener,
  { event, audience }: Pick<OutboxEvent, 'event' | 'audience'>,
): boolean {
  if (audience !== null && !sharesTopic(identity, audience)) return false;
  // A choice does not apply to the relay's own events.
  return choice === null || event.startsWith('relay:') || choice.includes(event);
}

function sharesTopic({ topics, ownTopic }: Topical, audience: readonly string[]): boolean {
  return audience.some((topic) => topic === ownTopic || topics.names.has(topic));
}

export function hearsTheSame(one: Topical, other: Topical): boolean {
  return one.topics === other.topics && one.ownTopic === other.ownTopic;
}

/**
 * A fingerprint of the client's topics and choice. The client keeps it; if it differs from last time, the client may
 * have missed events. It is part of a Socket.IO session's id. The id cannot change, so when topics change within the
 * session, the fingerprint is appended to each position from then on.
 */
export function hearingOf({ identity: { topics, ownTopic }, choice }: Listener): string {
  const decisive = JSON.stringify([topics.key, ownTopic, choice?.key ?? null]);
  return createHash('sha256').update(decisive).digest('base64url').slice(0, 12);
}

/** Separates a position from the fingerprint appended to it. */
const MARK = '*';

export function markPosition(position: string, hearing: string): string {
  return position + MARK + hearing;
}

/** @returns the position alone, and the fingerprint that was appended to it */
export function unmarkPosition(text: string): { position: string; hearing: string | undefined } {
  const [position = '', hearing] = text.split(MARK, 2);
  return { position, hearing };
}
