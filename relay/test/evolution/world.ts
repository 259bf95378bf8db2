// A database with the project's schema, for the tests of the Evolution worker.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import type pg from 'pg';
import type { Instance } from '../../evolution/ingest/instance.ts';
import type { Unit } from '../../evolution/ingest/store.ts';
import { openEnvelope, readEnvelope } from '../../evolution/payloads/payloads.ts';
import { createDatabase } from '../postgres.ts';

const root = join(import.meta.dirname, '..', '..', '..');

export interface World {
  url: string;
  pool: pg.Pool;
  rows<Row extends pg.QueryResultRow>(text: string, values?: unknown[]): Promise<Row[]>;
  close(): Promise<void>;
}

export async function startWorld(): Promise<World> {
  const { url, pool, close } = await createDatabase();
  return {
    url,
    pool,
    close,
    async rows<Row extends pg.QueryResultRow>(text: string, values: unknown[] = []) {
      return (await pool.query<Row>(text, values)).rows;
    },
  };
}

/** A backend whose worker was killed goes on with its statement, and notices afterwards. */
export async function endSessionsOfTheKilled({ rows }: World): Promise<void> {
  await rows(
    `select pg_terminate_backend(pid) from pg_stat_activity
      where datname = current_database() and backend_type = 'client backend' and application_name = any ($1)`,
    [[WORKER, 'recado evolution listen']],
  );
}

/** Name of the sessions of a worker in a process of its own. */
export const WORKER = 'killable worker';

export interface Captured {
  event: string;
  envelope: unknown;
}

/** Envelopes of a real server, with Buffers where Buffers were. */
export function captured(version: string): Captured[] {
  return readFileSync(join(root, 'relay/test/fixtures/evolution', `${version}.jsonl`), 'utf8')
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line, revive) as Captured);
}

export function restAnswer(name: string): unknown {
  return JSON.parse(readFileSync(join(root, 'relay/test/fixtures/evolution/rest-2.3.7', name), 'utf8'));
}

function revive(_: string, value: unknown): unknown {
  return typeof value === 'object' && value !== null && '$buffer' in value
    ? Buffer.from(String(value.$buffer), 'base64')
    : value;
}

/** Reads envelopes as a connection does. */
export function read(envelopes: readonly Captured[], skip: string[] = ['status', 'newsletter']): Unit[] {
  return envelopes.flatMap(({ event, envelope }) => {
    const opened = openEnvelope(event, envelope);
    const { facts, rejections } = readEnvelope(opened, { own: opened.sender, skip: new Set(skip) });
    if (rejections.length > 0) throw new Error(rejections[0]!.reason);
    return [{ event, facts }];
  });
}

let count = 0;

/** A row in evolution.instances and its source, held by nobody. */
export async function addInstance(world: World, fields: Partial<Instance> = {}): Promise<Instance> {
  const name = fields.name ?? `demo-${++count}`;
  const tenantId = fields.tenantId ?? `tenant-${count}`;
  const host = fields.host ?? 'http://127.0.0.1:9';
  const apiKey = fields.apiKey ?? 'a-key-nobody-may-see';
  const [row] = await world.rows<{ id: string; source_id: string }>(
    `with i as (insert into evolution.instances (name, "tenantId", host, "apiKey") values ($1, $2, $3, $4) returning id),
          s as (insert into evolution.sources ("tenantId", name) values ($2, $1) returning id)
     select i.id::text, s.id::text as source_id from i, s`,
    [name, tenantId, host, apiKey],
  );
  return {
    id: row!.id,
    name,
    tenantId,
    host,
    apiKey,
    mode: 'auto',
    skip: ['status', 'newsletter'],
    ownJid: null,
    sourceId: row!.source_id,
    caughtUpTo: null,
    synced: false,
    older: null,
    serverId: null,
    maySend: false,
    mayMarkRead: false,
    sendsPerMinute: 20,
    hasOutgoing: false,
    hasReceipts: false,
    syncRequest: null,
    ...fields,
  };
}

export interface ChatState {
  whatsappChatId: string;
  contactName: string;
  contactNumber: string;
  unreadCount: number;
  messages: unknown[];
}

/** Everything a tenant sees, without surrogate ids and clock times. */
export async function stateOf(world: World, tenantId: string): Promise<ChatState[]> {
  return world.rows<{
    whatsappChatId: string;
    contactName: string;
    contactNumber: string;
    unreadCount: number;
    messages: unknown[];
  }>(
    `select c."whatsappChatId", c."contactName", c."contactNumber", c.status, c."unreadCount", c."lastMessageAt"::text,
            coalesce((select json_agg(json_build_object('id', m."whatsappMessageId", 'content', m.content, 'direction', m.direction,
                'status', m.status, 'kind', m.kind, 'sentAt', m."sentAt", 'editedAt', m."editedAt", 'deleted', m."deletedAt" is not null,
                'live', m.live, 'whatsapp', m.whatsapp,
                'media', (select to_jsonb(f) - 'message_id' from evolution.media f where f.message_id = m.id),
                'reactions', (select json_agg(json_build_array(r.reactor, r.emoji, r."reactedAt") order by r.reactor) from evolution.reactions r where r.message_id = m.id))
              order by m."sentAt", m."whatsappMessageId") from evolution.messages m where m."chatId" = c.id), '[]') as messages
       from evolution.chats c where c."tenantId" = $1 order by c."whatsappChatId"`,
    [tenantId],
  );
}

export async function eventsOf(
  world: World,
  tenantId: string,
): Promise<{ event: string; payload: Record<string, unknown> }[]> {
  return world.rows('select event, payload from relay.events where account_id = $1 order by id', [tenantId]);
}

export function shuffled<T>(items: readonly T[], seed: number): T[] {
  const copy = [...items];
  let state = seed;
  for (let i = copy.length - 1; i > 0; i--) {
    state = (state * 1103515245 + 12345) % 2147483648;
    const j = state % (i + 1);
    [copy[i], copy[j]] = [copy[j]!, copy[i]!];
  }
  return copy;
}
