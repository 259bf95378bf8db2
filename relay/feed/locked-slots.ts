// A lock on an old slot of relay.events (VACUUM FULL, a migration, LOCK TABLE) must not delay events in other slots.
//
// Reads skip a locked slot until it is free. Nobody else can write to it meanwhile, so it can only hide events that
// were committed just before the lock, or by its holder. Once the slot is free, it is searched for such events. If there
// are any, the positions given out meanwhile are wrong and every client must refetch. The slot that writers use now is
// never skipped: they wait for the same lock.
import type { Log } from '../log.ts';
import type { Session } from '../outbox/events.ts';
import type { Snapshot } from '../outbox/position.ts';
import { findLockedSlots, hasUnseen, type LockedNow, NONE_LOCKED } from '../outbox/slots.ts';

/** Reading pg_locks blocks, for a moment, every session that takes a lock. */
const LOOK_EVERY_MS = 500;

export class LockedSlots {
  readonly #log: Log;
  /** With what was seen when each was skipped. */
  readonly #leftOut = new Map<number, Snapshot>();
  #lookedAt = 0;

  constructor(log: Log) {
    this.#log = log;
  }

  /** Slots that are not read at the moment. */
  get leftOut(): readonly number[] {
    return [...this.#leftOut.keys()].sort();
  }

  /** For a first read, which has not seen anything: the locked slots. None if writers wait for the same lock. */
  async findFirst(session: Session): Promise<LockedNow> {
    const locked = await findLockedSlots(session);
    if (locked.slots.length === 0 || locked.slots.includes(locked.current)) return NONE_LOCKED;
    this.#log.say('slots_locked', { slots: locked.slots });
    return locked;
  }

  /** Everything is read again from the start, without these slots. What `seen` has seen of them is not missing. */
  startWithout(slots: readonly number[], seen: Snapshot): void {
    this.#leftOut.clear();
    for (const slot of slots) this.#leftOut.set(slot, seen);
    this.#lookedAt = Date.now();
  }

  /**
   * After a failed read: skips locked slots, if they are the reason.
   * @returns whether it makes sense to read again
   */
  async leaveOut(session: Session, seen: Snapshot, error: unknown): Promise<boolean> {
    if (!isLocked(error)) return false;
    const { slots, current } = await findLockedSlots(session);
    // The lock ended after the read failed.
    if (slots.length === 0) return true;
    const more = slots.filter((slot) => slot !== current && !this.#leftOut.has(slot));
    if (more.length === 0 || slots.includes(current)) return false;
    for (const slot of more) this.#leftOut.set(slot, seen);
    this.#lookedAt = Date.now();
    this.#log.say('slots_locked', { slots: more });
    return true;
  }

  /**
   * Before a read: reads slots again that are free.
   * @returns false if they have events that were skipped
   */
  async takeBack(session: Session): Promise<boolean> {
    if (this.#leftOut.size === 0 || Date.now() - this.#lookedAt < LOOK_EVERY_MS) return true;
    this.#lookedAt = Date.now();
    const { slots } = await findLockedSlots(session);
    const free = [...this.#leftOut].filter(([slot]) => !slots.includes(slot));
    if (free.length === 0) return true;
    let unseen = false;
    try {
      for (const [slot, seen] of free) unseen ||= await hasUnseen(session, slot, seen);
    } catch (error) {
      // Locked again. Throwing would make the feed reconnect, and a new session reads every slot first.
      if (isLocked(error)) return true;
      throw error;
    }
    for (const [slot] of free) this.#leftOut.delete(slot);
    this.#log.say('slots_free', { slots: free.map(([slot]) => slot), unseen });
    return !unseen;
  }
}

function isLocked(error: unknown): boolean {
  return error instanceof Error && 'code' in error && error.code === '55P03';
}
