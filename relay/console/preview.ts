// What an event would be for a row that is there: relay.preview(), in a transaction that may only read.
import type pg from 'pg';
import { transaction } from '../db/connect.ts';
import { errorCode, errorText } from '../errors.ts';
import { RefusedRequest } from '../http/reply.ts';

/** A row that may be chosen; `at` is its place: the oid of its table or partition, and its ctid. */
export interface Choice {
  table: string;
  at: string;
  row: unknown;
}

export interface Preview {
  operation: string;
  /** null: unknown, since an UPDATE needs its old and its new row. */
  fires: boolean | null;
  account: string | null;
  payload: unknown;
  /** null: everybody of the account. */
  audience: string[] | null;
}

const MOST_ROWS = 20;

/** Rows of the event's tables, the last ones by primary key. */
export function readChoices(pool: pg.Pool, event: string): Promise<Choice[]> {
  return reading(pool, async (client) => {
    const choices: Choice[] = [];
    for (const { table, key } of await tablesOf(client, event)) {
      const order = key === null ? '' : `order by ${key}`;
      const { rows } = await client.query<Omit<Choice, 'table'>>(
        `select t.tableoid || ' ' || t.ctid as at, to_jsonb(t) as row from ${table} as t ${order} limit ${MOST_ROWS}`,
      );
      choices.push(...rows.map((row) => ({ table, ...row })));
    }
    return choices;
  });
}

/** @throws RefusedRequest `row_gone`, `preview_failed` */
export function readPreview(
  pool: pg.Pool,
  event: string,
  { table, at }: Pick<Choice, 'table' | 'at'>,
): Promise<Preview[]> {
  return reading(pool, async (client) => {
    const known = (await tablesOf(client, event)).find((each) => each.table === table);
    const [tableoid, ctid] = at.split(' ');
    const place = 'tableoid = $2::oid and ctid = $3::tid';
    const found =
      known &&
      (await client.query(`select from ${known.table} where tableoid = $1::oid and ctid = $2::tid`, [
        tableoid,
        ctid,
      ]));
    if (!known || found?.rowCount !== 1) {
      throw new RefusedRequest(404, 'row_gone', 'The row is gone, or it was changed: choose it again.');
    }
    const { rows } = await client.query<Preview>(
      `select operation, fires, account, payload, audience
         from relay.preview($1, (select t from ${known.table} as t where ${place}))`,
      [event, tableoid, ctid],
    );
    return rows;
  });
}

/** Quoted by Postgres, as this session may write them; with the order that finds the last rows. */
async function tablesOf(
  client: pg.PoolClient,
  event: string,
): Promise<{ table: string; key: string | null }[]> {
  const { rows } = await client.query<{ table: string; key: string | null }>(
    `select distinct format('%I.%I', n.nspname, t.relname) as table,
            (select string_agg(format('t.%I desc', a.attname), ', ' order by k.place)
               from pg_index as i cross join unnest(i.indkey::int2[]) with ordinality as k(attnum, place)
               join pg_attribute as a on a.attrelid = i.indrelid and a.attnum = k.attnum
              where i.indrelid = t.oid and i.indisprimary) as key
       from relay.catalogue as c join pg_class as t on t.oid = c.on_table join pg_namespace as n on n.oid = t.relnamespace
      where c.event = $1 order by 1`,
    [event],
  );
  return rows;
}

/** Expressions of the contract may do anything: here they cannot write. */
async function reading<T>(pool: pg.Pool, work: (client: pg.PoolClient) => Promise<T>): Promise<T> {
  try {
    return await transaction(pool, async (client) => {
      await client.query('set transaction read only');
      return work(client);
    });
  } catch (error) {
    if (error instanceof RefusedRequest) throw error;
    const remedy =
      errorCode(error) === '42501'
        ? '; to try events with rows of a table, grant select on it to the role of DATABASE_URL'
        : '';
    throw new RefusedRequest(422, 'preview_failed', errorText(error) + remedy);
  }
}
