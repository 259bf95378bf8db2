// The contract as the database has it, one entry per event.
import type { ResyncReason } from '../delivery/deliveries.ts';
import type { Session } from '../outbox/events.ts';
import { type JsonSchema, schemaFrom } from './schema.ts';

export interface ContractEvent {
  readonly event: string;
  readonly description: string | null;
  readonly room: string;
  /** Who hears it: everybody of the account, or whose token has one of the event's topics. */
  readonly audience: 'account' | 'topics';
  readonly payload: JsonSchema;
  readonly sample: unknown;
  /** What makes it: one entry per operation. */
  readonly recorded: readonly Recording[];
}

export interface Recording {
  /** null: applications call relay.emit(). */
  readonly table: string | null;
  readonly trigger: string | null;
  readonly when: string;
  /** The topics, as SQL over the row; null: everybody of the account. */
  readonly audience: string | null;
  readonly enabled: boolean;
}

interface Row {
  event: string;
  room: string;
  on_table: string | null;
  trigger: string | null;
  fires_when: string;
  audience: string | null;
  enabled: boolean;
  description: string | null;
  payload_schema: unknown;
  sample: unknown;
}

/** @param roomPrefix ROOM_PREFIX of the relay; the view may not know it */
export async function readContract(session: Session, roomPrefix: string): Promise<ContractEvent[]> {
  const { rows } = await session.query<Row>(
    // The table's name with its schema, whatever this session's search_path.
    `select c.event, c.room, n.nspname || '.' || t.relname as on_table, c.trigger, c.fires_when, c.audience, c.enabled, c.description,
            c.payload_schema, c.sample
       from relay.contract as c
       left join pg_catalog.pg_class as t on t.oid = c.on_table
       left join pg_catalog.pg_namespace as n on n.oid = t.relnamespace
      order by c.event collate "C", c.operation, on_table`,
  );
  const byEvent = new Map<string, Row[]>();
  for (const row of rows) byEvent.set(row.event, [...(byEvent.get(row.event) ?? []), row]);
  return [...byEvent].map(([event, operations]) => toEvent(event, operations, roomPrefix));
}

function toEvent(event: string, rows: Row[], roomPrefix: string): ContractEvent {
  const carrying = rows.filter((row) => row.payload_schema !== null);
  const schemas = new Map(
    carrying.map((row) => [JSON.stringify(row.payload_schema), schemaFrom(row.payload_schema)]),
  );
  const accounts = new Set(carrying.map((row) => row.room.slice(row.room.indexOf('{'))));
  return {
    event,
    description: rows.find((row) => row.description !== null)?.description ?? null,
    room: roomPrefix + (accounts.size === 1 ? [...accounts][0] : '{account}'),
    audience: rows.some(({ audience }) => audience !== null) ? 'topics' : 'account',
    payload: schemas.size === 1 ? [...schemas.values()][0]! : { anyOf: [...schemas.values()] },
    sample: carrying[0]?.sample ?? null,
    recorded: rows.map((row) => ({
      table: row.on_table,
      trigger: row.trigger,
      when: row.fires_when,
      audience: row.audience,
      enabled: row.enabled,
    })),
  };
}

/** An event the relay itself sends, whatever the contract. */
export interface OwnEvent {
  readonly event: string;
  readonly description: string;
  readonly payload: JsonSchema;
  readonly sample: unknown;
}

const HEARING: JsonSchema = {
  type: 'string',
  description:
    'A fingerprint of the topics and the choice of events. If it differs from last time, refetch what is shown.',
};

const reasons: Record<ResyncReason, string> = {
  capture_failed: 'the account or payload of an event could not be computed',
  truncated: 'a watched table was truncated',
  table_replaced: 'another table has taken the name of a watched one',
  overtaken: 'the row was changed again before its event was recorded',
  forgotten: 'what was recorded was erased',
  event_too_large: 'an event is larger than may be sent',
  topics: 'other topics are heard than before, or other events were chosen',
  retention: 'the position is older than the events that are kept',
  epoch: 'the position is of another database: restored, copied or failed over',
  future: 'the position is ahead of the database',
  unreadable: 'the position could not be read',
};

export const OWN_EVENTS: readonly OwnEvent[] = [
  {
    event: 'relay:ready',
    description: 'The connection is live, from here on. Sent when the client did not resume.',
    payload: {
      type: 'object',
      required: ['accountId', 'expiresAt', 'hearing'],
      properties: {
        accountId: { type: 'string', description: 'Account of the token.' },
        expiresAt: {
          type: 'string',
          format: 'date-time',
          description: 'When the token expires and the connection with it.',
        },
        hearing: HEARING,
      },
    },
    sample: { accountId: '1', expiresAt: '2025-01-23T10:15:00.000Z', hearing: 'mXl0FkTuE3Pz' },
  },
  {
    event: 'relay:resync',
    description: `Something may have been missed: fetch again what is shown. Reasons: ${Object.entries(
      reasons,
    )
      .map(([reason, meaning]) => `${reason}, ${meaning}`)
      .join('; ')}.`,
    payload: {
      type: 'object',
      required: ['reason'],
      properties: {
        reason: { enum: Object.keys(reasons) },
        event: { type: 'string', description: 'The event that could not be delivered, where it was one.' },
        hearing: HEARING,
      },
    },
    sample: { reason: 'retention' },
  },
  {
    event: 'relay:position',
    description: 'Where the client is now. The stock client remembers it by itself.',
    payload: { type: 'string' },
    sample: 'c0ffee123456-2f1',
  },
];
