// Each parser turns a variable's text into its value. The message of a failed one is the rest of the sentence
// "<VARIABLE> is <received>, but …".
import { isIP } from 'node:net';
import { z } from 'zod';

export const KIB = 1024;
export const MIB = 1024 * KIB;
export const GIB = 1024 * MIB;

export function wholeNumber(min: number, max: number) {
  const message = `a whole number from ${min} to ${max} is expected`;
  return z
    .string()
    .regex(/^\d{1,15}$/, message)
    .transform(Number)
    .pipe(z.number().min(min, message).max(max, message));
}

export function size(min: number, max: number) {
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

export function showSize(bytes: number): string {
  for (const [name, unit] of [
    ['GiB', GIB],
    ['MiB', MIB],
    ['KiB', KIB],
  ] as const) {
    if (bytes >= unit && bytes % unit === 0) return `${bytes / unit} ${name}`;
  }
  return `${bytes} bytes`;
}

export function choice<const T extends string>(values: readonly T[]) {
  return z
    .string()
    .toLowerCase()
    .pipe(z.enum(values, `one of ${values.join(', ')} is expected`));
}

export const onOffAuto = z
  .string()
  .toLowerCase()
  .transform(
    (text) => ({ true: 'on', yes: 'on', '1': 'on', false: 'off', no: 'off', '0': 'off' })[text] ?? text,
  )
  .pipe(z.enum(['auto', 'on', 'off'], 'one of auto, on, off is expected'));

/** Comma-separated; blanks around the items and empty items are dropped. */
export const list = z
  .string()
  .transform((text): readonly string[] => text.split(',').map((item) => item.trim()))
  .transform((items): readonly string[] => items.filter((item) => item !== ''))
  .refine((items) => items.length > 0, 'a comma-separated list with at least one item is expected');

export function word(maxLength: number) {
  return z.string().refine((text) => text.length <= maxLength && !/[\s\p{Cc}]/u.test(text), {
    message: `at most ${maxLength} characters without blanks are expected`,
  });
}

/** A secret of at least `min` bytes. The message tells its length only. */
export function secret(min: number) {
  return z.string().superRefine((text, context) => {
    const bytes = Buffer.byteLength(text);
    if (bytes < min) context.addIssue(`it has ${bytes} bytes and at least ${min} are expected`);
  });
}

export const host = z
  .string()
  .refine(
    (text) => isIP(text) !== 0 || /^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$/i.test(text),
    'an IP address or a host name is expected, without scheme and port',
  );

export function listOf(known: readonly string[]) {
  return list.superRefine((items, context) => {
    if (!items.every((item) => known.includes(item))) {
      context.addIssue(`only ${known.join(', ')} are known`);
    }
  });
}

export const origins = list
  .superRefine((items, context) => {
    if (items.includes('*') && items.length > 1) {
      context.addIssue('either * alone or a list of origins is expected');
    }
    if (!items.every((item) => item === '*' || isOrigin(item))) {
      context.addIssue(
        'every item must be an origin as browsers send it, such as https://app.example or http://localhost:5173',
      );
    }
  })
  .transform((items) => (items.includes('*') ? '*' : items));

/** Browsers send scheme, host and unusual port, in lower case, and nothing after them; anything else would never match. */
function isOrigin(text: string): boolean {
  // Not http: an app's shell, such as capacitor://localhost, for which URL knows no origin.
  if (!/^https?:/.test(text)) return /^[a-z][a-z0-9+.-]*:\/\/[a-z0-9.:-]+$/.test(text);
  return URL.canParse(text) && new URL(text).origin === text;
}

export const path = z
  .string()
  .regex(/^\/[\w.~/-]*$/, 'a path that begins with / is expected, such as /realtime')
  .transform((text) => text.replace(/\/+$/, ''));

export const collectorUrl = z
  .string()
  .refine(
    (text) => URL.canParse(text) && /^https?:$/.test(new URL(text).protocol),
    'the http or https address of a collector is expected',
  );

export const jwksUrl = z.string().superRefine((text, context) => {
  const url = URL.canParse(text) ? new URL(text) : null;
  if (url === null || !/^https?:$/.test(url.protocol)) {
    context.addIssue('the http or https address of a key set is expected');
  } else if (url.username !== '' || url.password !== '') {
    context.addIssue('an address without user name and password is expected');
  }
});

export const postgresUrl = z
  .string()
  .superRefine((text, context) => {
    const problem = postgresUrlProblem(text);
    if (problem !== null) context.addIssue(problem);
  })
  .transform(withoutApplicationName);

/** It would win over the names by which relay.status, relay.check() and uninstall know Recado's sessions. */
function withoutApplicationName(url: string): string {
  return url.replace(/(?<=[?&])application_name=[^&]*(&|$)/g, '').replace(/[?&]$/, '');
}

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
    return 'it leads to a transaction pooler (pgbouncer=true), through which LISTEN hears nothing; the direct address of the database is expected';
  }
  return null;
}

export const redisUrl = z.string().superRefine((text, context) => {
  const url = URL.canParse(text) ? new URL(text) : null;
  if (url === null || !/^rediss?:$/.test(url.protocol) || url.hostname === '') {
    context.addIssue(
      'an address that begins with redis:// or, for TLS, rediss:// is expected; characters such as # / ? @ % in a password must be percent-encoded',
    );
  }
});

function decodes(text: string): boolean {
  const { username, password, pathname } = new URL(text);
  try {
    decodeURIComponent(username + password + pathname);
    return true;
  } catch {
    return false;
  }
}
