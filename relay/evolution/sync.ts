// The relay's half of POST /api/chats/sync/:instanceName: it writes a request to the database and waits until the
// worker has written the result. The relay itself never calls Evolution.
import { setTimeout as delay } from 'node:timers/promises';
import type pg from 'pg';
import { RecadoError } from '../errors.ts';
import { isWhatsAppInstalled } from './overview.ts';

export type SyncErrorCode =
  | 'sync_instance_unknown'
  | 'sync_instance_disabled'
  | 'sync_running'
  | 'sync_refused'
  | 'sync_failed'
  | 'sync_timeout';

const HTTP_STATUS: Record<SyncErrorCode, number> = {
  sync_instance_unknown: 404,
  sync_instance_disabled: 409,
  sync_running: 409,
  sync_refused: 502,
  sync_failed: 502,
  sync_timeout: 504,
};

/** Why a sync did not happen; `httpStatus` is what the endpoint answers. */
export class SyncError extends RecadoError {
  override readonly name = 'SyncError';
  declare readonly code: SyncErrorCode;
  readonly httpStatus: number;

  constructor(code: SyncErrorCode, message: string, options?: ErrorOptions) {
    super(code, message, options);
    this.httpStatus = HTTP_STATUS[code];
  }
}

export interface SyncOptions {
  /** Account of the token. Another account's instance does not exist for it. */
  accountId: string;
  instanceName: string;
  timeoutMs: number;
}

const LOOK_EVERY_MS = 100;

export async function requestSync(
  pool: pg.Pool,
  { accountId, instanceName, timeoutMs }: SyncOptions,
): Promise<{ created: number; updated: number }> {
  const deadline = Date.now() + timeoutMs;
  if (!(await isWhatsAppInstalled(pool))) throw unknown(instanceName);
  const request = await ask(pool, accountId, instanceName);
  // Looking at one row by its key ten times a second costs less than a LISTEN connection per waiting request.
  for (;;) {
    const { rows } = await pool.query<Row>(
      'select state, created, updated, error_code, error from evolution.sync_requests where id = $1',
      [request],
    );
    const row = rows[0];
    if (row === undefined) throw unknown(instanceName);
    if (row.state === 'done') return { created: row.created ?? 0, updated: row.updated ?? 0 };
    if (row.state === 'failed') {
      const code = row.error_code?.startsWith('evolution_') ? 'sync_refused' : 'sync_failed';
      throw new SyncError(code, row.error ?? 'the sync failed');
    }
    if (Date.now() + LOOK_EVERY_MS > deadline) break;
    await delay(LOOK_EVERY_MS);
  }
  // A request that has not begun is withdrawn, so that the next is not refused as running.
  await pool.query(
    `update evolution.sync_requests set state = 'failed', error_code = 'sync_timeout', error = 'no worker began it in time', finished_at = now()
      where id = $1 and state = 'queued'`,
    [request],
  );
  throw new SyncError(
    'sync_timeout',
    `the sync of ${JSON.stringify(instanceName)} did not end within ${timeoutMs} ms; it continues if it had begun`,
  );
}

interface Row {
  state: 'queued' | 'running' | 'done' | 'failed';
  created: number | null;
  updated: number | null;
  error_code: string | null;
  error: string | null;
}

async function ask(pool: pg.Pool, accountId: string, instanceName: string): Promise<string> {
  try {
    const { rows } = await pool.query<{ id: string }>('select evolution.request_sync($1, $2)::text as id', [
      instanceName,
      accountId,
    ]);
    const row = rows[0];
    if (row === undefined) throw unknown(instanceName);
    return row.id;
  } catch (error) {
    const code = error instanceof Error && 'code' in error ? error.code : null;
    if (code === 'P0002') throw unknown(instanceName);
    if (code === '55006')
      throw new SyncError('sync_running', `a sync of ${JSON.stringify(instanceName)} is already running`);
    if (code === '55000')
      throw new SyncError(
        'sync_instance_disabled',
        `the instance ${JSON.stringify(instanceName)} is switched off`,
      );
    throw error;
  }
}

function unknown(instanceName: string): SyncError {
  return new SyncError(
    'sync_instance_unknown',
    `there is no instance ${JSON.stringify(instanceName)} in this account`,
  );
}
