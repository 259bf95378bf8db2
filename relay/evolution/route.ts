// POST /api/chats/sync/:instanceName — fetch the chats of an instance again, for the account of the token.
import type pg from 'pg';
import { bearerFrom } from '../auth/token.ts';
import { RefusedRequest, type Routes } from '../http/reply.ts';
import { requestSync, SyncError } from './sync.ts';

/** A history of thousands of chats takes a while; load balancers wait a minute. */
const SYNC_WITHIN_MS = 55_000;

export function syncRoutes(pool: pg.Pool): Routes {
  return {
    'POST /api/chats/sync/*': async ({ headers, url = '/' }, { subscribers }) => {
      const { accountId } = await subscribers.identify(bearerFrom({ auth: {}, headers }));
      const instanceName = decodeName(new URL(url, 'http://relay').pathname.split('/').at(-1) ?? '');
      try {
        const { created, updated } = await requestSync(pool, {
          accountId,
          instanceName,
          timeoutMs: SYNC_WITHIN_MS,
        });
        return { status: 200, body: { created, updated } };
      } catch (error) {
        if (error instanceof SyncError) throw new RefusedRequest(error.httpStatus, error.code, error.message);
        throw error;
      }
    },
  };
}

function decodeName(text: string): string {
  try {
    const name = decodeURIComponent(text);
    // Postgres cannot store a NUL in text.
    if (!name.includes('\0')) return name;
    throw new RefusedRequest(400, 'path_invalid', 'The name of the instance holds a NUL, which no name can.');
  } catch (error) {
    if (error instanceof RefusedRequest) throw error;
    throw new RefusedRequest(400, 'path_invalid', 'The name of the instance is not percent-encoded UTF-8.');
  }
}
