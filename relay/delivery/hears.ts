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
export function hears({ identity, choice }: Listener, { event, audience }: OutboxEvent): boolean {
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

/** A fingerprint of what decides. The client keeps it: another one than last time means that it may have missed events. */
export function hearingOf({ identity: { topics, ownTopic }, choice }: Listener): string {
  const decisive = JSON.stringify([topics.key, ownTopic, choice?.key ?? null]);
  return createHash('sha256').update(decisive).digest('base64url').slice(0, 12);
}
