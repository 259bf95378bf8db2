// What may be stored of a JSON value that came from outside: no binaries (thumbnails, media keys, hashes,
// base64 bodies), no secrets, nothing Postgres refuses (NUL, lone surrogates), numbers as numbers.

import { isBinary, isByte, readLong, storable } from './field.ts';

export type Json = null | boolean | number | string | Json[] | { [key: string]: Json };
export type JsonObject = { [key: string]: Json };

const MAX_DEPTH = 32;
/** No object of WhatsApp has a tenth of this. */
const MAX_KEYS = 2_000;

// By name, because a hash or a key that arrives as a short base64 string looks like any other text.
const LEFT_OUT = new Set([
  'apikey',
  'token',
  'base64',
  'buffer',
  'jpegThumbnail',
  'pngThumbnail',
  'thumbnail',
  'thumbnailSha256',
  'thumbnailEncSha256',
  'mediaKey',
  'keyData',
  'appStateSyncKeyShare',
  'appStateSyncKeyRequest',
  'historySyncNotification',
  'peerDataOperationRequestMessage',
  'peerDataOperationRequestResponseMessage',
  'fileSha256',
  'fileEncSha256',
  'midQualityFileSha256',
  'midQualityFileEncSha256',
  'streamingSidecar',
  'firstFrameSidecar',
  'scansSidecar',
  'waveform',
  'messageSecret',
  'encPayload',
  'encIv',
  'ciphertext',
  'paddingBytes',
  'deviceListMetadata',
  'reportingTokenInfo',
  'botMessageSecret',
  'capiCreatedGroup',
  'senderKeyDistributionMessage',
  'axolotlSenderKeyDistributionMessage',
]);

// What people write is kept even where it happens to look like base64.
const WRITTEN_BY_PEOPLE = new Set([
  'conversation',
  'text',
  'caption',
  'title',
  'description',
  'name',
  'pushName',
]);

/** A copy that can be stored; undefined where nothing of the value may be kept. */
export function redact(value: unknown, key = '', depth = 0): Json | undefined {
  switch (typeof value) {
    case 'string':
      return redactText(value, key);
    case 'number':
      return Number.isFinite(value) ? value : null;
    case 'boolean':
      return value;
    case 'bigint':
      return Number(value);
    case 'object':
      break;
    default:
      return undefined;
  }
  if (value === null) return null;
  if (depth >= MAX_DEPTH) return undefined;
  if (Array.isArray(value)) {
    if (value.length > 32 && value.every(isByte)) return undefined;
    return value.map((item) => redact(item, key, depth + 1)).filter((item) => item !== undefined);
  }
  if (isBinary(value)) return undefined;
  const long = readLong(value);
  if (long !== null) return long;
  if (Object.keys(value).length > MAX_KEYS) return undefined;
  return redactFields(value, depth);
}

/** The same for an object that the worker built, which is kept even if nothing is left in it. */
export function redactFields(fields: object, depth = 0): JsonObject {
  const copy: JsonObject = {};
  for (const [name, item] of Object.entries(fields)) {
    if (LEFT_OUT.has(name)) continue;
    const kept = redact(item, name, depth + 1);
    if (kept !== undefined) copy[storable(name)] = kept;
  }
  return copy;
}

function redactText(text: string, key: string): string | undefined {
  if (!WRITTEN_BY_PEOPLE.has(key)) {
    if (/^data:[^,]{0,200};base64,/.test(text)) return undefined;
    if (text.length >= 200 && /^[A-Za-z0-9+/_-]+={0,2}$/.test(text)) return undefined;
  }
  return storable(text);
}
