// An instance as the database describes it to the worker that holds it.

/** An instance this worker holds. The key is a secret: it goes to Evolution and nowhere else. */
export interface Instance {
  id: string;
  name: string;
  tenantId: string;
  host: string;
  apiKey: string;
  mode: 'auto' | 'instance' | 'global';
  skip: string[];
  ownJid: string | null;
  sourceId: string;
  caughtUpTo: Date | null;
  synced: boolean;
  /** How many messages up to a time the server last had; null: not asked yet, or the server does not count. */
  older: { until: Date; total: number } | null;
  /** The server's id of the instance, if it says. An instance with another id has another history. */
  serverId: string | null;
  maySend: boolean;
  mayMarkRead: boolean;
  sendsPerMinute: number;
  /** Rows of evolution.outgoing wait, or were being sent when a worker ended. */
  hasOutgoing: boolean;
  hasReceipts: boolean;
  syncRequest: string | null;
}

/** Our connection to an instance, as evolution.instances.status shows it. */
export type ConnectionStatus =
  | 'disconnected'
  | 'connecting'
  | 'waiting'
  | 'connected'
  | 'polling'
  | 'unreachable'
  | 'unauthorized'
  | 'not_found'
  | 'refused';

export interface ClaimRow extends Omit<Instance, 'sourceId' | 'caughtUpTo' | 'older' | 'syncRequest'> {
  source_id: string;
  caught_up_to_ms: string | null;
  older_until_ms: string | null;
  older_total: string | null;
  sync_request: string | null;
}

export const CLAIM = `
  select id::text, name, "tenantId", host, "apiKey", mode, to_json(skip) as skip, "ownJid", source_id::text,
         (extract(epoch from caught_up_to) * 1000)::bigint::text as caught_up_to_ms, synced,
         (extract(epoch from older_until) * 1000)::bigint::text as older_until_ms, older_total::text, server_id as "serverId",
         may_send as "maySend", may_mark_read as "mayMarkRead", sends_per_minute as "sendsPerMinute",
         has_outgoing as "hasOutgoing", has_receipts as "hasReceipts", sync_request::text
    from evolution.claim($1, $2, $3)`;

export function readClaim({
  source_id,
  caught_up_to_ms,
  older_until_ms,
  older_total,
  sync_request,
  ...row
}: ClaimRow): Instance {
  return {
    ...row,
    sourceId: source_id,
    caughtUpTo: caught_up_to_ms === null ? null : new Date(Number(caught_up_to_ms)),
    older:
      older_until_ms === null || older_total === null
        ? null
        : { until: new Date(Number(older_until_ms)), total: Number(older_total) },
    syncRequest: sync_request,
  };
}
