// Who is measured. Each gets a database of its own with the clinic's tables and the same doctors; what differs is
// what hangs on public.doctors, and which server (server.ts) listens. All emit the same event with the same payload.
import type pg from 'pg';

export type PeerName =
  | 'none'
  | 'outbox'
  | 'muted'
  | 'textbook'
  | 'emitter'
  | 'cursor'
  | 'recado'
  | 'ws'
  | 'wire';

/** Accounts and doctors of every database. */
export const ACCOUNTS = 100;
export const DOCTORS = 10_000;

export const EVENT = 'doctors.busy';
export const room = (account: number | string) => `orders.account.${account}`;

export interface Peer {
  readonly name: PeerName;
  readonly label: string;
  /** What is installed beside the clinic's tables; recado brings its own. */
  readonly sql: string;
  /** Statements of one writer's turn after its UPDATE. */
  readonly afterwards?: string;
  /** Tables to empty between two runs. */
  readonly empties: string | null;
  /** Settings of its writers' sessions, as PGOPTIONS. */
  readonly options?: string;
  /** Whether a server of its own runs while writers are measured. */
  readonly serves: boolean;
}

const WHEN = `when (old."isBusy" is distinct from new."isBusy")`;
export const PAYLOAD = `jsonb_build_object('id', new.id, 'isBusy', new."isBusy")`;

function trigger(body: string): string {
  return `
    create function public.doctors_busy() returns trigger language plpgsql as $$
    begin
      ${body}
      return null;
    end
    $$;
    create trigger doctors_busy after update on public.doctors for each row ${WHEN} execute function public.doctors_busy();`;
}

const OUTBOX = `
  create table public.outbox (
    id bigserial primary key,
    account_id text not null,
    event text not null,
    payload jsonb not null,
    created_at timestamptz not null default now()
  );`;
const INSERT = `insert into public.outbox (account_id, event, payload) values (new."accountId"::text, '${EVENT}', ${PAYLOAD});`;

export const peers: Readonly<Record<Exclude<PeerName, 'ws' | 'wire'>, Peer>> = {
  none: { name: 'none', label: 'no trigger (e)', sql: '', empties: null, serves: false },
  outbox: {
    name: 'outbox',
    label: 'hand-written outbox row, nobody told',
    sql: OUTBOX + trigger(INSERT),
    empties: 'public.outbox',
    serves: false,
  },
  muted: {
    name: 'muted',
    label: "recado's trigger, nobody told (f)",
    sql: '',
    empties: 'relay.events',
    options: '-c relay.ring=off',
    serves: false,
  },
  textbook: {
    name: 'textbook',
    label: 'textbook: event in pg_notify (a)',
    sql: trigger(
      `perform pg_notify('events', json_build_object('account', new."accountId", 'event', '${EVENT}', 'payload', ${PAYLOAD})::text);`,
    ),
    empties: null,
    serves: true,
  },
  emitter: {
    name: 'emitter',
    label: 'postgres-emitter + adapter (b)',
    sql: 'create table socket_io_attachments (id bigserial unique, created_at timestamptz default now(), payload bytea);',
    // What Emitter#to(room).emit() sends to its pool once the application has committed. (The blanks keep
    // pgbench from seeing variables in it.)
    afterwards: `select pg_notify('socket.io#/', '{"uid": "emitter", "type": 3, "data": {"packet": {"type": 2, "data": ["${EVENT}", {"id": 1, "isBusy": true}], "nsp": "/"}, "opts": {"rooms": ["${room(1)}"], "except": [], "flags": {}}}}');`,
    empties: null,
    serves: true,
  },
  cursor: {
    name: 'cursor',
    label: 'outbox, pg_notify per commit, id > cursor (c)',
    sql: OUTBOX + trigger(`${INSERT}\n      perform pg_notify('outbox', '');`),
    empties: 'public.outbox',
    serves: true,
  },
  recado: { name: 'recado', label: 'recado', sql: '', empties: 'relay.events', serves: true },
};

/** The clinic's contract without what the others do not tell; `level` as relay.publish() knows it. */
export async function publishBusy(session: pg.ClientBase, level: 'row' | 'statement'): Promise<void> {
  await session.query(`select relay.unpublish(event) from (select distinct event from relay.catalogue) as c`);
  await session.query(
    `select relay.publish(event => $1, on_table => 'public.doctors', operation => 'UPDATE',
       condition => 'old."isBusy" is distinct from new."isBusy"', account => 'new."accountId"',
       payload => $2, level => $3)`,
    [EVENT, PAYLOAD, level],
  );
}
