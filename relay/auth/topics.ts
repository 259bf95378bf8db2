// The topics of a token decide which events with an audience it hears. They never appear in logs, metrics or errors.
import { Interned } from './interned.ts';

/** Equal sets are the same object. */
export interface Topics {
  readonly names: ReadonlySet<string>;
  /** The names as one text. Equal sets have equal keys. */
  readonly key: string;
}

const interned = new Interned<Topics>();

export function topicsOf(names: Iterable<string>): Topics {
  const sorted = [...new Set(names)].sort();
  const key = JSON.stringify(sorted);
  return interned.of(key, () => ({ names: new Set(sorted), key }));
}

export const NO_TOPICS = topicsOf([]);

/** The topic that every token with a `sub` has. */
export function topicOfUser(subject: string): string {
  return `user:${subject}`;
}

/** The topics in a claim: strings, and whole numbers in decimal; null if it is not a list of these. */
export function readTopics(claim: unknown): string[] | null {
  if (!Array.isArray(claim)) return null;
  const names: string[] = [];
  const items: readonly unknown[] = claim;
  for (const item of items) {
    if (typeof item === 'string') names.push(item);
    else if (Number.isSafeInteger(item)) names.push(String(item));
    else return null;
  }
  return names;
}
