/**
 * An error Recado raises on purpose. `code` is stable and meant for programs; `message` is a sentence for
 * people: what was received, what was expected, what to do.
 */
export class RecadoError extends Error {
  override readonly name: string = 'RecadoError';
  readonly code: string;

  constructor(code: string, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}

/** The code of a system or Postgres error, such as ENOENT or 42501; undefined if it has none. */
export function errorCode(error: unknown): string | undefined {
  return errorField(error, 'code');
}

/** A text that a system or Postgres error has beside its message; undefined if it has none. */
export function errorField(
  error: unknown,
  name: 'code' | 'detail' | 'hint' | 'position' | 'stderr' | 'syscall' | 'path',
): string | undefined {
  const value: unknown = typeof error === 'object' && error !== null ? Reflect.get(error, name) : undefined;
  return typeof value === 'string' ? value : undefined;
}

/** The text of anything thrown, for a log line or an operator. */
export function errorText(error: unknown): string {
  if (error instanceof AggregateError && error.message === '') return error.errors.map(errorText).join('; ');
  return error instanceof Error ? error.message : String(error);
}
