// Requests to an Evolution server: the key, the time limits, and the codes of refusals.
import { setTimeout as delay } from 'node:timers/promises';
import { readBounded, within } from '../../bounded.ts';
import { RecadoError } from '../../errors.ts';
import { readObject, readText } from '../payloads/field.ts';

export type EvolutionErrorCode =
  /** The key is wrong. */
  | 'evolution_unauthorized'
  /** There is no instance of that name. */
  | 'evolution_not_found'
  /** The server understood and refused (a missing licence, a bad request). */
  | 'evolution_refused'
  /** No answer, or a fault of the server: worth trying again soon. */
  | 'evolution_unreachable';

export class EvolutionError extends RecadoError {
  override readonly name = 'EvolutionError';
  declare readonly code: EvolutionErrorCode;
  /** Status of the answer; null where there was none. */
  readonly status: number | null;
  /** No connection was made, so the server cannot have done what was asked. */
  readonly neverArrived: boolean;

  constructor(code: EvolutionErrorCode, message: string, status: number | null, options?: ErrorOptions) {
    super(code, message, options);
    this.status = status;
    const reason = readObject(readObject(options?.cause)?.cause)?.code;
    this.neverArrived = NEVER_ARRIVED.has(String(reason));
  }
}

/** What the operating system and fetch say when no connection could be made. */
const NEVER_ARRIVED = new Set([
  'ECONNREFUSED',
  'ENOTFOUND',
  'EAI_AGAIN',
  'EHOSTUNREACH',
  'ENETUNREACH',
  'UND_ERR_CONNECT_TIMEOUT',
]);

export interface RequestOptions {
  host: string;
  apiKey: string;
  signal: AbortSignal;
  /** For one request; Evolution has no timeouts of its own. */
  timeoutMs?: number;
  /** Attempts while the server answers with a fault: it answers 500 for some seconds after its start. */
  attempts?: number;
}

/** The largest answer, decompressed. Where the server does not page, one answer holds all chats. */
const MOST_BYTES = 32 * 1024 * 1024;

export interface Requests {
  /** Sent once: a request that broke off may have been carried out. */
  once(method: string, path: string, body?: unknown): Promise<unknown>;
  /** Repeated while the server answers with a fault. */
  request(method: string, path: string, body?: unknown): Promise<unknown>;
}

export function createRequests(options: RequestOptions): Requests {
  const { apiKey, signal, timeoutMs = 30_000, attempts = 4 } = options;
  const base = options.host.replace(/\/+$/, '');

  /** Hides the key, plain and as JSON writes it, and credentials in addresses. */
  function masked(text: string): string {
    const spellings = [apiKey, JSON.stringify(apiKey).slice(1, -1)].filter((spelling) => spelling !== '');
    return spellings
      .reduce((rest, spelling) => rest.replaceAll(spelling, '***'), text)
      .replace(/(https?:\/\/)[^\s/@]*@/gi, '$1***@');
  }

  const once: Requests['once'] = (method, path, body) =>
    within(timeoutMs, signal, (limited) => send(limited, method, path, body));

  async function send(limited: AbortSignal, method: string, path: string, body: unknown): Promise<unknown> {
    let response: Response;
    try {
      response = await fetch(`${base}${path}`, {
        method,
        headers: { apikey: apiKey, ...(body !== undefined && { 'content-type': 'application/json' }) },
        ...(body !== undefined && { body: JSON.stringify(body) }),
        // A redirect would take the key to another address.
        redirect: 'manual',
        signal: limited,
      });
    } catch (error) {
      if (signal.aborted) throw error;
      throw new EvolutionError(
        'evolution_unreachable',
        masked(`no answer from ${base}${path}: ${reasonOf(error)}`),
        null,
        { cause: error },
      );
    }
    let text: string;
    try {
      text = await readBounded(response, MOST_BYTES);
    } catch (error) {
      if (signal.aborted) throw error;
      if (error instanceof RecadoError)
        throw new EvolutionError('evolution_refused', `${path}: ${error.message}`, response.status);
      throw new EvolutionError(
        'evolution_unreachable',
        masked(`the answer of ${path} broke off: ${reasonOf(error)}`),
        response.status,
        { cause: error },
      );
    }
    if (response.ok) return parse(text, path);
    throw refusal(response.status, text, path);
  }

  function refusal(status: number, text: string, path: string): EvolutionError {
    // Masked before it is cut, or a part of the key could remain.
    const said = saidIn(masked(text));
    const sentence = `Evolution answered ${status} to ${path}: ${said}`;
    if (status === 401 || status === 403)
      return new EvolutionError('evolution_unauthorized', sentence, status);
    if (status === 404 && !/^cannot /i.test(said))
      return new EvolutionError('evolution_not_found', sentence, status);
    const isInTrouble = status >= 500 && !/LICENSE/.test(text);
    return new EvolutionError(isInTrouble ? 'evolution_unreachable' : 'evolution_refused', sentence, status);
  }

  async function request(method: string, path: string, body?: unknown): Promise<unknown> {
    for (let attempt = 1; ; attempt++) {
      try {
        return await once(method, path, body);
      } catch (error) {
        const isPassing =
          error instanceof EvolutionError && error.code === 'evolution_unreachable' && error.status !== null;
        if (!isPassing || attempt >= attempts) throw error;
        await delay(200 * 2 ** attempt * (0.5 + Math.random()), undefined, { signal });
      }
    }
  }

  return { once, request };
}

function parse(text: string, path: string): unknown {
  if (text.trim() === '') return null;
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new EvolutionError(
      'evolution_unreachable',
      `the answer of ${path} is not JSON; is this an Evolution server?`,
      200,
      { cause: error },
    );
  }
}

// {"response": {"message": text | [text] | [[text]]}}, by status.
function saidIn(text: string): string {
  let said = text;
  try {
    const body = readObject(JSON.parse(text));
    const message = readObject(body?.response)?.message ?? body?.message ?? body?.error ?? text;
    said = [message]
      .flat(3)
      .map((part) => (typeof part === 'string' ? part : JSON.stringify(part)))
      .join('; ');
  } catch {
    // The HTML page of a proxy: its beginning is enough.
  }
  return said.replace(/\s+/g, ' ').slice(0, 300);
}

// fetch says "fetch failed" and puts the reason (refused, unknown host) into `cause`, sometimes only as a code.
function reasonOf(error: unknown): string {
  const fields = readObject(error);
  const cause = readObject(fields?.cause);
  return readText(cause?.message) ?? readText(cause?.code) ?? readText(fields?.message) ?? String(error);
}
