// Who hears what inside an account, in a run. It follows from the kind of the page and from the row, so that every
// process knows it.
import { FIRST_PAGE, FIRST_STOCK, isWhisper } from './database.ts';
import type { Kind } from './viewing.ts';

/** Of each page's first token; its subject is its kind. */
export const TOPICS: Readonly<Record<Kind, readonly string[]>> = {
  browser: ['ward:0'],
  websocket: ['ward:1'],
  impatient: ['ward:0', 'ward:1'],
  keeper: ['ward:1'],
  forgetful: ['ward:0'],
  loader: [],
  polling: ['ward:0', 'ward:1', 'ward:2'],
  stream: ['ward:1'],
  changing: ['ward:0'],
};

/** What a page with changing topics may have instead. */
export const TOPIC_SETS: readonly (readonly string[])[] = [
  [],
  ['ward:0'],
  ['ward:1'],
  ['ward:0', 'ward:1'],
  ['ward:3', 'ward:2'],
];

const CHOOSING: readonly Kind[] = ['keeper', 'stream'];
/** All but stock.changed. */
const CHOSEN = ['items.*', 'shared.*', 'pages.changed', 'notes.created', 'visits.changed', 'app.*'];

/** The events that a page asks for; null: all. */
export function choiceOf(kind: Kind): readonly string[] | null {
  return CHOOSING.includes(kind) ? CHOSEN : null;
}

/** Whom the event of a row is for; null: everybody of the account. */
export function audienceOf(row: number): readonly string[] | null {
  if (!isWhisper(row)) return null;
  const kinds = Object.keys(TOPICS);
  return [
    ['ward:0'],
    ['ward:1'],
    ['ward:0', 'ward:1', 'ward:3'],
    [`user:${kinds[(row >> 2) % kinds.length]}`],
  ][row % 4]!;
}

/** @param topics that the page's token has at the time */
export function mayHear(kind: Kind, topics: readonly string[], row: number): boolean {
  if (CHOOSING.includes(kind) && row > FIRST_STOCK && row <= FIRST_PAGE) return false;
  const audience = audienceOf(row);
  return audience === null || [...topics, `user:${kind}`].some((topic) => audience.includes(topic));
}
