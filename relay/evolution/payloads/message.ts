// One message of Evolution, and what happens to it: status, edits, deletion. From unknown to facts.
import { isBetweenDevices, readContent, readProtocol, textOf, unwrap } from './content.ts';
import { type Facts, MESSAGE_STATUSES, type MessageStatus } from './facts.ts';
import {
  type Fields,
  fieldsOf,
  idOf,
  readLong,
  readObject,
  readText,
  readTime,
  typeName,
  Unreadable,
} from './field.ts';
import { type Address, readAddress } from './jid.ts';
import { type JsonObject, redactFields } from './redact.ts';

/** Longest JSON of a message that is kept with it; text alone is at most 64 KiB in WhatsApp. */
const MAX_FIELDS = 512 * 1024;

export interface Context {
  /** Number of the WhatsApp account itself, where known: never anybody else's alternative address. */
  own: Address | null;
  /** Kinds of chats the instance leaves out. */
  skip: ReadonlySet<string>;
}

/** How a message came: as it happened, in a history the phone sent, or as an answer over REST. */
export type Arrival = { as: 'live' } | { as: 'history' } | RestArrival;

export interface RestArrival {
  as: 'rest';
  readAt: number;
  /** The server writes DELETED where a message was taken back, and nowhere else. */
  deletedIsRevoked: boolean;
}

export function readMessage(facts: Facts, item: unknown, arrival: Arrival, context: Context): void {
  const fields = fieldsOf(item, 'a message');
  const key = fieldsOf(fields.key, 'key of a message');
  const id = idOf(key.id, 'key.id');
  const chat = readAddress(key.remoteJid) ?? readAddress(fields.remoteJid);
  if (chat === null)
    throw new Unreadable(
      `expected key.remoteJid to be a WhatsApp address, received ${typeName(key.remoteJid)}`,
    );
  const fromMe = key.fromMe === true || key.fromMe === 'true';
  learnPairs(facts, chat, key, fields, fromMe, context);
  if (context.skip.has(chat.kind)) return;

  const alias = facts.address(chat);
  const sentAt = readTime(fields.messageTimestamp);
  const sender = senderOf(chat, key);
  const pushName = fromMe ? null : readText(fields.pushName);
  if (pushName !== null && sender !== null) facts.name(facts.address(sender), pushName, sentAt ?? 0);

  const reading = readContent(fields.message);
  switch (reading.is) {
    case 'nothing':
      // After a revoke a REST record has no content.
      if (arrival.as === 'rest') readTraces(facts, fields, key, id, '', arrival);
      return;
    case 'protocol': {
      const { kind, targetId, at, content } = reading.protocol;
      if (kind === 'delete') facts.changes.push({ id: targetId, kind });
      else facts.changes.push({ id: targetId, kind, content, at: at ?? sentAt, seen: false });
      return;
    }
    case 'reaction': {
      const { targetId, emoji, at } = reading.reaction;
      const reactor = fromMe ? 'me' : sender === null ? alias : facts.address(sender);
      facts.reactions.push({ id: targetId, reactor, emoji, at: at ?? sentAt ?? 0 });
      return;
    }
    case 'message':
      break;
  }

  const statuses = [fields.status, ...updatesOf(fields).map((update) => update.status)].map(readStatus);
  const status =
    furthest(statuses) ?? (!fromMe ? 'DELIVERED' : isOnItsWay(arrival, sentAt) ? 'PENDING' : 'SENT');
  facts.message({
    chat: alias,
    id,
    fromMe,
    kind: reading.kind,
    content: reading.content,
    status,
    sentAt,
    live: arrival.as === 'live',
    whatsapp: clientFields(facts, fields, key),
    media: reading.media,
  });
  if (arrival.as === 'rest') readTraces(facts, fields, key, id, reading.content, arrival);
}

/** A REST record has no status before the first acknowledgement, which comes within minutes or was missed. */
function isOnItsWay(arrival: Arrival, sentAt: number | null): boolean {
  return arrival.as === 'rest' && sentAt !== null && arrival.readAt - sentAt < 300_000;
}

// A REST record says in MessageUpdate that the message was edited; its `message` is the present one, or null after a
// revoke. The event of an edit may arrive before Evolution's own table has the edit, hence the minute.
// 2.2 keeps the message and writes DELETED beside it; 2.3.0 to 2.3.4 write that for edits and poll votes too.
function readTraces(
  facts: Facts,
  fields: Fields,
  key: Fields,
  id: string,
  content: string,
  { readAt, deletedIsRevoked }: RestArrival,
): void {
  const has = (status: string) => [fields, ...updatesOf(fields)].some((update) => update.status === status);
  const edited = has('EDITED');
  const gone = (fields.message === null && edited) || (deletedIsRevoked && has('DELETED'));
  if (gone || key.deleted === true) facts.changes.push({ id, kind: 'delete' });
  else if (edited) facts.changes.push({ id, kind: 'edit', content, at: readAt - 60_000, seen: true });
}

function updatesOf(fields: Fields): Fields[] {
  const updates = fields.MessageUpdate;
  return Array.isArray(updates) ? updates.map(readObject).filter((update) => update !== null) : [];
}

// Who wrote it: the participant in a group, the other side in a chat of two.
function senderOf(chat: Address, key: Fields): Address | null {
  if (chat.kind === 'phone' || chat.kind === 'lid') return chat;
  const written = [key.participantAlt, key.participantPn, key.participant].map(readAddress);
  return written.find((a) => a?.kind === 'phone') ?? written.find((a) => a !== null) ?? null;
}

// Everywhere a version of Evolution or Baileys says that a LID and a phone number are one person. Fields named
// sender… mean the writer, so in a message of our own they mean us. 2.3.x sometimes gives the instance's own
// number as the alternative of someone else.
export function learnPairs(
  facts: Facts,
  chat: Address,
  key: Fields,
  fields: Fields,
  fromMe: boolean,
  { own }: Context,
): void {
  const other = (value: unknown): Address | null => {
    const address = readAddress(value);
    return address === null || address.alias === own?.alias ? null : address;
  };
  if (chat.kind === 'phone' || chat.kind === 'lid') {
    const written = [key.remoteJidAlt, key.previousRemoteJid, fields.previousRemoteJid, fields.remoteLid];
    if (!fromMe) written.push(key.senderPn, key.senderLid, fields.senderPn, fields.senderLid);
    for (const value of written) facts.pair(chat, other(value));
    return;
  }
  const participant = other(key.participant);
  const written = [key.participantAlt, key.participantPn, key.participantLid];
  if (!fromMe) written.push(key.senderPn, key.senderLid, fields.senderPn, fields.senderLid);
  for (const value of written) facts.pair(participant, other(value));
}

/** The fields of the Evolution message that clients read, as they came but for binaries and secrets. */
function clientFields(facts: Facts, fields: Fields, key: Fields): JsonObject {
  const picked = {
    key,
    pushName: fields.pushName ?? null,
    message: fields.message ?? null,
    messageType: fields.messageType,
    messageTimestamp: readLong(fields.messageTimestamp),
    contextInfo: fields.contextInfo ?? fields.messageContextInfo ?? undefined,
    source: fields.source,
  };
  const kept = redactFields(picked);
  const bytes = JSON.stringify(kept).length;
  facts.bytes += Math.min(bytes, MAX_FIELDS);
  return bytes > MAX_FIELDS ? { ...kept, message: null, contextInfo: null } : kept;
}

const STATUS_WORDS: Record<string, MessageStatus> = {
  ERROR: 'FAILED',
  PENDING: 'PENDING',
  SERVER_ACK: 'SENT',
  DELIVERY_ACK: 'DELIVERED',
  READ: 'READ',
  PLAYED: 'PLAYED',
  // The Cloud API channel's words.
  SENT: 'SENT',
  DELIVERED: 'DELIVERED',
  FAILED: 'FAILED',
};
const STATUS_NUMBERS: MessageStatus[] = ['FAILED', 'PENDING', 'SENT', 'DELIVERED', 'READ', 'PLAYED'];

// DELETED is not among them: Evolution writes it for every update without an acknowledgement (edits, votes), and
// announces real deletions as messages.delete or messages.edited.
function readStatus(value: unknown): MessageStatus | null {
  if (typeof value === 'number' || (typeof value === 'string' && /^\d$/.test(value))) {
    return STATUS_NUMBERS[Number(value)] ?? null;
  }
  return typeof value === 'string' ? (STATUS_WORDS[value.toUpperCase()] ?? null) : null;
}

function furthest(statuses: (MessageStatus | null)[]): MessageStatus | null {
  const ranks = statuses.map((status) => (status === null ? -1 : MESSAGE_STATUSES.indexOf(status)));
  return MESSAGE_STATUSES[Math.max(...ranks)] ?? null;
}

export function readUpdate(facts: Facts, item: unknown, context: Context): void {
  const outer = fieldsOf(item, 'an update');
  // send.message.update of an edit made through the server's API: a protocolMessage, without a wrapper.
  if (readObject(outer.editedMessage) !== null) {
    readEdited(facts, outer);
    return;
  }
  // Baileys: {key, update: {status, message}}.
  const fields = { ...outer, ...readObject(outer.update) };
  const key = readObject(fields.key);
  const id = idOf(fields.keyId ?? key?.id ?? fields.id, 'keyId of an update');
  const chat = readAddress(fields.remoteJid) ?? readAddress(key?.remoteJid);
  if (chat !== null) {
    if (context.skip.has(chat.kind)) return;
    const fromMe = fields.fromMe === true || key?.fromMe === true;
    learnPairs(facts, chat, key ?? fields, fields, fromMe, context);
  }
  const edit = readObject(fields.message);
  if (edit !== null) {
    // The status beside an edit means nothing. The edit comes as messages.edited as well, with its time.
    const protocol = readObject(unwrap(edit).inner.protocolMessage);
    const read = protocol === null ? null : readProtocol(protocol);
    if (read?.kind === 'delete') facts.changes.push({ id: read.targetId, kind: 'delete' });
    else if (read !== null)
      facts.changes.push({
        id: read.targetId,
        kind: 'edit',
        content: read.content,
        at: read.at,
        seen: false,
      });
    else if (readObject(edit.editedMessage) !== null) {
      facts.changes.push({ id, kind: 'edit', content: textOf(edit), at: null, seen: false });
    }
    return;
  }
  const status = readStatus(fields.status);
  if (status !== null) facts.changes.push({ id, kind: 'status', status });
}

export function readEdited(facts: Facts, item: unknown): void {
  const fields = fieldsOf(item, 'an edit');
  const message = readObject(fields.message);
  const nested = message === null ? null : readObject(unwrap(message).inner.protocolMessage);
  const protocol = nested ?? fields;
  // The server emits every protocol message under this name, also those between devices, which may carry keys.
  if (isBetweenDevices(protocol)) return;
  const key = fieldsOf(protocol.key, 'key of an edit');
  idOf(key.id, 'key.id of an edit');
  const read = readProtocol(protocol);
  if (read === null) return;
  if (read.kind === 'delete') facts.changes.push({ id: read.targetId, kind: 'delete' });
  else
    facts.changes.push({ id: read.targetId, kind: 'edit', content: read.content, at: read.at, seen: false });
}

export function readDelete(facts: Facts, item: unknown): void {
  const fields = fieldsOf(item, 'a deletion');
  // {jid, all: true}: the chat was cleared on the phone; what the team has stays.
  if (fields.all === true) return;
  facts.changes.push({
    id: idOf(readObject(fields.key)?.id ?? fields.id, 'id of a deletion'),
    kind: 'delete',
  });
}

/** Milliseconds of a record's messageTimestamp, for deciding how far a page reaches. */
export function timeOf(record: unknown): number | null {
  return readTime(readObject(record)?.messageTimestamp);
}
