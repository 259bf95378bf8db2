// What the worker learned from one or many envelopes, in the form evolution.ingest() takes. Facts can be added twice and
// in any order; the tables end the same.

import { type Address, type Pair, pairOf, readAddress } from './jid.ts';
import type { Media } from './media.ts';
import type { JsonObject } from './redact.ts';

/**
 * The application's words for WhatsApp's acknowledgements, in the order a message goes through them. FAILED is above
 * SENT, since the Cloud API says it later, and below DELIVERED, which proves it wrong.
 */
export const MESSAGE_STATUSES = ['PENDING', 'SENT', 'FAILED', 'DELIVERED', 'READ', 'PLAYED'] as const;
export type MessageStatus = (typeof MESSAGE_STATUSES)[number];

export interface MessageFact {
  /** Alias of the chat. */
  chat: string;
  /** key.id of WhatsApp. */
  id: string;
  fromMe: boolean;
  kind: string;
  content: string;
  status: MessageStatus;
  /** Milliseconds; null where the message carries no time. */
  sentAt: number | null;
  /** An event, not history. Only Evolution's count of the chat says whether history is unread. */
  live: boolean;
  /** What clients of the Evolution message read: key, pushName, message without binaries, … */
  whatsapp: JsonObject;
  media: Media | null;
}

/** Something that happened to a message, which may not have been seen yet. */
export type ChangeFact =
  | { id: string; kind: 'status'; status: MessageStatus }
  /** `at` null: the server gave no time; then any edit with a time wins. `seen`: read over REST, not heard. */
  | { id: string; kind: 'edit'; content: string; at: number | null; seen: boolean }
  | { id: string; kind: 'delete' };

export interface ReactionFact {
  id: string;
  /** `me`, or the alias of who reacted. */
  reactor: string;
  emoji: string;
  at: number;
}

export interface NameFact {
  alias: string;
  name: string;
  /** Milliseconds of the message that carried it; null for a name without a time. */
  said: number | null;
  /** For a name without a time: the newest message of the address before it. */
  after: number | null;
  /** False: counts only if the name is a new one, since a REST answer repeats old names. */
  news: boolean;
  /** The name in the phone's address book, which wins over what people call themselves. */
  book: boolean;
}

export interface ChatFact {
  alias: string;
  /** Evolution's own unread count, as REST answers give it. */
  unread: number | null;
  /** `unreadCount` as a bridge states it in a chat update; it replaces ours. */
  stated: number | null;
  lastAt: number | null;
  /** False: only change a chat that exists. */
  create: boolean;
}

export interface SessionFact {
  state: string;
  reason: string | null;
  ownJid: string | null;
  profileName: string | null;
}

export interface QrFact {
  code: string | null;
  pairingCode: string | null;
  /** Why there is none: Evolution gives up after a number of codes. */
  problem: string | null;
}

export class Facts {
  readonly addresses = new Map<string, string>();
  readonly pairs = new Map<string, string>();
  readonly messages: MessageFact[] = [];
  readonly changes: ChangeFact[] = [];
  readonly reactions: ReactionFact[] = [];
  readonly names: NameFact[] = [];
  readonly chats: ChatFact[] = [];
  readonly removed: string[] = [];
  session: SessionFact | null = null;
  qr: QrFact | null = null;
  /** About how much memory the messages take, to bound a queue of facts. */
  bytes = 0;

  readonly #newest = new Map<string, number>();

  /** Remembers how the address is written and returns its alias. */
  address(address: Address): string {
    const known = this.addresses.get(address.alias);
    if (known === undefined || address.jid.length > known.length)
      this.addresses.set(address.alias, address.jid);
    return address.alias;
  }

  /** Notes that two addresses are one person, if they are a LID and a phone number. */
  pair(one: Address | null, other: Address | null): void {
    const pair: Pair | null = pairOf(one, other);
    if (pair === null) return;
    this.pairs.set(this.address(pair.lid), this.address(pair.phone));
  }

  message(message: MessageFact): void {
    this.messages.push(message);
    if (message.sentAt !== null) {
      this.#newest.set(message.chat, Math.max(message.sentAt, this.#newest.get(message.chat) ?? 0));
    }
  }

  name(alias: string, name: string, said: number | null, news = true, book = false): void {
    if (isAddress(name)) return;
    const after = said === null ? (this.#newest.get(alias) ?? null) : null;
    this.names.push({ alias, name: name.slice(0, 200), said, after, news, book });
  }

  get empty(): boolean {
    return (
      this.addresses.size === 0 &&
      this.messages.length === 0 &&
      this.changes.length === 0 &&
      this.reactions.length === 0 &&
      this.removed.length === 0
    );
  }

  /** Adds the facts of a reading that came after this one. */
  add(other: Facts): void {
    for (const [alias, jid] of other.addresses) {
      const known = this.addresses.get(alias);
      if (known === undefined || jid.length > known.length) this.addresses.set(alias, jid);
    }
    for (const [lid, phone] of other.pairs) this.pairs.set(lid, phone);
    for (const name of other.names) {
      const before = this.#newest.get(name.alias) ?? null;
      this.names.push(name.said !== null ? name : { ...name, after: newest(name.after, before) });
    }
    for (const message of other.messages) this.message(message);
    this.bytes += other.bytes;
    for (const change of other.changes) this.changes.push(change);
    for (const reaction of other.reactions) this.reactions.push(reaction);
    for (const chat of other.chats) this.chats.push(chat);
    for (const alias of other.removed) this.removed.push(alias);
    this.session = other.session ?? this.session;
    this.qr = other.qr ?? this.qr;
  }

  /** The argument of evolution.ingest(). */
  toJSON(): Record<string, unknown> {
    return {
      addresses: [...this.addresses].map(([alias, jid]) => ({ alias, jid })),
      pairs: [...this.pairs].map(([lid, phone]) => ({ lid, phone })),
      messages: this.messages,
      changes: this.changes,
      reactions: this.reactions,
      names: this.names,
      chats: this.chats,
      removed: this.removed,
    };
  }
}

/** Where a person has no name the server puts the address, or the LID. */
function isAddress(name: string): boolean {
  return /^\+?[\d\s().-]{8,}$/.test(name) || readAddress(name) !== null;
}

function newest(a: number | null, b: number | null): number | null {
  return a === null ? b : b === null ? a : Math.max(a, b);
}
