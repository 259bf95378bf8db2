// From what an Evolution server of any version sends (unknown) to facts. Nothing here fails as a whole: an item
// that cannot be read becomes a problem with its reason, and the items around it are read.
import { readContent, readProtocol, textOf, unwrap } from './content.ts';
import { Facts, STATUSES, type Status } from './facts.ts';
import { type Address, readAddress } from './jid.ts';
import { type Json, type JsonObject, readLong, readObject, readText, scrub } from './scrub.ts';

type Fields = Record<string, unknown>;

/** Longest JSON of a message that is kept with it; text alone is at most 64 KiB in WhatsApp. */
const MAX_FIELDS = 512 * 1024;

export interface Problem {
  /** A sentence for the DBA who reads evolution.rejected. */
  reason: string;
  /** The item, without binaries and secrets. */
  item: Json;
}

export interface Reading {
  facts: Facts;
  problems: Problem[];
}

export interface Context {
  /** Number of the WhatsApp account itself, where known: never anybody else's alternative address. */
  own: Address | null;
  /** Kinds of chats the instance leaves out. */
  skip: ReadonlySet<string>;
}

/** How a message came: as it happened, in a history the phone sent, or as an answer over REST. */
type Telling = { as: 'live' } | { as: 'history' } | { as: 'rest'; readAt: number };

export interface Envelope {
  event: string;
  /** Null where a bridge sends bare data. */
  instance: string | null;
  /** The instance's own number. */
  sender: Address | null;
  data: unknown;
}

/** Opens an envelope; bare data (as the seed reads it) counts as one without instance. */
export function openEnvelope(wireName: string, payload: unknown): Envelope {
  const envelope = readObject(payload);
  const isEnvelope = envelope !== null && 'data' in envelope && !('key' in envelope);
  return {
    event: eventName(isEnvelope ? (readText(envelope.event) ?? wireName) : wireName),
    instance: isEnvelope ? readText(envelope.instance) : null,
    sender: isEnvelope ? readAddress(envelope.sender) : null,
    data: isEnvelope ? envelope.data : payload,
  };
}

// On the wire names are dotted; configurations and some bridges write MESSAGES_UPSERT.
function eventName(name: string): string {
  return name.toLowerCase().replaceAll('_', '.');
}

export function readEnvelope({ event, data }: Envelope, context: Context): Reading {
  const facts = new Facts();
  const problems: Problem[] = [];
  const reader = READERS[event];
  if (reader === undefined) return { facts, problems };
  for (const item of itemsOf(data, event)) {
    try {
      reader(facts, item, context);
    } catch (error) {
      if (!(error instanceof Unreadable)) throw error;
      problems.push({ reason: error.message, item: scrub(item) ?? null });
    }
  }
  return { facts, problems };
}

/** Signals an item that cannot be read; its message becomes the reason in evolution.rejected. */
class Unreadable extends Error {}

type Reader = (facts: Facts, item: unknown, context: Context) => void;

const message =
  (telling: Telling): Reader =>
  (facts, item, context) =>
    readMessage(facts, item, telling, context);

const READERS: Record<string, Reader | undefined> = {
  'messages.upsert': message({ as: 'live' }),
  'send.message': message({ as: 'live' }),
  'messages.set': message({ as: 'history' }),
  'messages.update': readUpdate,
  'send.message.update': readUpdate,
  'messages.edited': readEdited,
  'messages.delete': readDelete,
  'chats.set': readChat,
  'chats.upsert': readChat,
  'chats.update': (facts, item, context) => readChat(facts, item, context, false),
  'chats.delete': readChatDelete,
  'contacts.set': readContact,
  'contacts.upsert': readContact,
  'contacts.update': readContact,
  'groups.upsert': readGroup,
  'groups.update': readGroup,
  'group.update': readGroup,
  'connection.update': readConnection,
  'qrcode.updated': readQrCode,
};

// One object or an array, bare or wrapped as Baileys does ({messages: […]}), by version, event and bridge.
function itemsOf(data: unknown, event: string): unknown[] {
  if (Array.isArray(data)) return data.flatMap((item) => itemsOf(item, event));
  const fields = readObject(data);
  const list = event.split('.')[0] ?? '';
  for (const name of [list, 'messages', 'chats', 'contacts', 'keys']) {
    const wrapped = fields?.[name];
    if (Array.isArray(wrapped)) return wrapped;
  }
  return [data];
}

function fieldsOf(item: unknown, what: string): Fields {
  const fields = readObject(item);
  if (fields === null) throw new Unreadable(`expected ${what} to be an object, received ${typeName(item)}`);
  return fields;
}

function typeName(value: unknown): string {
  return value === null ? 'null' : Array.isArray(value) ? 'an array' : typeof value;
}

function idOf(value: unknown, what: string): string {
  const id = readText(value);
  if (id === null) throw new Unreadable(`expected ${what} to be a text, received ${typeName(value)}`);
  if (id.length > 255)
    throw new Unreadable(`expected ${what} to have at most 255 characters, received ${id.length}`);
  return id;
}

function readMessage(facts: Facts, item: unknown, telling: Telling, context: Context): void {
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
  const status = furthest(statuses) ?? (fromMe ? 'SENT' : 'DELIVERED');
  facts.message({
    chat: alias,
    id,
    fromMe,
    kind: reading.kind,
    content: reading.content,
    status,
    sentAt,
    live: telling.as === 'live',
    whatsapp: clientFields(facts, fields, key),
    media: reading.media,
  });
  if (telling.as === 'rest') readTraces(facts, fields, key, id, reading.content, telling.readAt);
}

// A REST record says in MessageUpdate that the message was edited, and its `message` is what it says now, or
// null after a revoke. The event of an edit may reach us before Evolution's own table has it, hence the minute.
// A DELETED in MessageUpdate proves nothing: versions up to 2.3.4 write it for edits and poll votes too.
function readTraces(
  facts: Facts,
  fields: Fields,
  key: Fields,
  id: string,
  content: string,
  readAt: number,
): void {
  const edited = updatesOf(fields).some((update) => update.status === 'EDITED') || fields.status === 'EDITED';
  const gone = fields.message === null && edited;
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
function learnPairs(
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
  const kept = scrub(picked) as JsonObject;
  const bytes = JSON.stringify(kept).length;
  facts.bytes += Math.min(bytes, MAX_FIELDS);
  return bytes > MAX_FIELDS ? { ...kept, message: null, contextInfo: null } : kept;
}

/** Milliseconds; seconds become so. Some bridges send milliseconds already. */
function readTime(value: unknown): number | null {
  const number = readLong(value);
  if (number === null || number <= 0) return null;
  const milliseconds = number > 1e11 ? number : number * 1000;
  return milliseconds < 4e12 ? Math.round(milliseconds) : null;
}

const STATUS_WORDS: Record<string, Status> = {
  ERROR: 'FAILED',
  PENDING: 'PENDING',
  SERVER_ACK: 'SENT',
  DELIVERY_ACK: 'DELIVERED',
  READ: 'READ',
  PLAYED: 'PLAYED',
};
const STATUS_NUMBERS: Status[] = ['FAILED', 'PENDING', 'SENT', 'DELIVERED', 'READ', 'PLAYED'];

// DELETED is not among them: Evolution writes it for every update without an acknowledgement (edits, votes), and
// announces real deletions as messages.delete or messages.edited.
function readStatus(value: unknown): Status | null {
  if (typeof value === 'number' || (typeof value === 'string' && /^\d$/.test(value))) {
    return STATUS_NUMBERS[Number(value)] ?? null;
  }
  return typeof value === 'string' ? (STATUS_WORDS[value.toUpperCase()] ?? null) : null;
}

function furthest(statuses: (Status | null)[]): Status | null {
  const ranks = statuses.map((status) => (status === null ? -1 : STATUSES.indexOf(status)));
  return STATUSES[Math.max(...ranks)] ?? null;
}

function readUpdate(facts: Facts, item: unknown, context: Context): void {
  const outer = fieldsOf(item, 'an update');
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
    // The status beside it is not one; an edit is announced with its time as messages.edited as well.
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

function readEdited(facts: Facts, item: unknown): void {
  const fields = fieldsOf(item, 'an edit');
  const message = readObject(fields.message);
  const nested = message === null ? null : readObject(unwrap(message).inner.protocolMessage);
  const protocol = nested ?? fields;
  const key = fieldsOf(protocol.key, 'key of an edit');
  idOf(key.id, 'key.id of an edit');
  const read = readProtocol(protocol);
  if (read === null) return;
  if (read.kind === 'delete') facts.changes.push({ id: read.targetId, kind: 'delete' });
  else
    facts.changes.push({ id: read.targetId, kind: 'edit', content: read.content, at: read.at, seen: false });
}

function readDelete(facts: Facts, item: unknown): void {
  const fields = fieldsOf(item, 'a deletion');
  // {jid, all: true}: the chat was cleared on the phone; what the team has stays.
  if (fields.all === true) return;
  facts.changes.push({
    id: idOf(readObject(fields.key)?.id ?? fields.id, 'id of a deletion'),
    kind: 'delete',
  });
}

function readChat(facts: Facts, item: unknown, context: Context, create = true): void {
  const fields = fieldsOf(item, 'a chat');
  const lastKey = readObject(readObject(fields.lastMessage)?.key);
  const chat = readAddress(fields.remoteJid) ?? readAddress(fields.id) ?? readAddress(lastKey?.remoteJid);
  // {id: <cuid>, name}: Evolution's row id, of use to nobody else. The next message carries the name.
  if (chat === null) {
    if (readText(fields.id) !== null) return;
    throw new Unreadable('expected a chat to have remoteJid or id, received neither');
  }
  if (context.skip.has(chat.kind)) return;
  const alias = facts.address(chat);
  learnPairs(facts, chat, lastKey ?? {}, fields, lastKey?.fromMe === true, context);
  const name = readText(fields.name) ?? readText(fields.subject);
  if (name !== null) facts.name(alias, name, null);
  // `unreadMessages` is 0 after every acknowledgement and says nothing; `unreadCount` is what bridges state.
  const stated = readLong(fields.unreadCount);
  facts.chats.push({
    alias,
    unread: null,
    stated: stated !== null && stated >= 0 ? Math.round(stated) : null,
    lastAt: readTime(fields.conversationTimestamp),
    create,
  });
}

function readChatDelete(facts: Facts, item: unknown, context: Context): void {
  const chat =
    readAddress(item) ?? readAddress(readObject(item)?.remoteJid) ?? readAddress(readObject(item)?.id);
  if (chat === null)
    throw new Unreadable(`expected the address of a deleted chat, received ${typeName(item)}`);
  if (!context.skip.has(chat.kind)) facts.removed.push(facts.address(chat));
}

function readContact(facts: Facts, item: unknown, context: Context): void {
  const fields = fieldsOf(item, 'a contact');
  const contact = readAddress(fields.remoteJid) ?? readAddress(fields.id) ?? readAddress(fields.jid);
  if (contact === null) {
    if (readText(fields.id) !== null) return;
    throw new Unreadable('expected a contact to have remoteJid or id, received neither');
  }
  // Under a group's address Evolution puts the name of whoever wrote last.
  if (contact.kind !== 'phone' && contact.kind !== 'lid') return;
  learnPairs(
    facts,
    contact,
    {},
    { ...fields, remoteLid: fields.lid ?? fields.remoteLid ?? fields.phoneNumber },
    true,
    context,
  );
  const name = readText(fields.pushName) ?? readText(fields.name) ?? readText(fields.notify);
  if (name !== null && contact.alias !== context.own?.alias) facts.name(facts.address(contact), name, null);
}

function readGroup(facts: Facts, item: unknown): void {
  const fields = fieldsOf(item, 'a group');
  const group = readAddress(fields.remoteJid) ?? readAddress(fields.id);
  const subject = readText(fields.subject);
  if (group?.kind === 'group' && subject !== null) facts.name(facts.address(group), subject, null);
}

function readConnection(facts: Facts, item: unknown): void {
  const fields = fieldsOf(item, 'a connection update');
  const state = idOf(fields.state ?? fields.connection, 'state of a connection update').slice(0, 40);
  const reason = fields.statusReason;
  facts.session = {
    state,
    reason: typeof reason === 'number' ? String(reason) : readText(reason),
    ownJid: readAddress(fields.wuid)?.jid ?? null,
    profileName: readText(fields.profileName),
  };
}

// The picture (base64) is left out: a client draws it from the code.
function readQrCode(facts: Facts, item: unknown): void {
  const fields = fieldsOf(item, 'a QR code');
  const qr = readObject(fields.qrcode);
  const code = readText(qr?.code) ?? readText(fields.code);
  facts.qr = {
    code,
    pairingCode: readText(qr?.pairingCode),
    problem: code === null ? (readText(fields.message) ?? 'Evolution sent no code') : null,
  };
}

/** Reads one page of POST /chat/findChats. */
export function readChatPage(items: unknown[], context: Context, readAt: number): Reading {
  const facts = new Facts();
  const problems: Problem[] = [];
  for (const item of items) {
    try {
      readRestChat(facts, item, context, readAt);
    } catch (error) {
      if (!(error instanceof Unreadable)) throw error;
      problems.push({ reason: error.message, item: scrub(item) ?? null });
    }
  }
  return { facts, problems };
}

function readRestChat(facts: Facts, item: unknown, context: Context, readAt: number): void {
  const fields = fieldsOf(item, 'a chat');
  const last = readObject(fields.lastMessage);
  const lastKey = readObject(last?.key);
  const chat = readAddress(fields.remoteJid) ?? readAddress(fields.id) ?? readAddress(lastKey?.remoteJid);
  if (chat === null)
    throw new Unreadable('expected a chat of findChats to name its WhatsApp address, received none');
  if (context.skip.has(chat.kind)) return;
  const alias = facts.address(chat);
  learnPairs(facts, chat, lastKey ?? {}, fields, lastKey?.fromMe === true, context);
  const name = readText(fields.name) ?? readText(fields.pushName) ?? readText(fields.subject);
  // Older versions give a group the name of its last writer, and a person "Você" after a message of our own.
  const isWriter = name === readText(last?.pushName) && (chat.kind === 'group' || lastKey?.fromMe === true);
  if (name !== null && !isWriter) facts.name(alias, name, null, false);
  const unread = readLong(fields.unreadCount);
  facts.chats.push({
    alias,
    unread: unread !== null && unread >= 0 ? Math.round(unread) : null,
    stated: null,
    lastAt: readTime(last?.messageTimestamp) ?? readTime(fields.conversationTimestamp),
    create: true,
  });
  if (last !== null && lastKey !== null) readMessage(facts, last, { as: 'rest', readAt }, context);
}

/** Reads one page of POST /chat/findMessages. */
export function readMessagePage(items: unknown[], context: Context, readAt: number): Reading {
  const facts = new Facts();
  const problems: Problem[] = [];
  for (const item of items) {
    try {
      readMessage(facts, item, { as: 'rest', readAt }, context);
    } catch (error) {
      if (!(error instanceof Unreadable)) throw error;
      problems.push({ reason: error.message, item: scrub(item) ?? null });
    }
  }
  return { facts, problems };
}

/** Milliseconds of a record's messageTimestamp, for deciding how far a page reaches. */
export function timeOf(record: unknown): number | null {
  return readTime(readObject(record)?.messageTimestamp);
}
