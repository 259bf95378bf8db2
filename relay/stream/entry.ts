// An entry travels from the process that reads the database to those that do not. It holds one step from a position to
// the next, with its events. Redis and the processes of one machine carry the same bytes.
//
// `elsewhere` names what does not fit into an entry and is read from the table. Entries of one hub form a chain: `seen`
// is the bound of the entry before. rule.ts decides what an edge does with an entry.
import { z } from 'zod';
import { RecadoError } from '../errors.ts';
import type { OutboxEvent } from '../outbox/events.ts';
import { covers, type Snapshot, sees, spell, unspell } from '../outbox/position.ts';

export interface Entry {
  /** The database's epoch, as in positions. */
  readonly epoch: string;
  /** Which run of which Postgres server it was read from: see readServer(). */
  readonly server: string;
  /** Name of the process that read it. */
  readonly hub: string;
  /** Sequence number among this hub's entries. */
  readonly number: number;
  /** The bound of this hub's previous entry. If that one was dropped, edges find a gap here. */
  readonly seen: Snapshot;
  /** What has been seen after this entry, with its witness. */
  readonly bound: Snapshot;
  /** In the order of their ids. */
  readonly events: readonly OutboxEvent[];
  /** Accounts whose events are not in the entry. Revocations and events for every account always are. */
  readonly elsewhere: readonly string[] | 'all';
}

/** Longest entry that is read, in characters. A hub makes them much smaller: see fit-entry.ts. */
export const LONGEST_ENTRY = 16 * 1024 * 1024;
/** Most accounts that `elsewhere` names; with more it is `all`. */
export const MOST_ELSEWHERE = 1_000;

/** @returns JSON, which parseEntry() reads */
export function encodeEntry(entry: Entry): string {
  return JSON.stringify({
    ...entry,
    seen: spell(entry.seen),
    bound: spell(entry.bound),
    events: entry.events.map((event) => ({ ...event, id: String(event.id), xid: String(event.xid) })),
  });
}

const id = z
  .string()
  .regex(/^[1-9]\d{0,18}$/)
  .transform(BigInt);
const snapshot = z.string().transform((text, context): Snapshot => {
  const read = unspell(text);
  if (read) return read;
  context.addIssue({ code: 'custom', message: 'expected a snapshot as the hub spells it' });
  return z.NEVER;
});
const name = z.string().max(300);

// Strict, since a field that this version does not know may restrict who hears an event.
const ENTRY = z
  .strictObject({
    epoch: z.string().regex(/^[0-9a-f]{12}$/),
    server: z.string().min(1).max(100),
    hub: z.string().min(1).max(100),
    number: z.int().min(1),
    seen: snapshot,
    bound: snapshot,
    events: z.array(
      z.strictObject({
        id,
        xid: id,
        account: name.nullable(),
        event: name,
        payload: z.string().nullable(),
        audience: z.array(name).nullable(),
        known: z.boolean(),
        capturedAt: z.number(),
      }),
    ),
    elsewhere: z.union([z.literal('all'), z.array(name).max(MOST_ELSEWHERE)]),
  })
  .refine(({ seen, bound }) => covers(bound, seen), 'expected a bound that sees what was seen before')
  .refine(
    ({ bound, events }) => events.every(({ xid }) => sees(bound, xid)),
    'expected a bound that sees the events',
  );

/**
 * @param received what encodeEntry() made
 * @throws RecadoError `entry_unreadable`, without any content of the events
 */
export function parseEntry(received: unknown): Entry {
  const text = Buffer.isBuffer(received) ? received.toString() : received;
  if (typeof text !== 'string') throw unreadable(`${typeof text}`);
  if (text.length > LONGEST_ENTRY) throw unreadable(`${text.length} characters`);
  let content: unknown;
  try {
    content = JSON.parse(text);
  } catch {
    throw unreadable(`${text.length} characters that are not JSON`);
  }
  const parsed = ENTRY.safeParse(content);
  if (parsed.success) return parsed.data;
  const [issue] = parsed.error.issues;
  throw unreadable(`one whose ${issue?.path.join('.') || 'content'} is wrong (${issue?.message})`);
}

function unreadable(received: string): RecadoError {
  return new RecadoError(
    'entry_unreadable',
    `Received a stream entry: ${received}; expected one as a hub of this version writes it. Update all nodes to one version, and let nothing else write to the stream.`,
  );
}
