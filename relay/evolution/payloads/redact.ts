// What may be stored of a JSON value that came from outside: no binaries (thumbnails, media keys, hashes,
// base64 bodies), no secrets, nothing Postgres refuses (NUL, lone surrogates), numbers as numbers.

export type Json = null | boolean | number | string | Json[] | { [key: string]: Json };
export type JsonObject = { [key: string]: Json };

const MAX_DEPTH = 32;
/** No object of WhatsApp's has a tenth of it. */
const MAX_KEYS = 2_000;
const MAX_TEXT = 100_000;

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
  const copy: JsonObject = {};
  for (const [name, item] of Object.entries(value)) {
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

/** Text as Postgres takes it: no NUL, no half of a surrogate pair, not endless. */
export function storable(text: string): string {
  return text
    .slice(0, MAX_TEXT)
    .replaceAll('\u0000', '')
    .replace(/\p{Surrogate}/gu, '\uFFFD');
}

function isByte(value: unknown): boolean {
  return typeof value === 'number' && Number.isInteger(value) && value >= 0 && value <= 255;
}

// By version, bytes arrive as a Buffer, as {"type":"Buffer","data":[…]} or as {"0":255,"1":216,…}.
function isBinary(value: object): boolean {
  if (ArrayBuffer.isView(value) || value instanceof ArrayBuffer) return true;
  if ('type' in value && value.type === 'Buffer' && 'data' in value) return true;
  // First what costs nothing where there are very many.
  if (!isByte((value as Record<string, unknown>)['0'])) return false;
  return Object.entries(value).every(([name, item], index) => name === String(index) && isByte(item));
}

/** The number a 64-bit integer stands for: by version a number, a decimal string or `{low, high, unsigned}`. */
export function readLong(value: unknown): number | null {
  if (typeof value === 'number') return Number.isFinite(value) ? value : null;
  if (typeof value === 'bigint') return Number(value);
  if (typeof value === 'string') return /^-?\d{1,19}$/.test(value) ? Number(value) : null;
  if (typeof value !== 'object' || value === null) return null;
  const { low, high } = value as { low?: unknown; high?: unknown };
  if (typeof low !== 'number' || typeof high !== 'number') return null;
  return high * 2 ** 32 + (low >>> 0);
}

/** The same object with `unknown` values, or null for anything else. */
export function readObject(value: unknown): Record<string, unknown> | null {
  return typeof value === 'object' && value !== null && !Array.isArray(value) && !isBinary(value)
    ? (value as Record<string, unknown>)
    : null;
}

/** A text that says something, or null. */
export function readText(value: unknown): string | null {
  if (typeof value !== 'string') return null;
  const text = storable(value).trim();
  return text === '' ? null : text;
}
