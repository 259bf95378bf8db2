// Reads an instance over REST: its state, then what changed or everything. One reading at a time.
import type { Log } from '../log.ts';
import type { Api } from './api/api.ts';
import { type CatchUp, catchUp } from './ingest/catchup.ts';
import type { Instance } from './ingest/instance.ts';
import type { Store } from './ingest/store.ts';
import type { WriteQueue } from './ingest/write-queue.ts';
import type { Pace } from './pace.ts';
import { readAddress } from './payloads/jid.ts';

/** WhatsApp lets people take a message back for two and a half days. */
const MAY_BE_REVOKED_MS = 60 * 3_600_000;

export interface ReaderOptions {
  /** Updated with what readings find. */
  instance: Instance;
  api: Api;
  store: Store;
  queue: Pick<WriteQueue, 'sessionsHeard' | 'own'>;
  log: Log;
  pace: Pace;
  signal: AbortSignal;
}

export interface Reader {
  /** Reads what changed. It begins after the call: a reading under way may be past what is missing. */
  readNext(): Promise<void>;
  /** Reads everything; the result includes that of a reading it waited for. */
  readAll(): Promise<Pick<CatchUp, 'created' | 'updated'>>;
  /** Resolves when nothing is being read. */
  idle(): Promise<void>;
}

export function createReader({ instance, api, store, queue, log, pace, signal }: ReaderOptions): Reader {
  let reading: Promise<CatchUp> | null = null;

  async function readSession(): Promise<string | null> {
    const heard = queue.sessionsHeard;
    const { state, ownJid, profileName, serverId } = await api.session();
    instance.ownJid = ownJid ?? instance.ownJid;
    // An event that was heard meanwhile is newer than the answer.
    const isCurrent = () => heard === queue.sessionsHeard;
    if (state !== null && isCurrent()) {
      await store.setSession(instance, { state, reason: null, ownJid, profileName });
      // The event of the current code may have come before anybody listened.
      const qr = state === 'connecting' ? await api.qrCode() : null;
      if (qr !== null && isCurrent()) await store.setQr(instance, { ...qr, problem: null });
    }
    return serverId;
  }

  async function readOnce(allChats: boolean): Promise<CatchUp> {
    const serverId = await readSession();
    // Since 2.3 a revoked message has the time of the revoke; in older versions it keeps its own time.
    const deletedIsRevoked = /^2\.[0-2]\./.test((await api.version()) ?? '');
    const done = await catchUp({
      api,
      store,
      instance,
      own: readAddress(instance.ownJid) ?? queue.own,
      serverId,
      deletedIsRevoked,
      signal,
      allChats,
      overlapMs: Math.max(pace.overlapMs, deletedIsRevoked ? MAY_BE_REVOKED_MS : 0),
      pageSize: pace.pageSize,
      onProgress: (progress) => log.say('evolution_reading', { instance: instance.name, ...progress }),
    });
    instance.caughtUpTo = done.caughtUpTo;
    instance.older = done.older;
    instance.serverId = done.serverId;
    instance.synced = true;
    log.say('evolution_caught_up', {
      instance: instance.name,
      created: done.created.size,
      updated: done.updated.size,
      messages: done.messages,
    });
    return done;
  }

  /** Begins after any reading under way; `waitedFor` is the last of these that succeeded. */
  async function read(allChats: boolean): Promise<{ waitedFor: CatchUp | null; done: CatchUp }> {
    let waitedFor: CatchUp | null = null;
    while (reading !== null) waitedFor = await reading.catch(() => null);
    reading = readOnce(allChats).finally(() => {
      reading = null;
    });
    return { waitedFor, done: await reading };
  }

  return {
    async readNext() {
      await read(false);
    },
    async readAll() {
      const { waitedFor, done } = await read(true);
      const { created, updated } = done;
      for (const chat of waitedFor?.updated ?? []) updated.add(chat);
      for (const chat of waitedFor?.created ?? []) {
        created.add(chat);
        updated.delete(chat);
      }
      return { created, updated };
    },
    async idle() {
      await reading?.catch(() => undefined);
    },
  };
}
