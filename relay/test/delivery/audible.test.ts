// AudienceIndex compared with hears(): a client that the index leaves out would have heard nothing either.
import fc from 'fast-check';
import { topicOfUser, topicsOf } from '../../auth/topics.ts';
import { parseEventChoice } from '../../delivery/event-choice.ts';
import { hears } from '../../delivery/hears.ts';
import { AudienceIndex } from '../../delivery/live/audible.ts';
import { Subscriber } from '../../delivery/subscriber.ts';
import type { OutboxEvent } from '../../outbox/events.ts';

const TOPICS = ['chat:1', 'chat:2', 'chat:3', 'user:1', 'user:2'];
const NAMES = ['chat.message', 'chat.closed', 'doctors.deleted', 'relay:resync'];

const subscribers = fc.array(
  fc.record({
    topics: fc.subarray(TOPICS),
    subject: fc.constantFrom(null, '1', '2', '3'),
    choice: fc.constantFrom<string[] | null>(null, [], ['chat.*'], ['doctors.deleted', 'chat.closed']),
  }),
  { maxLength: 12 },
);
const events = fc.array(
  fc.record({
    event: fc.constantFrom(...NAMES),
    audience: fc.option(fc.subarray([...TOPICS, 'chat:4']), { nil: null }),
  }),
  { maxLength: 70 },
);

function subscriberOf({
  topics,
  subject,
  choice,
}: {
  topics: string[];
  subject: string | null;
  choice: string[] | null;
}): Subscriber {
  const identity = {
    ...{ accountId: '1', expiresAt: 0, refusedFrom: 0, issuedAt: null, subject, tokenId: null },
    topics: topicsOf(topics),
    ownTopic: subject === null ? null : topicOfUser(subject),
  };
  return new Subscriber(
    {} as never,
    identity,
    parseEventChoice(choice),
    { position: null, resync: null },
    false,
  );
}

const toEvent = (
  { event, audience }: { event: string; audience: string[] | null },
  place: number,
): OutboxEvent => ({
  ...{ id: BigInt(place + 1), xid: 1n, account: '1', payload: '1', known: true, capturedAt: 0 },
  ...{ event, audience },
});

test('each client is in at most one share, with exactly the events that hears() gives it', () => {
  fc.assert(
    fc.property(subscribers, events, fc.nat(), (given, happened, gone) => {
      const all = given.map(subscriberOf);
      const batch = happened.map(toEvent);
      const index = new AudienceIndex();
      for (const subscriber of all) index.add(subscriber);
      const left = all.filter((_, place) => place !== gone % Math.max(1, all.length));
      for (const subscriber of all) if (!left.includes(subscriber)) index.delete(subscriber);
      const shares = index.share(batch);
      for (const subscriber of all) {
        const own = shares.filter(({ members }) => members.includes(subscriber));
        const expected = left.includes(subscriber) ? batch.filter((event) => hears(subscriber, event)) : [];
        expect(own.length).toBe(expected.length > 0 ? 1 : 0);
        expect(own.flatMap((share) => share.events)).toEqual(expected);
      }
      // What two clients hear alike is one share.
      const heard = shares.map((share) => share.events.map(({ id }) => id).join());
      expect(new Set(heard).size).toBe(heard.length);
    }),
  );
});
