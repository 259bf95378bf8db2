// Fields of an item that came from outside, or the sentence that says why they cannot be read.
import { readLong, readObject, readText } from './redact.ts';

export type Fields = Record<string, unknown>;

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
 * Milliseconds; seconds become so. Some bridges send milliseconds already. Never later than now: a phone's clock may
 * be ahead, and what counts from the newest message would miss everything until then.
 */
export function readTime(value: unknown): number | null {
  const number = readLong(value);
  if (number === null || number <= 0) return null;
  const milliseconds = number > 1e11 ? number : number * 1000;
  return milliseconds < 4e12 ? Math.min(Math.round(milliseconds), Date.now()) : null;
}
