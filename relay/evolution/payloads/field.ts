// Values that came from outside: what they are, or the sentence that says why they cannot be read.

export type Fields = Record<string, unknown>;

const MAX_TEXT = 100_000;

/** Text as Postgres takes it: no NUL, no half of a surrogate pair, not too long. */
export function storable(text: string): string {
  return text
    .slice(0, MAX_TEXT)
    .replaceAll('\u0000', '')
    .replace(/\p{Surrogate}/gu, '\uFFFD');
}

export function isByte(value: unknown): boolean {
  return typeof value === 'number' && Number.isInteger(value) && value >= 0 && value <= 255;
}

// By version, bytes arrive as a Buffer, as {"type":"Buffer","data":[…]} or as {"0":255,"1":216,…}.
export function isBinary(value: object): boolean {
  if (ArrayBuffer.isView(value) || value instanceof ArrayBuffer) return true;
  if ('type' in value && value.type === 'Buffer' && 'data' in value) return true;
  // The cheap check first: there may be very many.
  if (!('0' in value && isByte(value['0']))) return false;
  return Object.entries(value).every(([name, item], index) => name === String(index) && isByte(item));
}

/** The number a 64-bit integer stands for: by version a number, a decimal string or `{low, high, unsigned}`. */
export function readLong(value: unknown): number | null {
  if (typeof value === 'number') return Number.isFinite(value) ? value : null;
  if (typeof value === 'bigint') return Number(value);
  if (typeof value === 'string') return /^-?\d{1,19}$/.test(value) ? Number(value) : null;
  if (typeof value !== 'object' || value === null) return null;
  if (!('low' in value && 'high' in value)) return null;
  const { low, high } = value;
  if (typeof low !== 'number' || typeof high !== 'number') return null;
  return high * 2 ** 32 + (low >>> 0);
}

/** The same object with `unknown` values, or null for anything else. */
export function readObject(value: unknown): Fields | null {
  return isFields(value) ? value : null;
}

function isFields(value: unknown): value is Fields {
  return typeof value === 'object' && value !== null && !Array.isArray(value) && !isBinary(value);
}

/** A text that says something, or null. */
export function readText(value: unknown): string | null {
  if (typeof value !== 'string') return null;
  const text = storable(value).trim();
  return text === '' ? null : text;
}

/** Signals an item that cannot be read; its message becomes the reason in evolution.rejected. */
export class Unreadable extends Error {}

export function fieldsOf(item: unknown, what: string): Fields {
  const fields = readObject(item);
  if (fields === null) throw new Unreadable(`expected ${what} to be an object, received ${typeName(item)}`);
  return fields;
}

export function typeName(value: unknown): string {
  return value === null ? 'null' : Array.isArray(value) ? 'an array' : typeof value;
}

export function idOf(value: unknown, what: string): string {
  const id = readText(value);
  if (id === null) throw new Unreadable(`expected ${what} to be a text, received ${typeName(value)}`);
  if (id.length > 255)
    throw new Unreadable(`expected ${what} to have at most 255 characters, received ${id.length}`);
  return id;
}

/**
 * A time in milliseconds, from seconds or from milliseconds, which some bridges send. Never later than now: a phone's
 * clock may be ahead, and a catch-up that begins at the newest message would miss everything until then.
 */
export function readTime(value: unknown): number | null {
  const number = readLong(value);
  if (number === null || number <= 0) return null;
  const milliseconds = number > 1e11 ? number : number * 1000;
  return milliseconds < 4e12 ? Math.min(Math.round(milliseconds), Date.now()) : null;
}
