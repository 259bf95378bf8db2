// One setting: the variable it is read from, what it may be, and what it is without one. Its type follows.
import type { z } from 'zod';

/** Whether a variable is set. */
export type IsSet = (name: string) => boolean;

export interface Setting<Name extends string = string, Value = unknown> {
  readonly name: Name;
  readonly help: string;
  readonly schema: z.ZodType<Value, string>;
  /** Text that is parsed when the variable is absent or empty. */
  readonly default?: string | ((isSet: IsSet) => string);
  /** The value then, where there is no such text. */
  readonly unset?: Value;
  /** What the absence means, where the default does not say it. */
  readonly absent?: string;
  /** Its value is never shown. */
  readonly secret?: true;
  /** Not trimmed: the token issuer signs with the same letters, blanks included. */
  readonly verbatim?: true;
  readonly remedy?: string;
}

type About<Value, Unset> = Pick<Setting, 'help' | 'secret' | 'verbatim' | 'remedy'> & {
  readonly schema: z.ZodType<Value, string>;
} & (
    | { readonly default: string }
    | { readonly default: (isSet: IsSet) => string; readonly absent: string }
    | { readonly unset: Unset; readonly absent: string }
  );

/** Adds only the type, hence the cast: a value is what the schema returns, or `unset`. */
export function setting<const Name extends string, Value, Unset = never>(
  name: Name,
  about: About<Value, Unset>,
): Setting<Name, Value | Unset> {
  return { name, ...about } as Setting<Name, Value | Unset>;
}

/** A table of settings, grouped as the program uses them. */
export interface Table {
  readonly [key: string]: Setting | Table;
}

/** The values of a table. */
export type ValuesOf<T> = {
  readonly [K in keyof T]: T[K] extends Setting<string, infer Value> ? Value : ValuesOf<T[K]>;
};

/** The variables of a table. */
export type NamesIn<T> = { [K in keyof T]: T[K] extends Setting<infer Name> ? Name : NamesIn<T[K]> }[keyof T];

export function isSetting(entry: Setting | Table): entry is Setting {
  return 'schema' in entry;
}

/** Every setting of a table, in its order. */
export function settingsIn(table: Table): Setting[] {
  return Object.values(table).flatMap((entry) => (isSetting(entry) ? [entry] : settingsIn(entry)));
}
