// Remembers the last events that a relay emitted, so that `recado trace` can say what became of one.
import { errorText, RecadoError } from '../errors.ts';
import type { Session } from '../outbox/events.ts';

export interface Emitted {
  /** When the relay emitted it, in ms since 1970. */
  readonly at: number;
  readonly room: string;
  /** Live sockets it was written to. Sockets that were catching up got it from their replay. */
  readonly sockets: number;
}

const MOST = 20_000;

/**
 * The last emits of this process, in two rings that a trace searches end to end. A Map that drops its oldest key for
 * every new one has to skip all dropped entries, which costs 30 µs per event.
 */
export class Trace {
  readonly #ids: bigint[] = [];
  readonly #emitted: Emitted[] = [];
  #next = 0;

  note(id: bigint, emitted: Emitted): void {
    this.#ids[this.#next] = id;
    this.#emitted[this.#next] = emitted;
    this.#next = (this.#next + 1) % MOST;
  }

  find(id: bigint): Emitted | null {
    return this.#emitted[this.#ids.indexOf(id)] ?? null;
  }
}

export interface TracedEvent {
  readonly account: string | null;
  readonly event: string;
  readonly xid: string;
  readonly known: boolean;
  readonly capturedAt: Date;
  /** null unless the server runs with track_commit_timestamp. */
  readonly committedAt: Date | null;
  readonly bytes: number;
}

/** The event as the database has it; null if it was never there or retention has removed it. */
export async function findEvent(session: Session, id: bigint): Promise<TracedEvent | null> {
  const { rows } = await session.query<{
    account_id: string | null;
    event: string;
    xid: string;
    known: boolean;
    created_at: Date;
    committed_at: Date | null;
    bytes: number;
  }>(
    // Scans the whole table, since id has no index: this runs only when a person asks.
    `select account_id, event, xid::text, created_at, octet_length(payload::text) as bytes,
            exists (select from relay.catalogue as c where c.event = e.event) as known,
            case when current_setting('track_commit_timestamp')::boolean
                 then pg_xact_commit_timestamp(xid::xid) end as committed_at
       from relay.events as e where id = $1`,
    [id.toString()],
  );
  const row = rows[0];
  if (!row) return null;
  return {
    account: row.account_id,
    event: row.event,
    xid: row.xid,
    known: row.known,
    capturedAt: row.created_at,
    committedAt: row.committed_at,
    bytes: row.bytes,
  };
}

/**
 * What happened to an event, as lines of text.
 * @throws RecadoError `event_id_invalid`, `event_not_found`
 */
export async function traceEvent(
  session: Session,
  id: string,
  { relay, operatorToken }: { relay: string; operatorToken: string | null },
): Promise<string> {
  if (!/^\d{1,18}$/.test(id)) {
    throw new RecadoError(
      'event_id_invalid',
      `Received ${JSON.stringify(id)}, expected the id of an event, a number.`,
    );
  }
  const found = await findEvent(session, BigInt(id));
  if (!found) {
    throw new RecadoError(
      'event_not_found',
      `There is no event ${id}: its transaction was rolled back or is still open, or it is older than the retention.`,
    );
  }
  const { event, account, xid, known, capturedAt, committedAt, bytes } = found;
  const lines = [
    `event      ${event} of ${account === null ? 'every account' : `account ${account}`}, ${bytes} bytes${known ? '' : '; not in the contract, so not sent'}`,
    `captured   ${capturedAt.toISOString()} in transaction ${xid}`,
    `committed  ${committedAt ? committedAt.toISOString() : 'yes; when is known only with track_commit_timestamp = on'}`,
  ];
  return [...lines, `emitted    ${await askRelay(relay, id, operatorToken)}`].join('\n');
}

async function askRelay(relay: string, id: string, operatorToken: string | null): Promise<string> {
  const headers: Record<string, string> =
    operatorToken === null ? {} : { authorization: `Bearer ${operatorToken}` };
  try {
    const response = await fetch(`${relay}/trace?id=${id}`, { headers, signal: AbortSignal.timeout(5_000) });
    const body = (await response.json()) as { emitted?: Emitted | null; error?: { message: string } };
    if (body.error) return `unknown; ${relay} refused to answer: ${body.error.message}`;
    if (!body.emitted) return `not among the last ${MOST} events that ${relay} emitted`;
    const { at, room, sockets } = body.emitted;
    return `${new Date(at).toISOString()} to room ${room}, which had ${sockets} live sockets (${relay})`;
  } catch (error) {
    return `unknown; ${relay} cannot be reached: ${errorText(error)}`;
  }
}
