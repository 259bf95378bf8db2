// What must be true after every write of the application: the event arrives as the row is, or the account is told to
// refetch after it, or relay.check() names the event.
import type pg from 'pg';

export interface Problem {
  problem: string;
  event: string | null;
  object: string;
  detail: string;
  remedy: string;
}

interface Recorded {
  event: string;
  account: string | null;
  payload: string;
  row: number | null;
}

/** One row that was written. */
export interface Written {
  readonly event: string;
  /** Of its table, where the event has several. */
  readonly names: readonly string[] | null;
  readonly account: string;
  readonly id: number;
  /** As to_jsonb() shows it in a plain session; null: it was deleted. */
  readonly now: string | null;
  /** The contract says that nobody is told of the row as it is. */
  readonly silent: boolean;
}

/** Whether a table is meant; a name may be the beginning of another one. */
export function mentions({ object, detail, remedy }: Problem, names: readonly string[]): boolean {
  const words = `${object} ${detail} ${remedy}`.split(/[^\w.]+|\.(?!\w)/);
  return names.some((name) => words.includes(name));
}

export class Oracle {
  readonly #observer: pg.Client;
  #last = '0';
  /** How each row was accounted for. */
  readonly counts = { heard: 0, resynced: 0, named: 0, silent: 0 };

  constructor(observer: pg.Client) {
    this.#observer = observer;
  }

  /** What was recorded before does not count. */
  async begin(): Promise<void> {
    const { rows } = await this.#observer.query<{ id: string }>(
      'select coalesce(max(id), 0)::text as id from relay.events',
    );
    this.#last = rows[0]!.id;
  }

  async problems(): Promise<Problem[]> {
    return (await this.#observer.query<Problem>('select * from relay.check()')).rows;
  }

  async rowNow(table: string, id: number): Promise<string | null> {
    const { rows } = await this.#observer.query<{ row: string }>(
      `select to_jsonb(t)::text as row from ${table} as t where id = $1`,
      [id],
    );
    return rows[0]?.row ?? null;
  }

  /** @returns what is wrong, as a sentence */
  async judge(written: readonly Written[]): Promise<string[]> {
    const { rows } = await this.#observer.query<Recorded>(
      `select event, account_id as account, payload::text as payload, (payload ->> 'id')::int as row
         from relay.events where id > $1 and event <> 'relay:unheard' order by id`,
      [this.#last],
    );
    const wrong: string[] = [];
    for (const row of written) {
      const heard = rows.filter(
        ({ event, account, row: id }) =>
          (event === 'relay:resync' && (account === null || account === row.account)) ||
          (event.startsWith(`${row.event}.`) && account === row.account && id === row.id),
      );
      const last = heard.at(-1);
      if (last?.event === 'relay:resync') this.counts.resynced += 1;
      else if (last && (row.now === null ? last.event.endsWith('.deleted') : last.payload === row.now)) {
        this.counts.heard += 1;
      } else if (row.silent) this.counts.silent += 1;
      else if (
        (await this.problems()).some(
          (problem) =>
            problem.event?.startsWith(`${row.event}.`) && (!row.names || mentions(problem, row.names)),
        )
      ) {
        this.counts.named += 1;
      } else {
        const found = last ? `the last word was ${last.event} ${last.payload}` : 'nothing was recorded';
        wrong.push(`row ${row.id} of ${row.event} is ${row.now ?? 'gone'}, but ${found}`);
      }
    }
    return wrong;
  }
}
