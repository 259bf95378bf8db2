// Recent events in memory, without a database.
import { RecentEvents, type RecentEventsLimits } from '../../feed/recent/recent-events.ts';
import type { OutboxEvent } from '../../outbox/events.ts';
import type { Snapshot } from '../../outbox/position.ts';

describe('recent events', () => {
  let id = 0n;
  const event = (account: string | null, xid: bigint, payload = 'null'): OutboxEvent => ({
    id: ++id,
    xid,
    account,
    event: 'test.event',
    payload,
    known: true,
    audience: null,
    capturedAt: 0,
  });
  const at = (xmax: bigint, xip: bigint[] = []): Snapshot => ({ xmax, xip });
  const filled = (limits: Partial<RecentEventsLimits>) =>
    new RecentEvents(at(1n), { bytes: 1e9, events: 1e9, ...limits });

  test('holds an account what it has not seen, with what is meant for everybody, in the order of ids', () => {
    const recent = filled({});
    recent.add([event('a', 1n, '1'), event('b', 1n, '2'), event(null, 1n, '3')], at(2n));
    recent.add([event('a', 3n, '4')], at(4n, [2n]));
    const unseen = (seen: Snapshot) => recent.unseen('a', { epoch: 'e', seen }).map(({ payload }) => payload);
    expect(unseen(at(1n))).toEqual(['1', '3', '4']);
    expect(unseen(at(2n))).toEqual(['4']);
    expect(unseen(at(4n, [2n]))).toEqual([]);
    expect(recent.reaches(at(1n))).toBe(true);
  });

  test('an empty read takes nothing away, also where everything was forgotten', () => {
    const recent = filled({ events: 1 });
    recent.add([event('a', 3n, '1'), event('a', 3n, '2')], at(4n, [2n]));
    recent.add([], at(4n));
    expect(recent.reaches(at(4n, [2n]))).toBe(true);
  });

  test('forgets the oldest batches first, by number and by bytes, and knows how far it reaches', () => {
    for (const limits of [{ events: 3 }, { bytes: 3 * 2_500 }]) {
      const recent = filled(limits);
      for (let xid = 1n; xid <= 10n; xid += 1n) {
        recent.add([event(xid % 2n ? 'a' : 'b', xid, 'x'.repeat(1_000))], at(xid + 1n));
      }
      expect(recent.size.events).toBe(3);
      expect(recent.reaches(at(8n))).toBe(true);
      expect(recent.reaches(at(7n))).toBe(false);
      expect(recent.reaches(at(9n, [6n]))).toBe(false);
      expect(recent.unseen('a', { epoch: 'e', seen: at(8n) }).map(({ xid }) => xid)).toEqual([9n]);
      expect(recent.unseen('b', { epoch: 'e', seen: at(8n) }).map(({ xid }) => xid)).toEqual([8n, 10n]);
    }
  });

  test('is not shortened by reads that found nothing', () => {
    const recent = filled({});
    recent.add([event('a', 1n)], at(2n));
    for (let i = 0; i < 10; i += 1) recent.add([], at(2n));
    expect(recent.reaches(at(1n))).toBe(true);
    expect(recent.newest).toBe(1);
  });

  test('says whose position it is about to forget, before it does', () => {
    const recent = filled({ events: 10 });
    // An account that was told its position with batch n is lost once recent.reaches(bound of n) is false.
    const bounds = [at(1n)];
    let told = 0;
    for (let xid = 1n; xid <= 200n; xid += 1n) {
      recent.add([event('busy', xid)], at(xid + 1n));
      bounds.push(at(xid + 1n));
      expect(recent.reaches(bounds[told]!)).toBe(true);
      if (told < recent.aging) told = recent.newest;
    }
    expect(told).toBeGreaterThan(150);
  });

  test.each(['add', 'clear'] as const)('says so too after a batch larger than itself (%s)', (how) => {
    const recent = filled({ events: 10 });
    recent.add([event('a', 1n)], at(2n));
    const told = recent.newest;
    if (how === 'clear') recent.clear(at(3n));
    else
      recent.add(
        Array.from({ length: 20 }, () => event('b', 2n)),
        at(3n),
      );
    expect(recent.reaches(at(2n))).toBe(false);
    expect(recent.reaches(at(3n))).toBe(true);
    expect(told).toBeLessThan(recent.aging);
    // And only them: who is told now is not asked for again.
    expect(recent.newest).toBeGreaterThanOrEqual(recent.aging);
  });
});
