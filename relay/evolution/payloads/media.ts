// The file that a message carries: what is known of it without fetching it.
import { type Fields, readLong, readText } from './field.ts';

export interface Media {
  kind: string;
  mimetype: string | null;
  fileName: string | null;
  bytes: number | null;
  seconds: number | null;
  width: number | null;
  height: number | null;
  voice: boolean;
  viewOnce: boolean;
  url: string | null;
}

/** Kinds of messages that carry a file. */
export const MEDIA_KINDS = new Set(['image', 'video', 'audio', 'document', 'sticker']);

export function readMedia(kind: string, f: Fields, wrappedOnce: boolean): Media {
  const url = readText(f.url);
  return {
    kind,
    mimetype: readText(f.mimetype),
    fileName: readText(f.fileName) ?? (kind === 'document' ? readText(f.title) : null),
    bytes: whole(f.fileLength),
    seconds: whole(f.seconds),
    width: whole(f.width),
    height: whole(f.height),
    voice: f.ptt === true,
    viewOnce: wrappedOnce || f.viewOnce === true,
    url: url?.startsWith('data:') ? null : url,
  };
}

function whole(value: unknown): number | null {
  const number = readLong(value);
  return number !== null && number >= 0 && number <= Number.MAX_SAFE_INTEGER ? Math.round(number) : null;
}
