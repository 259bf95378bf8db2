// The sample clinic of the demonstration: its list, and the statements its buttons run. The page names a statement
// and a row; what is written is decided here. None of it knows of sockets or events: it is what any application,
// or psql, would write.
import pg from 'pg';
import type { Identity } from '../auth/token.ts';
import { transaction } from '../db/connect.ts';
import { hears } from '../delivery/hears.ts';
import { boundedAudience } from '../outbox/events.ts';
import { readStored, type StoredEvent, topicsHeard } from './events.ts';

/** What the page shows at first, and the position from which events change it. */
export interface Clinic {
  position: string;
  appointments: unknown[];
  doctors: unknown[];
  chats: unknown[];
  /** What was told before. */
  stored: StoredEvent[];
  topics: string[];
}

/** Lists and position are one snapshot: no event is missing between them, and none is in both. */
export async function loadClinic(pool: pg.Pool, identity: Identity): Promise<Clinic> {
  const topics = topicsHeard(identity);
  return transaction(pool, async (client) => {
    await client.query('set transaction isolation level repeatable read, read only');
    const { rows } = await client.query<Omit<Clinic, 'stored' | 'topics'>>(
      `select relay.position() as position,
         coalesce((select jsonb_agg(relay_clinic.appointment(a.id) order by a."startTime", a.id)
           from public.appointments as a join public."appointmentStatuses" as s on s.id = a."statusId"
          where a."accountId"::text = $1 and a."deletedAt" is null and s.code not in ('FINALIZADO', 'CANCELADO')), '[]') as appointments,
         coalesce((select jsonb_agg(jsonb_build_object('id', d.id, 'name', d.name, 'isBusy', d."isBusy") order by d.name, d.id)
           from public.doctors as d where d."accountId"::text = $1 and d."deletedAt" is null), '[]') as doctors,
         coalesce((select jsonb_agg(to_jsonb(c) || jsonb_build_object('attendant', a.attendant, 'lastMessage', (
             select m.content from evolution.messages as m where m."chatId" = c.id order by m."sentAt" desc, m.id desc limit 1))
             order by c."lastMessageAt" desc nulls last, c.id)
           from evolution.chats as c left join public."chatAttendants" as a on a."chatId" = c.id
          where c."tenantId" = $1 and c.status = 'ACTIVE' and public."chatAudience"(c.id) && $2), '[]') as chats`,
      [identity.accountId, topics],
    );
    return { ...rows[0]!, topics, stored: await readStored(client, identity) };
  });
}

/** Of the sample clinics. Who they are to the database is the subject of their tokens. */
export const ATTENDANTS = [
  { id: 'ana', name: 'Ana' },
  { id: 'bruno', name: 'Bruno' },
];

/** $1 is the account, $2 the row; more is chosen here. */
const actions = {
  checkin: `update appointments set "statusId" = 3
where id = $2 and "accountId" = $1`,

  call: `with called as (
  update appointments set "statusId" = 4
  where id = $2 and "accountId" = $1
  returning "doctorId"
)
update doctors set "isBusy" = true
from called where doctors.id = called."doctorId"`,

  finish: `update appointments set "statusId" = 5
where id = $2 and "accountId" = $1`,

  cancel: `update appointments set "statusId" = 6
where id = $2 and "accountId" = $1`,

  arrive: `with patient as (
  insert into patients ("accountId", name)
  values ($1, $3) returning id
)
insert into appointments ("accountId", "patientId", "doctorId",
  "statusId", date, "startTime", "endTime")
select $1, patient.id, (select id from doctors
    where "accountId" = $1 and "deletedAt" is null
    order by random() limit 1),
  3, current_date, $4, $5 from patient`,

  addDoctor: `insert into doctors ("accountId", name)
values ($1, $3)`,

  deleteDoctor: `update doctors set "deletedAt" = now()
where id = $2 and "accountId" = $1`,

  message: `with message as (
  insert into evolution.messages ("chatId", "tenantId", content, direction)
  select id, "tenantId", $3, 'INCOMING' from evolution.chats
  where id = $2 and "tenantId" = $1
  returning "chatId", "sentAt"
)
update evolution.chats as c set "unreadCount" = "unreadCount" + 1,
  "lastMessageAt" = message."sentAt"
from message where c.id = message."chatId"`,

  read: `update evolution.chats set "unreadCount" = 0
where id = $2 and "tenantId" = $1`,

  reply: `insert into evolution.outgoing ("tenantId", "instanceName",
  "chatId", text, "sentBy")
select "tenantId", "instanceName", id, $3, 'Recepção' from evolution.chats
where id = $2 and "tenantId" = $1 and "instanceName" is not null`,

  handOver: `insert into "chatAttendants" as now ("chatId", "tenantId", attendant)
select id, "tenantId", 'ana' from evolution.chats
where id = $2 and "tenantId" = $1
on conflict ("chatId") do update set attendant =
  case now.attendant when 'ana' then 'bruno' else 'ana' end`,

  sync: `insert into evolution.chats ("tenantId", "whatsappChatId",
  "contactName", "contactNumber", "lastMessageAt", "unreadCount")
select $1, jid, name, number, now(), unread from (values
  ('5511999999999@s.whatsapp.net', 'João Silva', '5511999999999', 3),
  ('120363123456789012@g.us', 'Grupo de Vendas', '120363123456789012@g.us', 0)
) as found (jid, name, number, unread)
where not exists (select from evolution.chats
  where "tenantId" = $1 and "whatsappChatId" = jid)`,

  /** With an Evolution server there, its worker does it. */
  syncInstance: `select evolution.request_sync($3)`,
} as const;

const OF_A_CHAT: ReadonlySet<ActionName> = new Set(['message', 'read', 'reply', 'handOver']);

type ActionName = Exclude<keyof typeof actions, 'syncInstance'>;

export function isActionName(name: unknown): name is ActionName {
  return typeof name === 'string' && name !== 'syncInstance' && Object.hasOwn(actions, name);
}

/** What a statement did. */
export interface Act {
  /** As one would type it into psql. */
  statement: string;
  rows: number;
  /** When COMMIT was sent, in ms since 1970 by this machine's clock, which is the browser's too. */
  committedAt: number;
  /** What the triggers recorded in that transaction, of what the token hears. */
  events: { event: string; payload: unknown }[];
}

export async function act(
  pool: pg.Pool,
  identity: Identity,
  { action, id }: { action: ActionName; id: number | null },
): Promise<Act> {
  const { accountId } = identity;
  const instance = action === 'sync' ? await findInstance(pool, accountId) : null;
  const template = actions[instance === null ? action : 'syncInstance'];
  // Tenants of chats are text, accounts of the clinic are integers.
  const account = /"tenantId"/.test(template) ? accountId : Number(accountId);
  const given = [account, id, ...chosen(action, instance)];
  const { text, values } = onlyUsed(template, given);
  const done = await transaction(pool, async (client) => {
    const mayWrite = !OF_A_CHAT.has(action) || (await mayAnswer(client, identity, id));
    const { rowCount } = mayWrite ? await client.query(text, values) : { rowCount: 0 };
    const { rows } = await client.query<{ xid: string | null }>(
      'select pg_current_xact_id_if_assigned()::text as xid',
    );
    return { rows: rowCount ?? 0, xid: rows[0]!.xid, committedAt: Date.now() };
  });
  const { rows } = await pool.query<Act['events'][number] & { audience: string[] | null }>(
    `select e.event, e.payload, ${boundedAudience('e.audience')} from relay.events as e
      where e.xid = $1::xid8 and e.account_id = $2 and e.event not like 'relay:%' order by e.id`,
    [done.xid, accountId],
  );
  const events = rows
    .filter((row) => hears({ identity, choice: null }, row))
    .map(({ event, payload }) => ({ event, payload }));
  const statement = template.replace(/\$(\d)/g, (_, number) => literal(given[Number(number) - 1]));
  return { statement, rows: done.rows, committedAt: done.committedAt, events };
}

async function mayAnswer(client: pg.PoolClient, identity: Identity, chat: number | null): Promise<boolean> {
  const { rows } = await client.query<{ may: boolean }>('select public."chatAudience"($1) && $2 as may', [
    chat,
    topicsHeard(identity),
  ]);
  return rows[0]!.may;
}

/** A parameter that a statement does not name has no type for Postgres. */
function onlyUsed(template: string, given: unknown[]): { text: string; values: unknown[] } {
  const used = [...new Set(template.match(/\$\d/g) ?? [])];
  return {
    text: template.replace(/\$\d/g, (parameter) => `$${used.indexOf(parameter) + 1}`),
    values: used.map((parameter) => given[Number(parameter.slice(1)) - 1]),
  };
}

function literal(value: unknown): string {
  if (value === null || value === undefined) return 'null';
  return typeof value === 'number' ? String(value) : pg.escapeLiteral(String(value));
}

async function findInstance(pool: pg.Pool, accountId: string): Promise<string | null> {
  const { rows } = await pool.query<{ name: string }>(
    `select i.name from evolution.instances as i
      where i."tenantId" = $1 and i.desired = 'connected'
        and not exists (select from evolution.sync_requests as r where r.instance_id = i.id and r.state in ('queued', 'running'))
      order by i.name limit 1`,
    [accountId],
  );
  return rows[0]?.name ?? null;
}

const PATIENTS = [
  'Lúcia Prado',
  'Marcos Teixeira',
  'Sofia Rocha',
  'Rafael Dias',
  'Teresa Moura',
  'Bruno Castro',
];
const DOCTORS = ['Dra. Lívia', 'Dr. Renato', 'Dra. Camila', 'Dr. Henrique', 'Dra. Patrícia'];
const MESSAGES = [
  'Bom dia! Consigo remarcar para amanhã?',
  'Já estou na recepção.',
  'O resultado do exame ficou pronto?',
  'Obrigada pelo atendimento!',
  'Preciso estar em jejum?',
];

const REPLIES = ['Bom dia! Como podemos ajudar?', 'Temos horário às 15h30.', 'Combinado, até lá!'];

/** From $3 on. */
function chosen(action: ActionName, instance: string | null): unknown[] {
  if (action === 'arrive') return [oneOf(PATIENTS), timeOfDay(0), timeOfDay(30)];
  if (action === 'addDoctor') return [oneOf(DOCTORS)];
  if (action === 'message') return [oneOf(MESSAGES)];
  if (action === 'reply') return [oneOf(REPLIES)];
  return instance === null ? [] : [instance];
}

function oneOf(list: readonly string[]): string {
  return list[Math.floor(Math.random() * list.length)]!;
}

function timeOfDay(minutesFromNow: number): string {
  return new Date(Date.now() + minutesFromNow * 60_000).toTimeString().slice(0, 5);
}
