// What recado doctor says of the stream that STREAM_URL names.
import { errorText } from '../../errors.ts';
import { createLog } from '../../log.ts';
import type { Session } from '../../outbox/events.ts';
import { readInstallation, readServer } from '../../outbox/start.ts';
import { RedisReader } from '../../stream/redis-reader.ts';
import { broken, type Finding, ok, warning } from './finding.ts';

/** A hub appends each half second. */
const HEARD_WITHIN_MS = 3_000;

/** @param url null: there is no stream */
export async function findStream(url: string | null, session: Session): Promise<Finding[]> {
  if (url === null) return [];
  const address = { url, installation: await readInstallation(session) };
  const reader = new RedisReader(address, createLog('silent', false));
  try {
    await reader.seek(() => true);
    const server = await readServer(session);
    let foreign = false;
    for (const deadline = Date.now() + HEARD_WITHIN_MS; Date.now() < deadline; ) {
      for (const entry of await reader.next()) {
        if (entry.server === server) return [ok('stream', 'a hub appends to it')];
        foreign = true;
      }
    }
    return [
      warning(
        'stream',
        foreign
          ? 'only entries of another database, or of an earlier run of this one, are appended: correct DATABASE_URL or STREAM_URL of the hubs.'
          : 'no hub appends to it, so relays read the database: start "recado hub".',
      ),
    ];
  } catch (error) {
    return [broken('stream', errorText(error))];
  } finally {
    await reader.close();
  }
}
