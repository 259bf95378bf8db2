// A lock on an old slot of relay.events (VACUUM FULL, a migration, LOCK TABLE) must not delay events in other slots.
//
// Reads skip a locked slot until it is free. Nobody else can write to it meanwhile, so it can only hide events that
// were committed just before the lock, or by its holder. Once the slot is free, it is searched for such events. If there
// are any, the positions given out meanwhile are wrong and every client must refetch. The slot that writers use now is
// never skipped: they wait for the same lock.
//
// The table relay.left_out has the same as the memory of this process, for the process that follows it.
import type { Log } from '../log.ts';
import type { Session } from '../outbox/events.ts';
import type { Snapshot } from '../outbox/position.ts';
import {
  findLockedSlots,
  hasUnseen,
  type LeftOut,
  type LockedNow,
  NONE_LOCKED,
  readLeftOut,
  recordLeftOut,
  recordTakenBack,
} from '../outbox/slots.ts';

/** Reading pg_locks blocks, for a moment, every session that takes a lock. */
const LOOK_EVERY_MS = 500;

export class LockedSlots {
  readonly #log: Log;
  #leftOut = new Set<number>();
  /** To be searched as soon as their slots are free. */
  #skipped: LeftOut[] = [];
  #lookedAt = 0;

  constructor(log: Log) {
    this.#log = log;
  }

  /** Slots that are not read at the moment. */
  get leftOut(): readonly number[] {
    return [...this.#leftOut].sort();
  }

  /** Whether a slot must be searched once it is free. */
  get isAnySkipped(): boolean {
    return this.#skipped.length > 0;
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
    this.#leftOut = new Set(slots);
    this.#skipped = slots.map((slot) => ({ slot, seen }));
    this.#lookedAt = Date.now();
  }

  /** Before positions are given out: knows what the processes before it skipped, and what this one does from the start. */
  async record(session: Session): Promise<void> {
    const inherited = await readLeftOut(session);
    for (const { slot, seen } of this.#skipped) await recordLeftOut(session, [slot], seen);
    this.#skipped.push(...inherited);
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
    await recordLeftOut(session, more, seen);
    for (const slot of more) {
      this.#leftOut.add(slot);
      this.#skipped.push({ slot, seen });
    }
    this.#lookedAt = Date.now();
    this.#log.say('slots_locked', { slots: more });
    return true;
  }

  /**
   * Before a read: reads slots again that are free.
   * @param seen what is handed on so far: the next read finds everything else
   * @returns false if they have events that were skipped. Only a new epoch ends that.
   */
  async takeBack(session: Session, seen: Snapshot): Promise<boolean> {
    if (!this.isAnySkipped || Date.now() - this.#lookedAt < LOOK_EVERY_MS) return true;
    this.#lookedAt = Date.now();
    const { slots } = await findLockedSlots(session);
    const free = this.#skipped.filter(({ slot }) => !slots.includes(slot));
    if (free.length === 0) return true;
    let unseen = false;
    try {
      for (const skipped of free) unseen ||= await hasUnseen(session, skipped, seen);
    } catch (error) {
      // Locked again. Throwing would make the feed reconnect, and a new session reads every slot first.
      if (isLocked(error)) return true;
      throw error;
    }
    const freeSlots = [...new Set(free.map(({ slot }) => slot))];
    this.#log.say('slots_free', { slots: freeSlots, unseen });
    if (unseen) return false;
    await recordTakenBack(session, freeSlots);
    for (const slot of freeSlots) this.#leftOut.delete(slot);
    this.#skipped = this.#skipped.filter(({ slot }) => !freeSlots.includes(slot));
    return true;
  }
}

/** Whether lock_timeout ended the wait for a lock. */
export function isLocked(error: unknown): boolean {
  return error instanceof Error && 'code' in error && error.code === '55P03';
}
