// What a page of one kind saw, as far as it is compared with what committed.
import type { EventKey } from './ledger.ts';

/**
 * - `browser` begins with polling and upgrades, as a stock client does; its token is a plain object.
 * - `websocket` uses websockets only and moves between the nodes.
 * - `impatient` has tokens that last seconds, and a function that gives it a new one.
 * - `keeper` keeps its position and resumes from it after a reload of the page.
 * - `forgetful` does too, but its position is that of some events ago: it hears those again, and nobody else.
 * - `loader` loads its list and relay.position() in one transaction, and connects from there.
 * - `polling` never gets a websocket.
 * - `stream` is no Socket.IO client at all, but Server-Sent Events.
 * - `changing` gets other topics during the run: by a fresh token, and by a row that takes one away.
 */
export const KINDS = [
  'browser',
  'websocket',
  'impatient',
  'keeper',
  'forgetful',
  'loader',
  'polling',
  'stream',
  'changing',
] as const;
export type Kind = (typeof KINDS)[number];

/** The list was loaded anew, since the page was told relay:resync. */
export interface Refetch {
  readonly reason: string;
  /** How old the position was that the page had. */
  readonly ageMs: number;
  /** How many events the page had heard. */
  readonly after: number;
  /** What was in the list; null: it is not there yet. */
  list: ReadonlySet<EventKey> | null;
}

/** From here on the page hears by other topics. */
export interface Turn {
  /** How many events it had heard. */
  readonly after: number;
  readonly topics: readonly string[];
  /** When they were to change, and when it was told; by Date.now(). */
  readonly askedAt: number;
  readonly toldAt: number;
}

/** What one page saw, as far as it is to be compared. */
export interface Viewing {
  readonly name: string;
  readonly account: string;
  readonly kind: Kind;
  /** Events it need not hear, since they were in the list it loaded. */
  readonly known: ReadonlySet<EventKey>;
  readonly seen: EventKey[];
  /** When it heard each, by Date.now(). */
  readonly heardAt: number[];
  readonly refetches: Refetch[];
  /** The first one is its beginning. */
  readonly turns: Turn[];
  /** What became of its connections, and when, for the report of an error. */
  readonly connections: { readonly at: number; readonly what: string }[];
  /** When the page was closed, by Date.now(); Infinity: it was there until the end, and so must have heard everything. */
  closedAt: number;
}

export interface Figures {
  connects: number;
  recovered: number;
  /** How often its topics were to change. */
  changes: number;
  /** relay:resync, by reason. */
  readonly resyncs: Map<string, number>;
  /** Why it was told to refetch as the first thing on a connection that says it recovered. */
  readonly contradictions: string[];
  /** What no client should meet; the name of the client goes before it. */
  readonly complaints: string[];
}
