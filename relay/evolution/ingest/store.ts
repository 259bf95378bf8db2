// The worker's SQL for instances, facts and syncs.
import type pg from 'pg';
import { errorText } from '../../errors.ts';
import { Facts, type QrFact, type SessionFact } from '../payloads/facts.ts';
import type { Json } from '../payloads/redact.ts';
import { CLAIM, type ClaimRow, type ConnectionStatus, type Instance, readClaim } from './instance.ts';

export interface Ingested {
  created: number[];
  updated: number[];
  messages: number;
}

/** The facts of one envelope. If the database refuses them, only they are set aside. */
export interface Unit {
  event: string;
  facts: Facts;
}

export interface Store {
  claim(): Promise<Instance[]>;
  leave(): Promise<void>;
  /**
   * Writes the facts of many envelopes in one statement. Where the database refuses one for its content, that
   * one is kept in evolution.rejected and the others are written; any other failure is thrown.
   */
  ingest(instance: Instance, units: readonly Unit[], firstReading?: boolean): Promise<Ingested>;
  reject(instance: Instance, event: string, reason: string, item: Json): Promise<void>;
  setStatus(instance: Instance, status: ConnectionStatus, reason: string | null): Promise<void>;
  /** Unless another connection, of this worker or another, has taken over. */
  setDisconnected(instance: Instance): Promise<void>;
  setSession(instance: Instance, session: SessionFact): Promise<void>;
  setQr(instance: Instance, qr: QrFact): Promise<void>;
  caughtUp(instance: Instance, now: Pick<Instance, 'caughtUpTo' | 'older' | 'serverId'>): Promise<void>;
  /** False when another worker was faster or the request was withdrawn. */
  startSync(request: string): Promise<boolean>;
  finishSync(
    request: string,
    outcome: { created: number; updated: number } | { code: string; error: string },
  ): Promise<void>;
  /** Queues the syncs again that a dead worker was running. */
  requeueSyncs(instance: Instance): Promise<void>;
  prune(): Promise<void>;
}

export interface WorkerProcess {
  id: string;
  host: string;
  pid: number;
}

export function createStore(pool: pg.Pool, me: WorkerProcess): Store {
  async function query<Row extends pg.QueryResultRow>(text: string, values: unknown[]): Promise<Row[]> {
    return (await pool.query<Row>(text, values)).rows;
  }

  async function ingestOnce(instance: Instance, facts: Facts, first: boolean): Promise<Ingested> {
    const [row] = await query<{ answer: Ingested }>(
      'select evolution.ingest($1::bigint, $2::jsonb, $3) as answer',
      [instance.sourceId, JSON.stringify(facts), first],
    );
    return row!.answer;
  }

  const store: Store = {
    async claim() {
      return (await query<ClaimRow>(CLAIM, [me.id, me.host, me.pid])).map(readClaim);
    },

    async leave() {
      await query('select evolution.leave($1)', [me.id]);
    },

    async ingest(instance, units, firstReading = false) {
      const facts = new Facts();
      for (const unit of units) facts.add(unit.facts);
      if (facts.empty) return { created: [], updated: [], messages: 0 };
      try {
        return await ingestOnce(instance, facts, firstReading);
      } catch (error) {
        if (!isAboutContent(error)) throw error;
        const [only] = units;
        if (units.length === 1 && only !== undefined) {
          await store.reject(
            instance,
            only.event,
            `the database refused it: ${errorText(error)}`,
            summary(facts),
          );
          return { created: [], updated: [], messages: 0 };
        }
        const half = units.length >> 1;
        const one = await store.ingest(instance, units.slice(0, half), firstReading);
        const other = await store.ingest(instance, units.slice(half), firstReading);
        return {
          created: [...one.created, ...other.created],
          updated: [...one.updated, ...other.updated],
          messages: one.messages + other.messages,
        };
      }
    },

    async reject(instance, event, reason, item) {
      await query(
        'insert into evolution.rejected ("tenantId", "instanceName", event, reason, item) values ($1, $2, $3, $4, $5)',
        [instance.tenantId, instance.name, event, reason.slice(0, 2000), JSON.stringify(item)],
      );
    },

    async setStatus(instance, status, reason) {
      await query(
        `update evolution.instances set status = $2, "statusReason" = $3, "statusAt" = now()
          where id = $1 and (status, "statusReason") is distinct from ($2, $3)`,
        [instance.id, status, reason],
      );
    },

    async setDisconnected(instance) {
      await query(
        `update evolution.instances as i set status = 'disconnected', "statusReason" = null, "statusAt" = now()
          where i.id = $1 and i.status <> 'disconnected'
            and not exists (select from evolution.leases as l where l.instance_id = i.id and l.until >= clock_timestamp())`,
        [instance.id],
      );
    },

    async setSession(instance, { state, reason, ownJid, profileName }) {
      // A reason belongs to its state: the same state without a reason keeps it.
      await query(
        `update evolution.instances as i
            set state = n.state, "stateReason" = n.reason, "ownJid" = n.own, "profileName" = n.profile
           from (select k.id, $2::text as state, case when k.state = $2 then coalesce($3, k."stateReason") else $3::text end as reason,
                        coalesce($4, k."ownJid") as own, coalesce($5, k."profileName") as profile
                   from evolution.instances as k where k.id = $1) as n
          where i.id = n.id
            and (i.state, i."stateReason", i."ownJid", i."profileName") is distinct from (n.state, n.reason, n.own, n.profile)`,
        [instance.id, state, reason, ownJid, profileName],
      );
    },

    async setQr(instance, { code, pairingCode, problem }) {
      if (code === null) {
        await query(
          'update evolution.instances set "qrCode" = null, "pairingCode" = null, "stateReason" = $2 where id = $1',
          [instance.id, problem],
        );
        return;
      }
      await query(
        `update evolution.instances set "qrCode" = $2, "pairingCode" = $3, "qrAt" = now()
          where id = $1 and ("qrCode", "pairingCode") is distinct from ($2, $3)`,
        [instance.id, code, pairingCode],
      );
    },

    async caughtUp(instance, { caughtUpTo, older, serverId }) {
      await query(
        `update evolution.sources set caught_up_to = greatest(caught_up_to, $2::timestamptz),
                synced_at = coalesce(synced_at, now()), older_until = $3, older_total = $4,
                server_id = coalesce($5, server_id) where id = $1`,
        [
          instance.sourceId,
          caughtUpTo?.toISOString() ?? null,
          older?.until.toISOString() ?? null,
          older?.total ?? null,
          serverId,
        ],
      );
    },

    async startSync(request) {
      const rows = await query(
        `update evolution.sync_requests set state = 'running' where id = $1 and state = 'queued' returning id`,
        [request],
      );
      return rows.length === 1;
    },

    async finishSync(request, outcome) {
      const done = 'created' in outcome;
      await query(
        `update evolution.sync_requests
            set state = $2, created = $3, updated = $4, error_code = $5, error = $6, finished_at = now()
          where id = $1 and finished_at is null`,
        [
          request,
          done ? 'done' : 'failed',
          done ? outcome.created : null,
          done ? outcome.updated : null,
          done ? null : outcome.code,
          done ? null : outcome.error,
        ],
      );
    },

    async requeueSyncs(instance) {
      await query(
        `update evolution.sync_requests set state = 'queued' where instance_id = $1 and state = 'running'`,
        [instance.id],
      );
    },

    async prune() {
      await query(`delete from evolution.parked where parked_at < now() - interval '30 days'`, []);
      await query(`delete from evolution.rejected where rejected_at < now() - interval '30 days'`, []);
      await query(`delete from evolution.sync_requests where finished_at < now() - interval '30 days'`, []);
    },
  };
  return store;
}

// 22 data exception, 23 a constraint, 54 too large or too deep: the same facts would fail again. Everything else
// (connection, deadlock, missing function, disk) is not the envelope's fault.
function isAboutContent(error: unknown): boolean {
  const code = error instanceof Error && 'code' in error ? error.code : null;
  return typeof code === 'string' && /^(22|23|54)/.test(code);
}

// The facts of one envelope, cut to a readable size. Binaries are redacted already.
function summary(facts: Facts): Json {
  const text = JSON.stringify(facts);
  if (text.length > 20_000) return text.slice(0, 20_000);
  const kept: Json = JSON.parse(text);
  return kept;
}
