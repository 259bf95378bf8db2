// What another server answers, read only so far. fetch() unpacks what is compressed: a few kilobytes may become
// gigabytes, and a body may never end.
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
