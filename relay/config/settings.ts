// Environment → frozen settings. The only reader of process.env: everything else is handed what it needs.
import type { z } from 'zod';
import { RecadoError } from '../errors.ts';
import { type IsSet, isSetting, type NamesIn, type Setting, type Table, type ValuesOf } from './setting.ts';
import { table } from './table.ts';

export type Settings = ValuesOf<typeof table>;
export type Environment = Readonly<Record<string, string | undefined>>;
type Name = NamesIn<typeof table>;

const OF_EVERY_COMMAND: readonly Name[] = [
  ...(['DATABASE_URL', 'DATA_DIR', 'EMBEDDED_PORT', 'LOG_LEVEL', 'LOG_FORMAT'] as const),
];

/** What a command reads besides. A command that is not here reads everything. */
const OF_COMMAND: Readonly<Record<string, readonly Name[]>> = {
  migrate: [],
  uninstall: [],
  sql: [],
  evolution: [],
  hub: [
    'HOST',
    'PORT',
    'OPERATOR_TOKEN',
    'STREAM_URL',
    'STREAM_SECONDS',
    'STREAM_BYTES',
    'SAFETY_READ_MS',
    'PACE_MS',
  ],
  contract: ['ROOM_PREFIX'],
  tail: ['SAFETY_READ_MS', 'PACE_MS'],
  trace: ['PORT', 'OPERATOR_TOKEN'],
  top: ['PORT', 'OPERATOR_TOKEN'],
};

/**
 * Reads the settings from the environment. An empty variable counts as absent, as Compose files pass them.
 *
 * @param command whose settings: what it does not use may be missing or wrong
 * @returns settings, frozen all the way down
 * @throws RecadoError `config_invalid`: one sentence (and line) per problem; no secret's value is in it
 */
export function readSettings(env: Environment = process.env, command = 'relay'): Settings {
  const problems: string[] = [];
  const needed = OF_COMMAND[command];
  const used = needed && new Set<string>([...OF_EVERY_COMMAND, ...needed]);
  const read = used ? Object.fromEntries(Object.entries(env).filter(([name]) => used.has(name))) : env;
  const settings = readTable(table, read, problems);
  if (!used) problems.push(...contradictions(env));
  if (problems.length > 0) throw new RecadoError('config_invalid', problems.join('\n'));
  return settings;
}

function readTable<T extends Table>(part: T, env: Environment, problems: string[]): ValuesOf<T> {
  const entries = Object.entries(part).map(([key, entry]) => [
    key,
    isSetting(entry) ? Object.freeze(readOne(entry, env, problems)) : readTable(entry, env, problems),
  ]);
  return Object.freeze(Object.fromEntries(entries));
}

function readOne(setting: Setting, env: Environment, problems: string[]): unknown {
  const isSet: IsSet = (name) => (env[name] ?? '').trim() !== '';
  const text = isSet(setting.name) ? received(env, setting) : defaultOf(setting, isSet);
  if (text === null) return setting.unset;
  const result = setting.schema.safeParse(text);
  if (!result.success) problems.push(problemOf(setting, text, result.error));
  return result.data;
}

function received(env: Environment, { name, verbatim }: Pick<Setting, 'name' | 'verbatim'>): string {
  const text = env[name] ?? '';
  return verbatim ? text : text.trim();
}

function defaultOf({ default: text }: Setting, isSet: IsSet): string | null {
  return (typeof text === 'function' ? text(isSet) : text) ?? null;
}

function problemOf(setting: Setting, text: string, error: z.ZodError): string {
  // A value with an @ may be an address with a password.
  const hidden = setting.secret === true || text.includes('@');
  const shown = hidden ? 'set (its value is not shown here)' : `"${abbreviate(text)}"`;
  const expected = error.issues.map((issue) => issue.message).join(', and ');
  const without = setting.absent ?? setting.default;
  const remedy = setting.remedy ?? `Correct it, or leave it unset (${without}).`;
  return `${setting.name} is ${shown}, but ${expected}. ${remedy}`;
}

function abbreviate(text: string): string {
  return text.length > 80 ? `${text.slice(0, 80)}…` : text;
}

/** Errors that only several variables together show. */
function contradictions(env: Environment): string[] {
  const textOf = (name: Name) => received(env, { name });
  const has = (name: Name) => textOf(name) !== '';
  const problems: string[] = [];
  if (has('JWT_SECRET') && has('JWT_JWKS_URL')) {
    problems.push(
      'JWT_SECRET and JWT_JWKS_URL are both set, but a token is verified one way only. Unset the one that your token issuer does not use.',
    );
  }
  if (has('DATABASE_URL') && !has('JWT_SECRET') && !has('JWT_JWKS_URL')) {
    problems.push(
      'JWT_SECRET and JWT_JWKS_URL are both unset, but with DATABASE_URL one of them is needed to verify tokens. Set JWT_SECRET to the secret your API signs with, or JWT_JWKS_URL to the address of its key set.',
    );
  }
  if (has('JWT_SECRET_PREVIOUS') && !has('JWT_SECRET')) {
    problems.push(
      'JWT_SECRET_PREVIOUS is set, but JWT_SECRET is not, and the first counts only beside the second. Set JWT_SECRET to the secret your API signs with from now on, or unset JWT_SECRET_PREVIOUS.',
    );
  }
  const algorithms = textOf('JWT_ALGORITHMS');
  const symmetric = algorithms.split(',').some((name) => name.trim() === 'HS256');
  // HS256 beside a key set would let a public key serve as the secret.
  if (has('JWT_JWKS_URL') && symmetric) {
    problems.push(
      'JWT_ALGORITHMS names HS256, but the keys of JWT_JWKS_URL are public and HS256 needs a secret. Remove it from the list.',
    );
  }
  if (has('JWT_ALGORITHMS') && !has('JWT_JWKS_URL') && algorithms !== 'HS256') {
    problems.push(
      `JWT_ALGORITHMS is "${abbreviate(algorithms)}", but without JWT_JWKS_URL only HS256 is accepted. Leave it unset, or set JWT_JWKS_URL.`,
    );
  }
  return problems;
}
