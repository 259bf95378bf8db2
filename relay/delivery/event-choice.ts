// A client's choice among the events that it may hear. It only narrows them, so it is not authorisation.
import { Interned } from '../auth/interned.ts';
import { RecadoError } from '../errors.ts';

const MOST_NAMES = 100;
const LONGEST_NAME = 256;

/** Equal choices are the same object. */
export interface EventChoice {
  /** Equal choices have equal keys. */
  readonly key: string;
  includes(event: string): boolean;
}

const interned = new Interned<EventChoice>();

/**
 * @param given `auth.events` of a handshake: event names, or prefixes that end in *; absent means every event
 * @throws RecadoError `events_invalid`
 */
export function parseEventChoice(given: unknown): EventChoice | null {
  if (given === undefined || given === null) return null;
  if (!Array.isArray(given)) {
    throw invalid(`of type ${typeof given}, but a list of names such as ["appointments.*"]`);
  }
  if (given.length > MOST_NAMES) throw invalid(`a list of ${given.length} names, but at most ${MOST_NAMES}`);
  const names = new Set<string>();
  const list: readonly unknown[] = given;
  for (const name of list) {
    if (typeof name !== 'string') throw invalid(`a list with an item of type ${typeof name}, but a name`);
    if (name === '' || name.length > LONGEST_NAME) {
      throw invalid(`a list with a name of ${name.length} characters, but one of 1 to ${LONGEST_NAME}`);
    }
    if (/\*./.test(name))
      throw invalid('a list with a * before the end of a name, but a * only at the end of one');
    names.add(name);
  }
  const key = JSON.stringify([...names].sort());
  return interned.of(key, () => choiceOf(key, names));
}

function invalid(receivedAndExpected: string): RecadoError {
  return new RecadoError('events_invalid', `The choice of events is ${receivedAndExpected} is expected.`);
}

function choiceOf(key: string, names: ReadonlySet<string>): EventChoice {
  const prefixes = [...names].filter((name) => name.endsWith('*')).map((name) => name.slice(0, -1));
  return {
    key,
    includes: (event) => names.has(event) || prefixes.some((prefix) => event.startsWith(prefix)),
  };
}
