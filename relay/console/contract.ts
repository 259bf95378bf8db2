// The contract as the page shows it.
import type pg from 'pg';

interface ContractRow {
  event: string;
  room: string;
  table: string | null;
  operation: string;
  fires_when: string;
  trigger: string | null;
  enabled: boolean;
  description: string | null;
  payload_schema: unknown;
  sample: unknown;
  payload: string | null;
}

/** One of the things that make an event. */
interface Source {
  operation: string;
  enabled: boolean;
  /** SQL and names of the database: for operators. */
  table?: string | null;
  firesWhen?: string;
  trigger?: string | null;
  payload?: string | null;
}

export interface ContractEvent {
  event: string;
  room: string;
  description: string | null;
  schema: unknown;
  sample: unknown;
  sources: Source[];
}

/** @param options.withSql also conditions, tables and triggers, which are not for clients */
export async function readContract(
  pool: pg.Pool,
  { withSql }: { withSql: boolean },
): Promise<{ events: ContractEvent[] }> {
  const { rows } = await pool.query<ContractRow>(
    `select event, room, on_table::text as "table", operation, fires_when, trigger, enabled,
            description, payload_schema, sample, payload
       from relay.contract order by event, operation`,
  );
  const events = new Map<string, ContractEvent>();
  for (const row of rows) {
    const known = events.get(row.event);
    const event = known ?? {
      event: row.event,
      // What stands in the braces is SQL over the row.
      room: withSql ? row.room : row.room.replace(/\{.*\}/s, '{account}'),
      description: null,
      schema: null,
      sample: null,
      sources: [],
    };
    event.description ??= row.description;
    // Further operations of an event share the description and the schema of the first.
    if (row.description !== null || event.schema === null) {
      event.schema = row.payload_schema;
      event.sample = row.sample;
    }
    const { operation, enabled, table, fires_when: firesWhen, trigger, payload } = row;
    event.sources.push({ operation, enabled, ...(withSql && { table, firesWhen, trigger, payload }) });
    events.set(row.event, event);
  }
  return { events: [...events.values()] };
}
