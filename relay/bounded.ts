// Bounds for what another server answers. It may come late or never; and fetch() unpacks what is compressed, so a few
// kilobytes may become gigabytes.
import { RecadoError } from './errors.ts';

/**
 * The body as text.
 * @param mostBytes as it is when unpacked
 * @throws RecadoError `answer_too_large`; the rest is not read
 */
export async function readBounded(response: Response, mostBytes: number): Promise<string> {
  const chunks: Uint8Array[] = [];
  let bytes = 0;
  // Leaving the loop cancels the body.
  for await (const chunk of response.body ?? []) {
    bytes += chunk.length;
    if (bytes > mostBytes) {
      throw new RecadoError('answer_too_large', `the answer has more than ${mostBytes / 1024} KiB`);
    }
    chunks.push(chunk);
  }
  return new TextDecoder().decode(Buffer.concat(chunks));
}

/**
 * Work whose signal is aborted after this time, or with the given signal. AbortSignal.any() leaves a reference with the
 * given signal each time, for as long as that lives.
 */
export async function within<T>(
  ms: number,
  signal: AbortSignal,
  work: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  signal.throwIfAborted();
  const limited = new AbortController();
  const end = () => limited.abort(signal.reason);
  signal.addEventListener('abort', end);
  const timer = setTimeout(() => limited.abort(new Error('it took too long')), ms);
  try {
    return await work(limited.signal);
  } finally {
    clearTimeout(timer);
    signal.removeEventListener('abort', end);
  }
}
