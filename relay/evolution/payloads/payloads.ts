// From what an Evolution server of any version sends (unknown) to facts. Nothing here fails as a whole: an item
// that cannot be read becomes a rejection with its reason, and the items around it are read.
import { Facts } from './facts.ts';
import { fieldsOf, idOf, readLong, readObject, readText, readTime, typeName, Unreadable } from './field.ts';
import { type Address, readAddress } from './jid.ts';
import {
  type Arrival,
  type Context,
  learnPairs,
  type RestArrival,
  readDelete,
  readEdited,
  readMessage,
  readUpdate,
} from './message.ts';
import { type Json, redact } from './redact.ts';

export interface Rejection {
  /** A sentence for the DBA who reads evolution.rejected. */
  reason: string;
  /** The item, without binaries and secrets. */
  item: Json;
}

export interface Reading {
  facts: Facts;
  rejections: Rejection[];
}

export interface Envelope {
  event: string;
  /** Null where a bridge sends bare data. */
  instance: string | null;
  /** The instance's own number. */
  sender: Address | null;
  data: unknown;
}

/** Opens an envelope. Bare data counts as an envelope without an instance. */
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

// Socket events have dotted names; settings and some bridges write MESSAGES_UPSERT.
function eventName(name: string): string {
  return name.toLowerCase().replaceAll('_', '.');
}

export function readEnvelope({ event, data }: Envelope, context: Context): Reading {
  const reader = READERS[event];
  if (reader === undefined) return { facts: new Facts(), rejections: [] };
  return readItems(itemsOf(data, event), (facts, item) =>
    reader(facts, item, context, { isList: Array.isArray(data) }),
  );
}

function readItems(items: readonly unknown[], read: (facts: Facts, item: unknown) => void): Reading {
  const facts = new Facts();
  const rejections: Rejection[] = [];
  for (const item of items) {
    try {
      read(facts, item);
    } catch (error) {
      if (!(error instanceof Unreadable)) throw error;
      rejections.push({ reason: error.message, item: redact(item) ?? null });
    }
  }
  return { facts, rejections };
}

/** @param how `isList`: the item came in a list */
type Reader = (
  facts: Facts,
  item: unknown,
  context: Context,
  how: { isList: boolean; news?: boolean },
) => void;

const message =
  (arrival: Arrival): Reader =>
  (facts, item, context) =>
    readMessage(facts, item, arrival, context);

const READERS: Record<string, Reader | undefined> = {
  'messages.upsert': message({ as: 'live' }),
  'send.message': message({ as: 'live' }),
  'messages.set': message({ as: 'history' }),
  'messages.update': readUpdate,
  'send.message.update': readUpdate,
  'messages.edited': readEdited,
  'messages.delete': readDelete,
  'chats.set': (facts, item, context) => readChat(facts, item, context, true),
  'chats.upsert': (facts, item, context) => readChat(facts, item, context, true),
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

function readChat(facts: Facts, item: unknown, context: Context, create: boolean): void {
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

function readContact(
  facts: Facts,
  item: unknown,
  context: Context,
  { isList, news = true }: { isList: boolean; news?: boolean },
): void {
  const fields = fieldsOf(item, 'a contact');
  const contact = readAddress(fields.remoteJid) ?? readAddress(fields.id) ?? readAddress(fields.jid);
  // The Cloud API channel sends most contacts without an address, and some rows have a cuid of Evolution in its place.
  if (contact === null) return;
  // A group's address comes with the name of whoever wrote last.
  if (contact.kind !== 'phone' && contact.kind !== 'lid') return;
  learnPairs(
    facts,
    contact,
    {},
    { ...fields, remoteLid: fields.lid ?? fields.remoteLid ?? fields.phoneNumber },
    true,
    context,
  );
  // A list of contacts, or a field called `name`, has the names of the phone's address book. A single contact has
  // the name that the person chose.
  const called = readText(fields.name);
  const name = called ?? readText(fields.pushName) ?? readText(fields.notify);
  if (name === null || contact.alias === context.own?.alias) return;
  facts.name(facts.address(contact), name, null, news, called !== null || isList);
}

function readGroup(
  facts: Facts,
  item: unknown,
  _context: Context,
  { news = true }: { news?: boolean } = {},
): void {
  const fields = fieldsOf(item, 'a group');
  const group = readAddress(fields.remoteJid) ?? readAddress(fields.id);
  const subject = readText(fields.subject);
  if (group?.kind === 'group' && subject !== null) facts.name(facts.address(group), subject, null, news);
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

/**
 * Reads one page of POST /chat/findChats.
 * @param since what findMessages is asked for next; null: everything
 */
export function readChatPage(
  items: unknown[],
  context: Context,
  arrival: RestArrival,
  since: Date | null,
): Reading {
  return readItems(items, (facts, item) => readRestChat(facts, item, context, arrival, since));
}

/** Reads what POST /chat/findContacts and GET /group/fetchAllGroups answer: names, old ones among them. */
export function readNames(contacts: unknown[], groups: unknown[], context: Context): Reading {
  const { facts, rejections } = readItems(contacts, (into, item) =>
    readContact(into, item, context, { isList: false, news: false }),
  );
  const more = readItems(groups, (into, item) => readGroup(into, item, context, { news: false }));
  facts.add(more.facts);
  return { facts, rejections: [...rejections, ...more.rejections] };
}

// findMessages returns a recent lastMessage in order, so it is not read here. An older one (the phone sent it late)
// comes only here.
function readRestChat(
  facts: Facts,
  item: unknown,
  context: Context,
  arrival: RestArrival,
  since: Date | null,
): void {
  const fields = fieldsOf(item, 'a chat');
  const last = readObject(fields.lastMessage);
  const lastKey = readObject(last?.key);
  const chat = readAddress(fields.remoteJid) ?? readAddress(fields.id) ?? readAddress(lastKey?.remoteJid);
  if (chat === null)
    throw new Unreadable('expected a chat of findChats to name its WhatsApp address, received none');
  if (context.skip.has(chat.kind)) return;
  const alias = facts.address(chat);
  learnPairs(facts, chat, lastKey ?? {}, fields, lastKey?.fromMe === true, context);
  const pushName = readText(fields.pushName);
  // Older versions give a group the name of its last writer, and a person "Você" after a message of our own. 2.2.3 does
  // so without saying what the last message was.
  const isWriter =
    chat.kind === 'group'
      ? last === null || pushName === readText(last.pushName)
      : pushName === readText(last?.pushName) && lastKey?.fromMe === true;
  const name = readText(fields.name) ?? readText(fields.subject) ?? (isWriter ? null : pushName);
  if (name !== null) facts.name(alias, name, null, false);
  const unread = readLong(fields.unreadCount);
  const lastAt = readTime(last?.messageTimestamp);
  facts.chats.push({
    alias,
    unread: unread !== null && unread >= 0 ? Math.round(unread) : null,
    stated: null,
    lastAt: lastAt ?? readTime(fields.conversationTimestamp),
    create: true,
  });
  const isOld = since !== null && lastAt !== null && lastAt < since.getTime();
  if (isOld && last !== null && lastKey !== null) readMessage(facts, last, arrival, context);
}

/** Reads one page of POST /chat/findMessages. */
export function readMessagePage(items: unknown[], context: Context, arrival: RestArrival): Reading {
  return readItems(items, (facts, item) => readMessage(facts, item, arrival, context));
}
