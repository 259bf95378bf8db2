// From the socket to the database. Envelopes queue while a write is under way and are then written together, so that a
// burst takes a few statements. The queue is bounded; what does not fit is read again over REST.
import { setTimeout as delay } from 'node:timers/promises';
import { errorText } from '../../errors.ts';
import type { Log } from '../../log.ts';
import { type Address, readAddress } from '../payloads/jid.ts';
import { openEnvelope, readEnvelope } from '../payloads/payloads.ts';
import { type Json, redact } from '../payloads/redact.ts';
import type { Instance } from './instance.ts';
import type { Store, Unit } from './store.ts';

const MAX_QUEUED_BYTES = 64 * 1024 * 1024;
const MAX_QUEUED = 50_000;
/** How long events wait for a catch-up at most. */
const LONGEST_WAIT_MS = 20_000;
// A batch is one statement and one transaction: past a few thousand messages it gains nothing.
const MAX_BATCH = 2_000;
const MAX_BATCH_BYTES = 2 * 1024 * 1024;

export interface WriteQueue {
  /** Takes an envelope as the socket received it. Never throws. @returns whether it is this instance's */
  receive(event: string, payload: unknown, namespace: 'own' | 'root'): boolean;
  /** Number of connection updates so far. A REST answer is out of date if it grew since the request. */
  readonly sessionsHeard: number;
  /** The instance's own number, once an envelope has named it. */
  readonly own: Address | null;
  /**
   * Delays writing until the promise settles, for a limited time, so that missed messages come first. Nothing is lost
   * if it takes longer; a client may then hear a later message of a chat before an earlier one.
   */
  waitFor(gap: Promise<unknown>): void;
  /** Resolves when everything received so far is written, or the queue is closed. */
  drained(): Promise<void>;
  close(): void;
}

export interface WriteQueueOptions {
  instance: Instance;
  store: Store;
  log: Log;
  /** Called when envelopes had to be dropped: the gap must be read over REST. */
  overflowed(): void;
  signal: AbortSignal;
}

type Work =
  | { unit: Unit; bytes: number }
  | { reject: { event: string; reason: string; item: Json }; bytes: number };

export function createWriteQueue({
  instance,
  store,
  log,
  overflowed,
  signal,
}: WriteQueueOptions): WriteQueue {
  const skip = new Set(instance.skip);
  let own: Address | null = readAddress(instance.ownJid);
  let queue: Work[] = [];
  let queuedBytes = 0;
  let dropped = 0;
  let sessionsHeard = 0;
  let writing: Promise<void> | null = null;
  let waiting: Promise<unknown> = Promise.resolve();
  const closing = new AbortController();

  function enqueue(work: Work): void {
    if (queuedBytes + work.bytes > MAX_QUEUED_BYTES || queue.length >= MAX_QUEUED) {
      if (dropped++ === 0) log.say('evolution_overflowed', { instance: instance.name });
      return;
    }
    queue.push(work);
    queuedBytes += work.bytes;
    writing ??= write().finally(() => {
      writing = null;
    });
  }

  function nextBatch(): Work[] {
    let bytes = 0;
    let end = 0;
    for (const work of queue) {
      bytes += work.bytes;
      if (end > 0 && (end >= MAX_BATCH || bytes > MAX_BATCH_BYTES)) break;
      end++;
    }
    return queue.slice(0, end);
  }

  async function write(): Promise<void> {
    // Let what arrived in the same packet join the first batch.
    await Promise.resolve();
    for (let failures = 0; queue.length > 0 && !signal.aborted; ) {
      await everyGap();
      const batch = nextBatch();
      try {
        await writeBatch(batch);
      } catch (error) {
        failures++;
        if (failures === 1 || failures % 20 === 0) {
          log.say('evolution_write_failed', { instance: instance.name, error: errorText(error), failures });
        }
        await delay(Math.min(5_000, 100 * 2 ** failures), undefined, { signal }).catch(() => undefined);
        continue;
      }
      failures = 0;
      queue = queue.slice(batch.length);
      queuedBytes -= batch.reduce((sum, work) => sum + work.bytes, 0);
    }
    if (dropped > 0 && !signal.aborted) {
      dropped = 0;
      overflowed();
    }
  }

  /** Waits for every gap, also for those that open meanwhile. */
  async function everyGap(): Promise<void> {
    for (let known: unknown; known !== waiting; ) {
      known = waiting;
      await waiting;
    }
  }

  async function writeBatch(batch: Work[]): Promise<void> {
    const units = batch.flatMap((work) => ('unit' in work ? [work.unit] : []));
    await store.ingest(instance, units);
    for (const { facts } of units) {
      if (facts.session !== null) await store.setSession(instance, facts.session);
      if (facts.qr !== null) await store.setQr(instance, facts.qr);
    }
    for (const work of batch) {
      if (!('reject' in work)) continue;
      const { event, reason, item } = work.reject;
      log.say('evolution_rejected', { instance: instance.name, name: event, reason });
      await store.reject(instance, event, reason, item);
    }
  }

  function read(event: string, payload: unknown, namespace: 'own' | 'root'): boolean {
    const envelope = openEnvelope(event, payload);
    // The root namespace of a global server carries every instance.
    if (envelope.instance === null ? namespace === 'root' : envelope.instance !== instance.name) return false;
    own = envelope.sender ?? own;
    const { facts, rejections } = readEnvelope(envelope, { own, skip });
    if (facts.session !== null) sessionsHeard++;
    for (const reject of rejections) {
      enqueue({ reject: { event: envelope.event, ...reject }, bytes: JSON.stringify(reject.item).length });
    }
    if (!facts.empty || facts.session !== null || facts.qr !== null) {
      enqueue({ unit: { event: envelope.event, facts }, bytes: 200 + facts.bytes });
    }
    return true;
  }

  return {
    receive(event, payload, namespace) {
      try {
        return read(event, payload, namespace);
      } catch (error) {
        // A defect of the worker. The envelope is kept in evolution.rejected, to be examined.
        enqueue({
          reject: { event, reason: `could not be read: ${errorText(error)}`, item: redact(payload) ?? null },
          bytes: 1_000,
        });
        return false;
      }
    },
    get sessionsHeard() {
      return sessionsHeard;
    },
    get own() {
      return own;
    },
    waitFor(gap) {
      const limit = delay(LONGEST_WAIT_MS, undefined, { signal: closing.signal, ref: false });
      const over = Promise.race([gap, limit]).catch(() => undefined);
      waiting = Promise.all([waiting, over]);
    },
    async drained() {
      closing.abort();
      while (writing !== null) await writing;
    },
    close() {
      queue = [];
    },
  };
}
