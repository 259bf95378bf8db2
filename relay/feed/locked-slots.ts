// A lock on an old slot of relay.events (VACUUM FULL, a migration, LOCK TABLE) must not delay events in other slots.
//
// Reads skip a locked slot until it is free. It can only hide events that were committed just before the lock, or by its
// holder, and which the positions given out meanwhile claim to have seen. Once the slot is free, it is searched for such
// events. If there are any, every client must refetch. The slot that writers use now is never skipped: they wait for the
// same lock.
//
// The table relay.left_out has every skipped slot too, since a relay may end before it has searched it, and its clients go
// to another one. A relay searches its own slots at once, and those of others if they stay there although they are free.
import { errorCode } from '../errors.ts';
import type { Log } from '../log.ts';
import type { Session } from '../outbox/events.ts';
import type { Snapshot } from '../outbox/position.ts';
import {
  findLockedSlots,
  hasSkipped,
  type LeftOut,
  type LockedNow,
  NONE_LOCKED,
  type Recorded,
  readLeftOut,
  recordLeftOut,
  recordTakenBack,
  refetchAll,
} from '../outbox/slots.ts';

/** What lock_timeout throws. */
const LOCK_NOT_AVAILABLE = '55P03';
/** Reading pg_locks blocks, for a moment, every session that takes a lock. */
const LOOK_EVERY_MS = 500;
/** How often a relay that skips nothing looks at what others have skipped. */
const LOOK_AT_OTHERS_EVERY_MS = 5_000;
/** A relay whose slot is free for so long, and was not searched, is gone. */
const GONE_AFTER_MS = 4_000;

export interface LockedSlotsOptions {
  readonly log: Log;
  /**
   * For a reader that no client has positions of: called when events were skipped. It records nothing in the database, and
   * makes nobody refetch.
   */
  readonly onSkipped?: () => void;
}

export class LockedSlots {
  readonly #log: Log;
  readonly #onSkipped: (() => void) | undefined;
  readonly #leftOut = new Map<number, LeftOut>();
  /** Of other relays: since when their slot is known to be free. */
  #freeSince = new Map<string, number>();
  #lookAt = 0;

  constructor({ log, onSkipped }: LockedSlotsOptions) {
    this.#log = log;
    this.#onSkipped = onSkipped;
  }

  /** Slots that are not read at the moment. */
  get leftOut(): readonly number[] {
    return [...this.#leftOut.keys()].sort();
  }

  get skips(): boolean {
    return this.#leftOut.size > 0;
  }

  get #givesPositions(): boolean {
    return this.#onSkipped === undefined;
  }

  /** For a first read, which has not seen anything: the locked slots. None if writers wait for the same lock. */
  async findFirst(session: Session): Promise<LockedNow> {
    const locked = await findLockedSlots(session);
    if (locked.slots.length === 0 || locked.slots.includes(locked.current)) return NONE_LOCKED;
    this.#log.say('slots_locked', { slots: locked.slots });
    return locked;
  }

  /** Everything is read again from the start, without these slots. What `seen` has seen of them is not missing. */
  async startWithout(session: Session, slots: readonly number[], seen: Snapshot): Promise<void> {
    this.#leftOut.clear();
    await this.#add(session, slots, seen);
  }

  /**
   * After a failed read: skips locked slots, if they are the reason.
   * @returns whether it makes sense to read again
   */
  async leaveOut(session: Session, seen: Snapshot, error: unknown): Promise<boolean> {
    if (errorCode(error) !== LOCK_NOT_AVAILABLE) return false;
    const { slots, current } = await findLockedSlots(session);
    // The lock ended after the read failed.
    if (slots.length === 0) return true;
    const more = slots.filter((slot) => slot !== current && !this.#leftOut.has(slot));
    if (more.length === 0 || slots.includes(current)) return false;
    await this.#add(session, more, seen);
    this.#log.say('slots_locked', { slots: more });
    return true;
  }

  async #add(session: Session, slots: readonly number[], seen: Snapshot): Promise<void> {
    for (const slot of slots) {
      const id = this.#givesPositions ? await recordLeftOut(session, slot, seen) : null;
      this.#leftOut.set(slot, { id, slot, seen });
    }
    if (slots.length > 0) this.#lookAt = performance.now() + LOOK_EVERY_MS;
  }

  /**
   * Before a read, from time to time: searches skipped slots that are free, and reads them again. If events were skipped,
   * it begins another epoch instead.
   * @param passed what was seen after the last read: an event in a skipped slot that this does not see is yet to be read
   */
  async takeBack(session: Session, passed: Snapshot, epoch: string): Promise<void> {
    if (performance.now() < this.#lookAt) return;
    try {
      const recorded = this.#givesPositions ? await readLeftOut(session) : [];
      if (recorded.length > 0 || this.skips) await this.#search(session, recorded, passed, epoch);
    } catch (error) {
      // Throwing would make the feed reconnect, and a new session reads every slot first.
      if (errorCode(error) !== LOCK_NOT_AVAILABLE) throw error;
    } finally {
      this.#lookAt = performance.now() + (this.skips ? LOOK_EVERY_MS : LOOK_AT_OTHERS_EVERY_MS);
    }
  }

  async #search(
    session: Session,
    recorded: readonly Recorded[],
    passed: Snapshot,
    epoch: string,
  ): Promise<void> {
    const { slots } = await findLockedSlots(session);
    const isFree = ({ slot }: LeftOut) => !slots.includes(slot);
    const own = [...this.#leftOut.values()].filter(isFree);
    const orphans = this.#findOrphans(recorded.filter(isFree));
    if (own.length + orphans.length === 0) return;
    let skipped = false;
    for (const leftOut of own) skipped ||= await hasSkipped(session, leftOut, passed);
    // Their clients may have seen more than this relay has.
    for (const leftOut of orphans) skipped ||= await hasSkipped(session, leftOut, null);
    const found = [...own, ...orphans];
    this.#log.say('slots_free', { slots: found.map(({ slot }) => slot), unseen: skipped });
    // The next read finds the other epoch.
    if (skipped && this.#givesPositions) return refetchAll(session, epoch);
    if (skipped) this.#onSkipped?.();
    if (this.#givesPositions) await recordTakenBack(session, found);
    for (const { slot } of own) this.#leftOut.delete(slot);
  }

  /** Those of relays that would have searched them, if they still ran. */
  #findOrphans(free: readonly Recorded[]): Recorded[] {
    const now = performance.now();
    const others = free.filter(({ id, slot }) => this.#leftOut.get(slot)?.id !== id);
    this.#freeSince = new Map(others.map(({ id }) => [id, this.#freeSince.get(id) ?? now]));
    return others.filter(({ id }) => now - this.#freeSince.get(id)! >= GONE_AFTER_MS);
  }
}
