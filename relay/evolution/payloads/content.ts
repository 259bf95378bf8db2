// What a WhatsApp message says: its kind, its text, its media. Derived from the message itself; `messageType`
// keeps the name of wrappers and is sometimes missing.

import { type Fields, readLong, readObject, readText, storable } from './field.ts';
import { MEDIA_KINDS, type Media, readMedia } from './media.ts';

/** An edit or a revoke, addressed to another message. */
export interface Protocol {
  kind: 'edit' | 'delete';
  targetId: string;
  /** When the sender did it, in milliseconds; null where the server does not say. */
  at: number | null;
  content: string;
}

export interface Reaction {
  targetId: string;
  /** Empty: the reaction was taken back. */
  emoji: string;
  at: number | null;
}

export type Content =
  | { is: 'message'; kind: string; content: string; media: Media | null }
  | { is: 'reaction'; reaction: Reaction }
  | { is: 'protocol'; protocol: Protocol }
  /** Bookkeeping of WhatsApp: nothing a person wrote or reads. */
  | { is: 'nothing' };

// These come beside a message or alone, and are never the message itself.
const COMPANIONS = new Set([
  'messageContextInfo',
  'senderKeyDistributionMessage',
  'fastRatchetKeySenderKeyDistributionMessage',
  'deviceSyncMessage',
  'base64',
  'mediaUrl',
]);

// These carry nothing that a person reads: pins, keys, and encrypted parts that only the phone can open. An album's
// pictures come as messages of their own.
const UNREADABLE = new Set([
  'albumMessage',
  'encCommentMessage',
  'encEventResponseMessage',
  'encReactionMessage',
  'keepInChatMessage',
  'messageHistoryBundle',
  'messageHistoryNotice',
  'pinInChatMessage',
  'placeholderMessage',
  'pollUpdateMessage',
  'secretEncryptedMessage',
  'stickerSyncRmrMessage',
]);

/**
 * The message inside its wrappers (eight at most), and whether one of them said "view once". A wrapper is whatever
 * holds an object called `message`: WhatsApp adds new ones more often than Evolution is upgraded.
 */
export function unwrap(message: Fields): { inner: Fields; viewOnce: boolean } {
  let inner = message;
  let viewOnce = false;
  for (let depth = 0; depth < 8; depth++) {
    const wrapper = Object.keys(inner).find(
      (name) => !COMPANIONS.has(name) && readObject(readObject(inner[name])?.message) !== null,
    );
    if (wrapper === undefined) break;
    viewOnce ||= wrapper.startsWith('viewOnce');
    inner = readObject(readObject(inner[wrapper])?.message) ?? inner;
  }
  return { inner, viewOnce };
}

/** Reads `message` of an Evolution message. Never fails: what is unknown is kept as a placeholder. */
export function readContent(value: unknown): Content {
  const outer = readObject(value);
  // A stub: joined, left, the picture changed, or what the phone could not decrypt.
  if (outer === null) return { is: 'nothing' };
  const { inner, viewOnce } = unwrap(outer);

  const protocol = readObject(inner.protocolMessage);
  if (protocol !== null) {
    const read = readProtocol(protocol);
    return read === null ? { is: 'nothing' } : { is: 'protocol', protocol: read };
  }
  const reaction = readObject(inner.reactionMessage);
  if (reaction !== null) {
    const targetId = readText(readObject(reaction.key)?.id);
    if (targetId === null) return { is: 'nothing' };
    const emoji = typeof reaction.text === 'string' ? storable(reaction.text).slice(0, 64) : '';
    return { is: 'reaction', reaction: { targetId, emoji, at: readLong(reaction.senderTimestampMs) } };
  }

  const name = Object.keys(inner).find(
    (key) => !COMPANIONS.has(key) && inner[key] !== null && inner[key] !== undefined,
  );
  if (name === undefined) return { is: 'nothing' };
  // Known kinds first, whatever the order of keys.
  for (const [key, read] of Object.entries(KINDS)) {
    const part = inner[key];
    if (part === null || part === undefined) continue;
    const fields = readObject(part) ?? {};
    const { kind, text } = read(fields, part);
    return {
      is: 'message',
      kind,
      content: storable(text ?? ''),
      media: MEDIA_KINDS.has(kind) ? readMedia(kind, fields, viewOnce) : null,
    };
  }
  if (UNREADABLE.has(name)) return { is: 'nothing' };
  return {
    is: 'message',
    kind: 'unknown',
    content: `[mensagem não suportada: ${storable(name).slice(0, 60)}]`,
    media: null,
  };
}

/** Text of an edited message, as protocolMessage.editedMessage or a REST record carries it. */
export function textOf(message: unknown): string {
  const reading = readContent(message);
  return reading.is === 'message' ? reading.content : '';
}

/**
 * A protocolMessage that concerns another message. `type` is a name or a number by version, and absent where it
 * is 0 (protobuf leaves out defaults): 0 REVOKE, 14 MESSAGE_EDIT. The others are between devices.
 */
export function readProtocol(protocol: Fields): Protocol | null {
  const targetId = readText(readObject(protocol.key)?.id);
  if (targetId === null) return null;
  const at = readLong(protocol.timestampMs);
  const edited = readObject(protocol.editedMessage);
  const type = typeOf(protocol);
  if (type === '14' || type === 'MESSAGE_EDIT' || (type === null && edited !== null)) {
    if (edited === null) return null;
    const nested = readObject(unwrap(edited).inner.protocolMessage);
    return { kind: 'edit', targetId, at, content: textOf(readObject(nested?.editedMessage) ?? edited) };
  }
  if (type === '0' || type === 'REVOKE' || type === null)
    return { kind: 'delete', targetId, at, content: '' };
  return null;
}

/** A protocolMessage that concerns no message: keys, history, settings. */
export function isBetweenDevices(protocol: Fields): boolean {
  const type = typeOf(protocol);
  return type !== null && !['0', 'REVOKE', '14', 'MESSAGE_EDIT'].includes(type);
}

function typeOf({ type }: Fields): string | null {
  return type === undefined || type === null ? null : String(type);
}

type Read = (fields: Fields, part: unknown) => { kind: string; text: string | null };

const caption =
  (kind: string): Read =>
  (f) => ({ kind, text: readText(f.caption) });

/** A payment carries its note as a message. */
const payment: Read = (f) => ({ kind: 'payment', text: textOf(f.noteMessage) || null });

const KINDS: Record<string, Read> = {
  conversation: (_, part) => ({ kind: 'text', text: typeof part === 'string' ? part : null }),
  extendedTextMessage: (f) => ({ kind: 'text', text: typeof f.text === 'string' ? f.text : null }),
  imageMessage: caption('image'),
  videoMessage: caption('video'),
  ptvMessage: caption('video'),
  audioMessage: () => ({ kind: 'audio', text: null }),
  documentMessage: (f) => ({
    kind: 'document',
    text: readText(f.caption) ?? readText(f.fileName) ?? readText(f.title),
  }),
  stickerMessage: () => ({ kind: 'sticker', text: null }),
  locationMessage: (f) => ({ kind: 'location', text: place(f) }),
  liveLocationMessage: (f) => ({ kind: 'location', text: readText(f.caption) ?? place(f) }),
  contactMessage: (f) => ({ kind: 'contact', text: readText(f.displayName) }),
  contactsArrayMessage: (f) => ({
    kind: 'contact',
    text:
      list(f.contacts)
        .map((c) => readText(c.displayName))
        .filter((n) => n !== null)
        .join(', ') || readText(f.displayName),
  }),
  buttonsResponseMessage: (f) => ({
    kind: 'text',
    text: readText(f.selectedDisplayText) ?? readText(f.selectedButtonId),
  }),
  templateButtonReplyMessage: (f) => ({
    kind: 'text',
    text: readText(f.selectedDisplayText) ?? readText(f.selectedId),
  }),
  listResponseMessage: (f) => ({
    kind: 'text',
    text:
      readText(f.title) ??
      readText(f.description) ??
      readText(readObject(f.singleSelectReply)?.selectedRowId),
  }),
  interactiveResponseMessage: (f) => ({ kind: 'text', text: interactiveAnswer(f) }),
  interactiveMessage: (f) => ({
    kind: 'interactive',
    text: readText(readObject(f.body)?.text) ?? readText(readObject(f.header)?.title),
  }),
  buttonsMessage: (f) => ({ kind: 'interactive', text: readText(f.contentText) ?? readText(f.text) }),
  listMessage: (f) => ({ kind: 'interactive', text: readText(f.description) ?? readText(f.title) }),
  templateMessage: (f) => ({
    kind: 'interactive',
    text:
      readText(
        (readObject(f.hydratedTemplate) ?? readObject(f.hydratedFourRowTemplate))?.hydratedContentText,
      ) ?? readText(readObject(readObject(f.interactiveMessageTemplate)?.body)?.text),
  }),
  orderMessage: (f) => ({ kind: 'order', text: readText(f.message) ?? readText(f.orderTitle) }),
  productMessage: (f) => ({
    kind: 'order',
    text: readText(readObject(f.product)?.title) ?? readText(f.body),
  }),
  pollCreationMessage: (f) => ({ kind: 'poll', text: poll(f) }),
  pollCreationMessageV2: (f) => ({ kind: 'poll', text: poll(f) }),
  pollCreationMessageV3: (f) => ({ kind: 'poll', text: poll(f) }),
  pollCreationMessageV5: (f) => ({ kind: 'poll', text: poll(f) }),
  sendPaymentMessage: payment,
  requestPaymentMessage: payment,
  invoiceMessage: (f) => ({ kind: 'payment', text: readText(f.note) }),
  eventMessage: (f) => ({ kind: 'event', text: readText(f.name) }),
  groupInviteMessage: (f) => ({ kind: 'invite', text: readText(f.caption) ?? readText(f.groupName) }),
};

function list(value: unknown): Fields[] {
  return Array.isArray(value) ? value.map(readObject).filter((item) => item !== null) : [];
}

function place(f: Fields): string | null {
  const { degreesLatitude: latitude, degreesLongitude: longitude } = f;
  const point =
    typeof latitude === 'number' && typeof longitude === 'number' ? `${latitude},${longitude}` : null;
  return [readText(f.name), readText(f.address), point].filter((part) => part !== null).join(' · ') || null;
}

function poll(f: Fields): string | null {
  const options = list(f.options).map((option) => readText(option.optionName));
  return [readText(f.name), ...options.map((option) => (option === null ? null : `- ${option}`))]
    .filter((line) => line !== null)
    .join('\n');
}

function interactiveAnswer(f: Fields): string | null {
  const body = readText(readObject(f.body)?.text);
  if (body !== null) return body;
  const parameters = readText(readObject(f.nativeFlowResponseMessage)?.paramsJson);
  if (parameters === null) return null;
  try {
    const parsed = readObject(JSON.parse(parameters));
    return readText(parsed?.display_text) ?? readText(parsed?.title) ?? readText(parsed?.id);
  } catch {
    // Not JSON: only the raw message has it.
    return null;
  }
}
