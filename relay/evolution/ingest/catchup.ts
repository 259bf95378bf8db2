// Evolution does not replay events. After every connect the worker reads over REST what it may have missed: chats, then
// messages from some time before the point up to which everything is known. Reading a fact twice changes nothing.
import type { Api, MessagePage } from '../api/api.ts';
import { readObject } from '../payloads/field.ts';
import { type Address, readAddress } from '../payloads/jid.ts';
import { timeOf } from '../payloads/message.ts';
import { type Reading, readChatPage, readMessagePage, readNames } from '../payloads/payloads.ts';
import type { Instance } from './instance.ts';
import type { Store } from './store.ts';

export interface CatchUpOptions {
  api: Api;
  store: Store;
  instance: Instance;
  own: Address | null;
  signal: AbortSignal;
  /** Id of the instance on the server; null where the server does not say. */
  serverId: string | null;
  /** The server writes DELETED only where a message was revoked. */
  deletedIsRevoked: boolean;
  /** Read everything, not only what changed since. */
  allChats: boolean;
  /** How far before the known point to begin: messages reach Evolution late, and out of order. */
  overlapMs: number;
  pageSize: number;
  onProgress: (read: Progress) => void;
}

export interface Progress {
  chats: number;
  messages: number;
  /** How many messages there are to read; null: not known yet. */
  of: number | null;
}

export interface CatchUp {
  created: Set<number>;
  updated: Set<number>;
  messages: number;
  /** The time of the newest message; the next catch-up begins shortly before it. */
  caughtUpTo: Date | null;
  older: Instance['older'];
  serverId: string | null;
}

async function hasOtherHistory({ api, instance, serverId }: CatchUpOptions): Promise<boolean> {
  const { older } = instance;
  if (serverId !== null && instance.serverId !== null && serverId !== instance.serverId) return true;
  if (older === null) return false;
  const total = await api.countUntil(older.until);
  return total !== null && total !== older.total;
}

export async function catchUp(options: CatchUpOptions): Promise<CatchUp> {
  const { store, instance, own, deletedIsRevoked } = options;
  const isFirst = !instance.synced;
  const begin = (to: Date) => new Date(to.getTime() - options.overlapMs);
  // Counted before anything is read: if old messages arrive meanwhile, the next catch-up finds another number.
  const until = begin(instance.caughtUpTo ?? new Date());
  const total = await options.api.countUntil(until);
  // Old history can reach the server late, while nobody listens, and an instance can be created again. Then the number
  // of old messages differs, and everything is read. A requested sync reads everything, too.
  const readsAll = options.allChats || (await hasOtherHistory(options));
  const since = readsAll || instance.caughtUpTo === null ? null : until;
  const result: CatchUp = {
    created: new Set(),
    updated: new Set(),
    messages: 0,
    caughtUpTo: instance.caughtUpTo,
    older: total === null ? null : { until, total },
    serverId: options.serverId ?? instance.serverId,
  };
  const context = { own, skip: new Set(instance.skip) };
  const arrival = () => ({ as: 'rest', readAt: Date.now(), deletedIsRevoked }) as const;

  // One reading per item, so that the database can refuse a single one.
  async function write(event: string, readings: readonly Reading[]): Promise<void> {
    for (const { reason, item } of readings.flatMap(({ rejections }) => rejections))
      await store.reject(instance, event, reason, item);
    const units = readings.map(({ facts }) => ({ event, facts }));
    const { created, updated, messages } = await store.ingest(instance, units, isFirst);
    for (const chat of created) result.created.add(chat);
    for (const chat of updated) result.updated.add(chat);
    result.messages += messages;
  }

  const read: Progress = { chats: 0, messages: 0, of: null };
  await inPages(chatPages(options, since, isFirst), options.signal, (items) => {
    const readings = items.map((item) => readChatPage([item], context, arrival(), since));
    return async () => {
      await write('findChats', readings);
      read.chats += items.length;
      options.onProgress(read);
    };
  });
  if (isFirst || options.allChats) {
    const reading = readNames(await options.api.contacts(), await options.api.groups(), context);
    await write('findContacts', [reading]);
  }
  await inPages(
    together(messagePages(options, { since, newestFirst: isFirst, progress: read })),
    options.signal,
    (records) => {
      const readings = records.map((record) => readMessagePage([record], context, arrival()));
      const newest = Math.max(...records.map((record) => timeOf(record) ?? 0));
      return async () => {
        await write('findMessages', readings);
        if (newest > (result.caughtUpTo?.getTime() ?? 0)) result.caughtUpTo = new Date(newest);
        read.messages += records.length;
        options.onProgress(read);
      };
    },
  );

  await store.caughtUp(instance, result);
  for (const chat of result.created) result.updated.delete(chat);
  return result;
}

/** Fetches the next page while one is written. At most two are in memory. */
async function inPages(
  pages: AsyncGenerator<unknown[]>,
  signal: AbortSignal,
  read: (items: unknown[]) => () => Promise<void>,
): Promise<void> {
  let writing: Promise<void> = Promise.resolve();
  try {
    for await (const items of pages) {
      const write = read(items);
      await writing;
      signal.throwIfAborted();
      writing = write();
      // The next `await` throws its failure. Without this, Node reports it as unhandled before.
      writing.catch(() => undefined);
    }
  } finally {
    await writing;
  }
}

/** Messages written at once: each write updates most chats, whatever its size. Two such batches are in memory. */
const MESSAGES_AT_ONCE = 4_000;

async function* together(pages: AsyncGenerator<unknown[]>): AsyncGenerator<unknown[]> {
  let gathered: unknown[] = [];
  for await (const items of pages) {
    gathered = gathered.concat(items);
    if (gathered.length < MESSAGES_AT_ONCE) continue;
    yield gathered;
    gathered = [];
  }
  if (gathered.length > 0) yield gathered;
}

// The server sorts by last change, newest first, and chats change meanwhile. So pages overlap, and a page with nothing
// new is the last. Some versions ignore `take` and answer with everything.
async function* chatPages(
  { api, allChats, pageSize }: CatchUpOptions,
  since: Date | null,
  isFirst: boolean,
): AsyncGenerator<unknown[]> {
  const seen = new Set<string>();
  const overlap = Math.min(10, pageSize >> 1);
  for (let skip = 0; ; skip += pageSize - overlap) {
    const items = await api.chats(skip, pageSize);
    const fresh = items.filter((item) => {
      const id = chatId(item);
      if (id === null) return true;
      if (seen.has(id)) return false;
      seen.add(id);
      return true;
    });
    if (fresh.length === 0) return;
    for (let i = 0; i < fresh.length; i += pageSize) yield fresh.slice(i, i + pageSize);
    if (items.length !== pageSize) return;
    const isOld = (item: unknown) => {
      const at = readObject(item)?.updatedAt;
      return typeof at === 'string' && since !== null && Date.parse(at) < since.getTime();
    };
    if (!allChats && !isFirst && items.every(isOld)) return;
  }
}

function chatId(item: unknown): string | null {
  const fields = readObject(item);
  const key = readObject(readObject(fields?.lastMessage)?.key);
  return (
    (readAddress(fields?.remoteJid) ?? readAddress(fields?.id) ?? readAddress(key?.remoteJid))?.jid ?? null
  );
}

interface MessagePages {
  since: Date | null;
  /**
   * For a first reading, whose messages no client hears: each chat gets its last message at once, not again with each
   * page. Otherwise the oldest come first, so that a client hears a chat's messages in order.
   */
  newestFirst: boolean;
  progress: Progress;
}

async function* messagePages(
  options: CatchUpOptions,
  { since, newestFirst, progress }: MessagePages,
): AsyncGenerator<unknown[]> {
  const { api, pageSize } = options;
  const newest = await api.messages(since, 1, pageSize);
  progress.of = newest.pages === null ? newest.records.length : newest.total;
  if (newest.pages === null) yield* inParts(oldestFirst(newest.records), pageSize);
  else if (newestFirst) yield* fromTheFirstPage(options, since, newest);
  else yield* fromTheLastPage(options, since, newest.pages, newest);
}

// The server's first page is the newest. A message that arrives between two requests moves others to the page that comes
// next, where they are read again. A deletion moves others to pages already read, so those pages are read again.
async function* fromTheFirstPage(
  { api, pageSize }: CatchUpOptions,
  since: Date | null,
  first: MessagePage,
): AsyncGenerator<unknown[]> {
  yield first.records;
  let before = first;
  for (let page = 2; page <= (before.pages ?? 1); page++) {
    const answer = await api.messages(since, page, pageSize);
    const moved = Math.ceil((before.total - answer.total) / first.records.length);
    for (let again = Math.max(1, page - moved); again < page; again++)
      yield (await api.messages(since, again, pageSize)).records;
    yield answer.records;
    before = answer;
  }
}

// A message that arrives between two requests moves others to the page just read, so that page is read again.
async function* fromTheLastPage(
  { api, pageSize }: CatchUpOptions,
  since: Date | null,
  pages: number,
  newest: MessagePage,
): AsyncGenerator<unknown[]> {
  let { total } = newest;
  for (let page = pages; page > 1; page--) {
    const answer = await api.messages(since, page, pageSize);
    if (answer.total > total) {
      total = answer.total;
      yield oldestFirst((await api.messages(since, page + 1, pageSize)).records);
    }
    yield oldestFirst(answer.records);
  }
  const last = pages > 1 ? await api.messages(since, 1, pageSize) : newest;
  if (last.total > total) yield oldestFirst((await api.messages(since, 2, pageSize)).records);
  yield oldestFirst(last.records);
}

function oldestFirst(records: readonly unknown[]): unknown[] {
  return [...records].reverse().sort((a, b) => (timeOf(a) ?? 0) - (timeOf(b) ?? 0));
}

function* inParts(items: unknown[], size: number): Generator<unknown[]> {
  for (let i = 0; i < items.length; i += size) yield items.slice(i, i + size);
}
