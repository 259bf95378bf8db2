// Environment → frozen settings. The only reader of process.env: everything else is handed what it needs.
// A variable's default, its help and its parser stand together in one table; `recado --help` and the README
// print that table, so they cannot drift from it.
import { existsSync, readFileSync } from 'node:fs';
import { isIP } from 'node:net';
import { dirname, join, resolve, sep } from 'node:path';
import { fileURLToPath } from 'node:url';
import { z } from 'zod';
import { RecadoError } from './errors.ts';

const KIB = 1024;
const MIB = 1024 * KIB;
const GIB = 1024 * MIB;

/** The largest event, in bytes of its payload's JSON text; a larger one becomes `relay:resync`. */
export const MAX_EVENT_BYTES = 4 * MIB;

/** Bytes an HMAC secret must have: RFC 7518 §3.2 asks for a key at least as long as the hash, 256 bits. */
export const MIN_SECRET_BYTES = 32;

/** How bearer tokens are verified: with a shared secret, with a published key set, or (embedded database only) with a secret that is made at first start and kept in the data folder. */
export type JwtKey =
  | { readonly kind: 'secret'; readonly secret: string }
  | { readonly kind: 'jwks'; readonly url: string }
  | { readonly kind: 'generated' };

export interface JwtSettings {
  readonly key: JwtKey;
  /** `iss` must equal this; null accepts any. */
  readonly issuer: string | null;
  /** `aud` must name one of these; empty accepts any. */
  readonly audience: readonly string[];
  /** The claim that names the account. */
  readonly accountClaim: string;
  /** Seconds a token stays good after `exp` and is good before `nbf`, for clocks that differ. */
  readonly clockTolerance: number;
  /** Signature algorithms accepted; `['HS256']` unless the key is a key set. */
  readonly algorithms: readonly string[];
}

export interface Settings {
  readonly database:
    | { readonly kind: 'url'; readonly url: string }
    /** `dataDir` is absolute; `port` is preferred, another is taken when it is in use. */
    | { readonly kind: 'embedded'; readonly dataDir: string; readonly port: number };
  readonly http: {
    readonly host: string;
    /** 0 lets the system choose. */
    readonly port: number;
    /** Origins whose pages may connect; empty means none but our own. */
    readonly corsOrigin: '*' | readonly string[];
    /** Connections without a verified token that one address may hold. */
    readonly connectionsPerAddress: number;
    /** Connections with a verified token that one account may hold in one process. */
    readonly connectionsPerAccount: number;
    /** Connections one process may hold. */
    readonly maxConnections: number;
    /** Proxies before us that append to X-Forwarded-For. */
    readonly trustedProxies: number;
    /** Bearer of the operator endpoints; null leaves them to loopback. */
    readonly operatorToken: string | null;
  };
  readonly jwt: JwtSettings;
  readonly roomPrefix: string;
  readonly log: { readonly level: LogLevel; readonly pretty: boolean };
  readonly relay: {
    readonly processes: number;
    /** Bounds of the in-memory window of recent events, whichever is reached first. */
    readonly windowBytes: number;
    readonly windowEvents: number;
    /** Bytes that may wait for one socket before it is closed as too slow; more than MAX_EVENT_BYTES. */
    readonly clientBufferBytes: number;
    /** Milliseconds between safety reads. */
    readonly safetyReadMs: number;
    /** Milliseconds between reads while the gate is closed. */
    readonly paceMs: number;
  };
  readonly evolution: { readonly worker: 'auto' | 'on' | 'off' };
}

const LOG_LEVELS = ['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'] as const;
type LogLevel = (typeof LOG_LEVELS)[number];

const ASYMMETRIC_ALGORITHMS = [
  ...['RS256', 'RS384', 'RS512', 'PS256', 'PS384', 'PS512'],
  ...['ES256', 'ES384', 'ES512', 'EdDSA', 'Ed25519'],
];

// ---------------------------------------------------------------------------------------------------------
// Parsers. Each turns a variable's text into its value; the message of a failed one is the rest of the
// sentence "<VARIABLE> is <received>, but …".

function wholeNumber(min: number, max: number) {
  const message = `a whole number from ${min} to ${max} is expected`;
  return z
    .string()
    .regex(/^\d{1,15}$/, message)
    .transform(Number)
    .pipe(z.number().min(min, message).max(max, message));
}

function size(min: number, max: number) {
  const message = `a size from ${showSize(min)} to ${showSize(max)} is expected, in bytes or with KiB, MiB or GiB`;
  return z
    .string()
    .regex(/^\d{1,15} *([kmg]ib)?$/i, message)
    .transform(sizeInBytes)
    .pipe(z.number().min(min, message).max(max, message));
}

function sizeInBytes(text: string): number {
  const units: Record<string, number> = { kib: KIB, mib: MIB, gib: GIB };
  const unit = text.replace(/^[\d ]+/, '').toLowerCase();
  return Number.parseInt(text, 10) * (units[unit] ?? 1);
}

function showSize(bytes: number): string {
  for (const [name, unit] of [
    ['GiB', GIB],
    ['MiB', MIB],
    ['KiB', KIB],
  ] as const) {
    if (bytes >= unit && bytes % unit === 0) return `${bytes / unit} ${name}`;
  }
  return `${bytes} bytes`;
}

function choice<const T extends string>(values: readonly T[]) {
  return z
    .string()
    .toLowerCase()
    .pipe(z.enum(values, `one of ${values.join(', ')} is expected`));
}

const onOffAuto = z
  .string()
  .toLowerCase()
  .transform(
    (text) => ({ true: 'on', yes: 'on', '1': 'on', false: 'off', no: 'off', '0': 'off' })[text] ?? text,
  )
  .pipe(z.enum(['auto', 'on', 'off'], 'one of auto, on, off is expected'));

/** Comma-separated; blanks around the items and empty items are dropped. */
const list = z
  .string()
  .transform((text) => text.split(',').map((item) => item.trim()))
  .transform((items) => items.filter((item) => item !== ''))
  .refine((items) => items.length > 0, 'a comma-separated list with at least one item is expected');

function word(maxLength: number) {
  return z.string().refine((text) => text.length <= maxLength && !/[\s\p{Cc}]/u.test(text), {
    message: `a text without blanks of at most ${maxLength} characters is expected`,
  });
}

/** A secret of at least `min` bytes. The message tells its length only. */
function secret(min: number) {
  return z.string().superRefine((text, context) => {
    const bytes = Buffer.byteLength(text);
    if (bytes < min) context.addIssue(`it has ${bytes} bytes and at least ${min} are expected`);
  });
}

const host = z
  .string()
  .refine(
    (text) => isIP(text) !== 0 || /^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$/i.test(text),
    'an IP address or a host name is expected, without scheme and port',
  );

const algorithms = list.superRefine((items, context) => {
  const known = ['HS256', ...ASYMMETRIC_ALGORITHMS];
  const unknown = items.filter((item) => !known.includes(item));
  if (unknown.length > 0) context.addIssue(`only ${known.join(', ')} are known`);
});

const origins = list.superRefine((items, context) => {
  if (items.includes('*') && items.length > 1) {
    context.addIssue('either * alone or a list of origins is expected');
  }
  if (!items.every((item) => item === '*' || isOrigin(item))) {
    context.addIssue(
      'every item must be an origin as browsers send it, such as https://app.example or http://localhost:5173',
    );
  }
});

/** Browsers send scheme, host and unusual port, in lower case, and nothing after them; anything else would never match. */
function isOrigin(text: string): boolean {
  // Not http: an app's shell, such as capacitor://localhost, for which URL knows no origin.
  if (!/^https?:/.test(text)) return /^[a-z][a-z0-9+.-]*:\/\/[a-z0-9.:-]+$/.test(text);
  return URL.canParse(text) && new URL(text).origin === text;
}

const jwksUrl = z.string().superRefine((text, context) => {
  const url = URL.canParse(text) ? new URL(text) : null;
  if (url === null || !/^https?:$/.test(url.protocol)) {
    context.addIssue('the http or https address of a key set is expected');
  } else if (url.username !== '' || url.password !== '') {
    context.addIssue('an address without user name and password is expected');
  }
});

const postgresUrl = z.string().superRefine((text, context) => {
  const problem = postgresUrlProblem(text);
  if (problem !== null) context.addIssue(problem);
});

function postgresUrlProblem(text: string): string | null {
  if (!/^postgres(ql)?:\/\//.test(text)) {
    return 'an address that begins with postgres:// or postgresql:// is expected';
  }
  const unencoded = 'it cannot be parsed; characters such as # / ? @ % in a password must be percent-encoded';
  // Cut at such a character, an address may still parse, and lead elsewhere.
  if (/#|[/?].*@/.test(text.slice(text.indexOf('//') + 2))) return unencoded;
  // The form with credentials and no host (a socket folder in ?host=) is valid for Postgres, not for URL.
  const parsable = text.replace('@/', '@localhost/');
  if (!URL.canParse(parsable) || !decodes(parsable)) return unencoded;
  if (new URL(parsable).searchParams.get('pgbouncer') === 'true') {
    return 'it leads to a transaction pooler (pgbouncer=true), through which LISTEN is deaf; the direct address of the database is expected';
  }
  return null;
}

function decodes(text: string): boolean {
  const { username, password, pathname } = new URL(text);
  try {
    decodeURIComponent(username + password + pathname);
    return true;
  } catch {
    return false;
  }
}

// ---------------------------------------------------------------------------------------------------------
// The table.

interface Variable {
  /** Text that is parsed when the variable is absent or empty; null leaves the value null. */
  readonly default: string | null;
  /** What the absence means, for a null default. */
  readonly absent?: string;
  readonly help: string;
  readonly schema: z.ZodType<unknown, string>;
  /** Its value is never shown. */
  readonly secret?: true;
  /** Not trimmed: the token issuer signs with the same letters, blanks included. */
  readonly verbatim?: true;
  readonly remedy?: string;
}

const variables = {
  DATABASE_URL: {
    default: null,
    absent: 'embedded Postgres in DATA_DIR',
    help: 'Address of the Postgres that is watched: postgres://user:password@host:port/database. A direct connection, not a transaction pooler.',
    schema: postgresUrl,
    secret: true,
    remedy: 'Correct it, or leave it unset to run on an embedded Postgres.',
  },
  DATA_DIR: {
    default: '.data',
    help: 'Folder of the embedded Postgres and of the generated token secret; used only without DATABASE_URL.',
    schema: z.string(),
  },
  EMBEDDED_PORT: {
    default: '54320',
    help: 'Preferred port of the embedded Postgres; another is taken when it is in use.',
    schema: wholeNumber(1, 65_535),
  },
  HOST: {
    default: null,
    absent: '127.0.0.1 without DATABASE_URL, else 0.0.0.0',
    help: 'Address to listen on. The demo, with its generated secret, stays on this machine unless told otherwise.',
    schema: host,
  },
  PORT: {
    default: '3000',
    help: 'Port to listen on; 0 lets the system choose.',
    schema: wholeNumber(0, 65_535),
  },
  JWT_SECRET: {
    default: null,
    absent: 'none',
    help: `Secret of at least ${MIN_SECRET_BYTES} bytes that signs the bearer tokens (HS256). Either this or JWT_JWKS_URL; without DATABASE_URL and either, one is generated.`,
    schema: secret(MIN_SECRET_BYTES),
    secret: true,
    verbatim: true,
    remedy: 'Make one with "openssl rand -base64 48" and give it to the token issuer too.',
  },
  JWT_JWKS_URL: {
    default: null,
    absent: 'none',
    help: "Address of the token issuer's key set (RS, PS, ES and EdDSA signatures). Use https unless the network between is trusted.",
    schema: jwksUrl,
    remedy: 'Set it to an address such as https://issuer.example/.well-known/jwks.json.',
  },
  JWT_ALGORITHMS: {
    default: null,
    absent: `HS256 with JWT_SECRET, else ${ASYMMETRIC_ALGORITHMS.join(',')}`,
    help: 'Signature algorithms accepted, comma-separated.',
    schema: algorithms,
  },
  JWT_ISSUER: {
    default: null,
    absent: 'any',
    help: "What the token's iss must equal, to the letter.",
    schema: z.string(),
  },
  JWT_AUDIENCE: {
    default: null,
    absent: 'any',
    help: "Comma-separated; the token's aud must name one of them.",
    schema: list,
  },
  JWT_ACCOUNT_CLAIM: {
    default: 'accountId',
    help: 'Claim that names the account.',
    schema: word(256).refine(
      (name) => !['exp', 'nbf', 'iat'].includes(name),
      'a claim that is not an instant is expected',
    ),
  },
  JWT_CLOCK_TOLERANCE: {
    default: '5',
    help: 'Seconds by which the clocks of issuer and relay may differ.',
    schema: wholeNumber(0, 300),
  },
  CORS_ORIGIN: {
    default: null,
    absent: "the relay's own pages only",
    help: 'Comma-separated origins whose pages may connect, or * for all.',
    schema: origins,
  },
  CONNECTIONS_PER_ADDRESS: {
    default: '1000',
    help: 'Connections without a verified token that one network address (IPv6: one /64) may hold.',
    schema: wholeNumber(1, 1_000_000),
  },
  CONNECTIONS_PER_ACCOUNT: {
    default: '10000',
    help: 'Connections with a verified token that one account may hold, per process.',
    schema: wholeNumber(1, 1_000_000),
  },
  MAX_CONNECTIONS: {
    default: '50000',
    help: 'Connections in total, per process. The limit of open files must be higher.',
    schema: wholeNumber(1, 1_000_000),
  },
  TRUSTED_PROXIES: {
    default: '0',
    help: 'Load balancers in front that append to X-Forwarded-For; 0 believes no such header.',
    schema: wholeNumber(0, 10),
  },
  OPERATOR_TOKEN: {
    default: null,
    absent: 'operator endpoints answer nobody but, in the demo, this machine',
    help: 'Bearer token of the operator endpoints (metrics, status, sync, console), at least 16 bytes.',
    schema: secret(16),
    secret: true,
    remedy: 'Make one with "openssl rand -hex 32".',
  },
  ROOM_PREFIX: {
    default: 'orders.account.',
    help: 'Room of an account: this, followed by the account.',
    schema: word(128),
  },
  LOG_LEVEL: {
    default: 'info',
    help: `Lowest level logged: ${LOG_LEVELS.join(', ')}.`,
    schema: choice(LOG_LEVELS),
  },
  LOG_FORMAT: {
    default: 'auto',
    help: 'json, pretty, or auto: pretty on a terminal, else json.',
    schema: choice(['auto', 'json', 'pretty']),
  },
  RELAY_PROCESSES: {
    default: '1',
    help: 'Relay processes that share the port.',
    schema: wholeNumber(1, 64),
  },
  WINDOW_BYTES: {
    default: '64MiB',
    help: 'Memory per process for recent events, from which reconnecting clients are served.',
    schema: size(MIB, 16 * GIB),
  },
  WINDOW_EVENTS: {
    default: '100000',
    help: 'Most events in that memory.',
    schema: wholeNumber(100, 10_000_000),
  },
  CLIENT_BUFFER_BYTES: {
    default: '8MiB',
    help: `Bytes that may wait for one client; past it its transport is closed, and it resumes from its position. More than the largest event, ${showSize(MAX_EVENT_BYTES)}.`,
    // The envelope (event name, position) must fit beside the largest payload, or that event closes its client for ever.
    schema: size(MAX_EVENT_BYTES + 64 * KIB, GIB),
  },
  SAFETY_READ_MS: {
    default: '1000',
    help: 'Milliseconds between the reads that happen even if nothing rang.',
    schema: wholeNumber(50, 60_000),
  },
  PACE_MS: {
    default: '5',
    help: 'Milliseconds between reads while writers are spared the bell (the gate is closed).',
    schema: wholeNumber(1, 1_000),
  },
  EVOLUTION_WORKER: {
    default: 'auto',
    help: 'on, off, or auto: `recado start` runs the Evolution worker, `recado relay` does not.',
    schema: onOffAuto,
  },
} satisfies Record<string, Variable>;

type Variables = typeof variables;
type VariableName = keyof Variables;
type Values = {
  [N in VariableName]:
    | z.output<Variables[N]['schema']>
    | (Variables[N] extends { default: null } ? null : never);
};

const table = Object.entries(variables) as [VariableName, Variable][];

// ---------------------------------------------------------------------------------------------------------
// Reading it.

export type Environment = Readonly<Record<string, string | undefined>>;

const OF_EVERY_COMMAND: readonly VariableName[] = [
  ...(['DATABASE_URL', 'DATA_DIR', 'EMBEDDED_PORT', 'LOG_LEVEL', 'LOG_FORMAT'] as const),
];

/** What a command reads besides. A command that is not here reads everything. */
const OF_COMMAND: Readonly<Record<string, readonly VariableName[]>> = {
  migrate: [],
  uninstall: [],
  sql: [],
  evolution: [],
  contract: ['ROOM_PREFIX'],
  tail: ['SAFETY_READ_MS', 'PACE_MS'],
  trace: ['PORT', 'OPERATOR_TOKEN'],
};

/**
 * Reads the settings from the environment. An empty variable counts as absent, as Compose files pass them.
 *
 * @param terminal whether standard output is one; decides LOG_FORMAT=auto
 * @param command whose settings: what it does not use may be missing or wrong
 * @returns settings, frozen all the way down
 * @throws RecadoError `config_invalid`: one sentence (and line) per problem; no secret's value is in it
 */
export function readSettings(
  env: Environment = process.env,
  terminal: boolean = process.stdout.isTTY === true,
  command = 'relay',
): Settings {
  const problems: string[] = [];
  const needed = OF_COMMAND[command];
  const used = needed && new Set<string>([...OF_EVERY_COMMAND, ...needed]);
  const read = used ? Object.fromEntries(Object.entries(env).filter(([name]) => used.has(name))) : env;
  const values = readValues(read, problems);
  if (!used) problems.push(...contradictions(env));
  if (problems.length > 0) throw new RecadoError('config_invalid', problems.join('\n'));
  return deepFreeze(assemble(values, terminal));
}

function readValues(env: Environment, problems: string[]): Values {
  const entries = table.map(([name, variable]) => {
    const text = received(env, name) ?? variable.default;
    if (text === null) return [name, null];
    const result = variable.schema.safeParse(text);
    if (!result.success) problems.push(problemOf(name, variable, text, result.error));
    return [name, result.data];
  });
  return Object.fromEntries(entries) as Values;
}

function received(env: Environment, name: VariableName): string | null {
  const text = env[name];
  if (text === undefined || text.trim() === '') return null;
  const { verbatim }: Variable = variables[name];
  return verbatim ? text : text.trim();
}

function problemOf(name: VariableName, variable: Variable, text: string, error: z.ZodError): string {
  // Whatever has an @ may be an address with a password in it.
  const hidden = variable.secret === true || text.includes('@');
  const shown = hidden ? 'set (its value is not shown here)' : `"${abbreviate(text)}"`;
  const expected = error.issues.map((issue) => issue.message).join(', and ');
  const without = variable.default ?? variable.absent;
  const remedy = variable.remedy ?? `Correct it, or leave it unset (${without}).`;
  return `${name} is ${shown}, but ${expected}. ${remedy}`;
}

function abbreviate(text: string): string {
  return text.length > 80 ? `${text.slice(0, 80)}…` : text;
}

/** What no variable shows alone. */
function contradictions(env: Environment): string[] {
  const has = (name: VariableName) => received(env, name) !== null;
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
  const symmetric = received(env, 'JWT_ALGORITHMS')
    ?.split(',')
    .some((name) => name.trim() === 'HS256');
  // HS256 beside a key set would let a public key serve as the secret.
  if (has('JWT_ALGORITHMS') && has('JWT_JWKS_URL') && symmetric) {
    problems.push(
      'JWT_ALGORITHMS names HS256, but the keys of JWT_JWKS_URL are public and HS256 needs a secret. Remove it from the list.',
    );
  }
  if (has('JWT_ALGORITHMS') && !has('JWT_JWKS_URL') && received(env, 'JWT_ALGORITHMS') !== 'HS256') {
    problems.push(
      `JWT_ALGORITHMS is "${abbreviate(received(env, 'JWT_ALGORITHMS')!)}", but without JWT_JWKS_URL only HS256 is accepted. Leave it unset, or set JWT_JWKS_URL.`,
    );
  }
  return problems;
}

function assemble(values: Values, terminal: boolean): Settings {
  const embedded = values.DATABASE_URL === null;
  return {
    database:
      values.DATABASE_URL === null
        ? { kind: 'embedded', dataDir: resolve(values.DATA_DIR), port: values.EMBEDDED_PORT }
        : { kind: 'url', url: values.DATABASE_URL },
    http: {
      host: values.HOST ?? (embedded ? '127.0.0.1' : '0.0.0.0'),
      port: values.PORT,
      corsOrigin: values.CORS_ORIGIN?.includes('*') ? '*' : (values.CORS_ORIGIN ?? []),
      connectionsPerAddress: values.CONNECTIONS_PER_ADDRESS,
      connectionsPerAccount: values.CONNECTIONS_PER_ACCOUNT,
      maxConnections: values.MAX_CONNECTIONS,
      trustedProxies: values.TRUSTED_PROXIES,
      operatorToken: values.OPERATOR_TOKEN,
    },
    jwt: jwtSettings(values),
    roomPrefix: values.ROOM_PREFIX,
    log: {
      level: values.LOG_LEVEL,
      pretty: values.LOG_FORMAT === 'auto' ? terminal : values.LOG_FORMAT === 'pretty',
    },
    relay: {
      processes: values.RELAY_PROCESSES,
      windowBytes: values.WINDOW_BYTES,
      windowEvents: values.WINDOW_EVENTS,
      clientBufferBytes: values.CLIENT_BUFFER_BYTES,
      safetyReadMs: values.SAFETY_READ_MS,
      paceMs: values.PACE_MS,
    },
    evolution: { worker: values.EVOLUTION_WORKER },
  };
}

function jwtSettings(values: Values): JwtSettings {
  const key = jwtKey(values);
  return {
    key,
    issuer: values.JWT_ISSUER,
    audience: values.JWT_AUDIENCE ?? [],
    accountClaim: values.JWT_ACCOUNT_CLAIM,
    clockTolerance: values.JWT_CLOCK_TOLERANCE,
    algorithms: values.JWT_ALGORITHMS ?? (key.kind === 'jwks' ? ASYMMETRIC_ALGORITHMS : ['HS256']),
  };
}

function jwtKey(values: Values): JwtKey {
  if (values.JWT_SECRET !== null) return { kind: 'secret', secret: values.JWT_SECRET };
  if (values.JWT_JWKS_URL !== null) return { kind: 'jwks', url: values.JWT_JWKS_URL };
  return { kind: 'generated' };
}

function deepFreeze<T>(value: T): T {
  if (typeof value === 'object' && value !== null && !Object.isFrozen(value)) {
    Object.freeze(value);
    Object.values(value).forEach(deepFreeze);
  }
  return value;
}

// ---------------------------------------------------------------------------------------------------------
// Printing it.

/** The variables for a terminal: name and default on one line, the help wrapped beneath. */
export function variablesAsText(): string {
  return table
    .map(([name, variable]) => `  ${name}  (${defaultOf(variable)})\n${wrap(variable.help, 92, '      ')}`)
    .join('\n');
}

/** The variables as a Markdown table, for the README. */
export function variablesAsMarkdown(): string {
  const rows = table.map(([name, variable]) => {
    const shown = variable.default === null ? variable.absent : `\`${variable.default}\``;
    return `| \`${name}\` | ${shown} | ${variable.help} |`;
  });
  return ['| Variable | Default | Meaning |', '|---|---|---|', ...rows].join('\n');
}

function defaultOf(variable: Variable): string {
  return variable.default === null ? `unset: ${variable.absent}` : `default ${variable.default}`;
}

function wrap(text: string, width: number, indent: string): string {
  const lines: string[] = [];
  for (const part of text.split(' ')) {
    const last = lines.at(-1);
    if (last !== undefined && last.length + 1 + part.length <= width)
      lines[lines.length - 1] = `${last} ${part}`;
    else lines.push(indent + part);
  }
  return lines.join('\n');
}

// ---------------------------------------------------------------------------------------------------------
// Where we are installed.

/** Absolute path of the folder that holds our package.json, migrations/ and sql/. Found by walking up, since this file runs from relay/ and from dist/relay/. */
export const packageRoot: string = findPackageRoot(dirname(fileURLToPath(import.meta.url)));

/**
 * How a command of ours is typed here: in this repository as an npm script, in a project that depends on it by npx.
 * @param options of the command, such as `--whatsapp`
 */
export function commandLine(command: string, ...options: string[]): string {
  const installed = packageRoot.split(sep).includes('node_modules');
  if (installed) return ['npx recado', command, ...options].join(' ');
  return ['npm run', command, ...(options.length > 0 ? ['--'] : []), ...options].join(' ');
}

/** Our version, from package.json. */
export const version: string = manifestIn(packageRoot)?.version ?? 'unknown';

function findPackageRoot(folder: string): string {
  if (manifestIn(folder)?.name === 'recado') return folder;
  const parent = dirname(folder);
  if (parent === folder) {
    throw new RecadoError(
      'package_incomplete',
      `No package.json named recado was found above ${import.meta.url}. Install the package whole: it needs its migrations and sql folders.`,
    );
  }
  return findPackageRoot(parent);
}

function manifestIn(folder: string): { name?: string; version?: string } | null {
  const file = join(folder, 'package.json');
  return existsSync(file) ? JSON.parse(readFileSync(file, 'utf8')) : null;
}
