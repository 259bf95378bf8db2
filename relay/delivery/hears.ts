// Who hears what: the one decision, made when an event is about to be written to a client, on every road.
import { createHash } from 'node:crypto';
import type { Identity } from '../auth/token.ts';
import type { OutboxEvent } from '../outbox/events.ts';
import type { EventChoice } from './event-choice.ts';

export type Topical = Pick<Identity, 'topics' | 'ownTopic'>;

export interface Listener {
  readonly identity: Topical;
  /** null: every event. */
  readonly choice: EventChoice | null;
}

/** Whether a client is sent an event of its account. */
export function hears(
  { identity, choice }: Listener,
  { event, audience }: Pick<OutboxEvent, 'event' | 'audience'>,
): boolean {
  if (audience !== null && !sharesTopic(identity, audience)) return false;
  // What the relay itself has to say is not chosen.
  return choice === null || event.startsWith('relay:') || choice.includes(event);
}

function sharesTopic({ topics, ownTopic }: Topical, audience: readonly string[]): boolean {
  return audience.some((topic) => topic === ownTopic || topics.names.has(topic));
}

export function hearsTheSame(one: Topical, other: Topical): boolean {
  return one.topics === other.topics && one.ownTopic === other.ownTopic;
}

/**
 * A fingerprint of what decides. The client keeps it: another one than last time means that it may have missed events.
 * A session of Socket.IO has it in its id. Where topics change within the session, the positions that are sent from then
 * on have it behind them, since the id cannot be changed.
 */
export function hearingOf({ identity: { topics, ownTopic }, choice }: Listener): string {
  const decisive = JSON.stringify([topics.key, ownTopic, choice?.key ?? null]);
  return createHash('sha256').update(decisive).digest('base64url').slice(0, 12);
}

/** Between a position and the hearing behind it. */
const MARK = '*';

export function markPosition(position: string, hearing: string): string {
  return position + MARK + hearing;
}

/** @returns the position alone, and the hearing that was behind it */
export function unmarkPosition(text: string): { position: string; hearing: string | undefined } {
  const [position = '', hearing] = text.split(MARK, 2);
  return { position, hearing };
}
