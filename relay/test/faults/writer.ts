// One application that only writes to Postgres. It knows nothing of the relay.
import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import { audienceOf } from './audiences.ts';
import type { Chance } from './chance.ts';
import {
  FIRST_PAGE,
  FIRST_SHARED,
  FIRST_STOCK,
  FIRST_VISIT,
  ITEMS_PER_ACCOUNT,
  PAGES_PER_BOOK,
  SHARED,
  STOCK_PER_ACCOUNT,
  VISITS_PER_ACCOUNT,
} from './database.ts';
import { DEEDS, type Deed } from './deeds.ts';
import { eventKey, type Ledger, type Transaction } from './ledger.ts';

/** What the writers of a run share. */
export interface Workplace {
  /** Where the database is now. */
  readonly databaseUrl: () => string;
  readonly accounts: readonly string[];
  readonly ledger: Ledger;
  /** Ids of rows that are made once, the last one given out. */
  readonly lastRow: { note: number; flicker: number; whisper: number };
  /** Deeds that are not done. */
  readonly without: readonly string[];
  /** What the database refused, by its code. */
  readonly refusals: Map<string, number>;
}

/** Of one event of a flood. */
const FLOOD_BYTES = 1_000_000;

export class Writer {
  readonly chance: Chance;
  readonly #number: number;
  readonly #place: Workplace;
  #client: pg.Client | null = null;
  #transaction!: Transaction;
  #prepared: { name: string; transaction: Transaction } | null = null;

  constructor(number: number, place: Workplace, chance: Chance) {
    this.#number = number;
    this.#place = place;
    this.chance = chance;
  }

  /** One transaction. What the database refuses is rolled back; a connection that broke is made anew. */
  async write(hurried: boolean): Promise<void> {
    await this.#attempt(...this.#choose(hurried));
  }

  /** One large event of one account. */
  async flood(account: number): Promise<void> {
    await this.#attempt('flood', async () => {
      await this.change(1, FLOOD_BYTES, account);
      await this.commit();
    });
  }

  async writeAsynchronously(): Promise<void> {
    await this.#attempt(...this.#named('asynchronous'));
  }

  /** One large transaction of one account. */
  async writeBook(book: number): Promise<void> {
    await this.#attempt('book', async () => {
      await this.book(book);
      await this.commit();
    });
  }

  async #attempt(name: string, deed: Deed): Promise<void> {
    this.#transaction = this.#place.ledger.begin(this.#number, name);
    try {
      await this.#connect();
      await this.query('begin');
      await deed(this);
    } catch (error) {
      await this.#recover(error);
    }
  }

  async close(): Promise<void> {
    while (this.#prepared) await this.#connect().catch(() => sleep(100));
    await this.#client?.end();
  }

  /** Rows are read where a statement returns the ids of what it changed. */
  async query(text: string, values: unknown[] = []): Promise<{ id: number }[]> {
    if (!this.#client) throw new Error('The connection is gone.');
    return (await this.#client.query<{ id: number }>(text, values)).rows;
  }

  /** Changes some rows of one account, in the order of their ids so that few deadlock. */
  async change(most = 4, fillerLength = 0, of?: number): Promise<void> {
    const account = of ?? this.chance.between(0, this.#place.accounts.length - 1);
    const count = this.chance.between(1, most);
    const ids = Array.from(
      { length: count },
      () => account * ITEMS_PER_ACCOUNT + this.chance.between(1, ITEMS_PER_ACCOUNT),
    );
    await this.#write(
      `update shop.items set version = version + 1, stamp = $1, filler = repeat('x', $3)
        where id in (select id from shop.items where id = any ($2) order by id for update)`,
      [ids, fillerLength],
    );
  }

  /** Changes all the stock of one account, and sometimes that of all. */
  async bulk(): Promise<void> {
    const account = this.chance.between(0, this.#place.accounts.length - 1);
    const first = FIRST_STOCK + account * STOCK_PER_ACCOUNT;
    const last = this.chance.happens(0.1)
      ? FIRST_STOCK + this.#place.accounts.length * STOCK_PER_ACCOUNT
      : first + STOCK_PER_ACCOUNT;
    await this.#write(
      `update shop.stock set version = version + 1, stamp = $1
        where id in (select id from shop.stock where id > $2 and id <= $3 order by id for update)`,
      [first, last],
    );
  }

  /** Changes 20,000 rows of one account in one statement. */
  async book(book: number): Promise<void> {
    const first = FIRST_PAGE + book * PAGES_PER_BOOK;
    await this.#write(
      'update shop.pages set version = version + 1, stamp = $1 where id > $2::int and id <= $2::int + $3::int',
      [first, PAGES_PER_BOOK],
    );
  }

  /** Changes rows of a partitioned table whose event is suspended from time to time. */
  async visit(): Promise<void> {
    const account = this.chance.between(0, this.#place.accounts.length - 1);
    const id = FIRST_VISIT + account * VISITS_PER_ACCOUNT + this.chance.between(1, VISITS_PER_ACCOUNT);
    await this.#write('update shop.visits set version = version + 1, stamp = $1 where id = $2', [id]);
  }

  /** Hands a row to some accounts, one of which may be named twice. */
  async share(): Promise<void> {
    const accounts = Array.from({ length: this.chance.between(1, 4) }, () =>
      this.chance.one(this.#place.accounts),
    );
    await this.#write(
      'update shop.shared set version = version + 1, stamp = $1, accounts = $3 where id = $2',
      [FIRST_SHARED + this.chance.between(1, SHARED), accounts],
      'array(select distinct unnest(accounts))',
    );
  }

  async note(): Promise<void> {
    this.#place.lastRow.note += 1;
    await this.#write('insert into shop.notes (id, account, version, stamp) values ($2, $3, 1, $1)', [
      this.#place.lastRow.note,
      this.chance.one(this.#place.accounts),
    ]);
  }

  /** An event without a table. */
  async say(): Promise<void> {
    this.#place.lastRow.note += 1;
    await this.#emit('app.said', this.#place.lastRow.note);
  }

  /** One that leaves the contract from time to time. */
  async flicker(): Promise<void> {
    this.#place.lastRow.flicker += 1;
    await this.#emit('app.flickered', this.#place.lastRow.flicker);
  }

  /** One that only some of its account may hear. */
  async whisper(): Promise<void> {
    this.#place.lastRow.whisper += 1;
    await this.#emit('app.whispered', this.#place.lastRow.whisper);
  }

  async pause(least: number, most: number): Promise<void> {
    await sleep(this.chance.between(least, most));
  }

  async commit(): Promise<void> {
    await this.query('commit');
    this.#place.ledger.end(this.#transaction, 'committed');
  }

  async rollBack(): Promise<void> {
    await this.query('rollback');
    this.#place.ledger.end(this.#transaction, 'rolled back');
  }

  /** A prepared transaction outlives a crash; whoever prepared it commits it, whenever that is. */
  async commitInTwoPhases(): Promise<void> {
    const name = `writer ${this.#number}, ${this.#place.ledger.transactions.length}`;
    // Noted first: a crash may come after it was prepared and before we hear of it.
    this.#prepared = { name, transaction: this.#transaction };
    await this.query(`prepare transaction '${name}'`);
    await this.pause(10, 1_500);
    await this.#finishPrepared();
  }

  /** What a rollback to a savepoint goes back to. */
  mark(): number {
    return this.#transaction.keys.length;
  }

  forget(mark: number): void {
    this.#transaction.keys.length = mark;
  }

  /**
   * In the journal too, by the same statement: it tells what committed, and no part of the relay writes it.
   * @param accounts the row's, as SQL
   */
  async #write(change: string, values: unknown[], accounts = 'array[account]'): Promise<void> {
    const stamp = this.#place.ledger.stamp(this.#transaction);
    const rows = await this.query(
      `with changed as (${change} returning id, ${accounts} as accounts, version)
       insert into shop.journal (row, stamp, account, version)
       select id, $1::bigint, account, version from changed, unnest(accounts) as account returning row as id`,
      [stamp, ...values],
    );
    for (const id of new Set(rows.map((row) => row.id))) this.#transaction.keys.push(eventKey(id, stamp));
  }

  async #emit(event: string, row: number): Promise<void> {
    const stamp = this.#place.ledger.stamp(this.#transaction);
    const account = this.chance.one(this.#place.accounts);
    await this.query(
      `select relay.emit($3, $4, jsonb_build_object('row', $2::int, 'version', 1, 'stamp', $1::bigint), $5::text[])`,
      [stamp, row, account, event, audienceOf(row) ?? ['*']],
    );
    await this.query('insert into shop.journal (row, stamp, account, version) values ($2, $1, $3, 1)', [
      stamp,
      row,
      account,
    ]);
    this.#transaction.keys.push(eventKey(row, stamp));
  }

  async #finishPrepared(): Promise<void> {
    if (!this.#prepared) return;
    const { name, transaction } = this.#prepared;
    const found = await this.query('select 1 as id from pg_prepared_xacts where gid = $1', [name]);
    // Not there: it was not prepared, or the answer to its commit was lost.
    if (found.length > 0) await this.query(`commit prepared '${name}'`);
    this.#place.ledger.end(transaction, found.length > 0 ? 'committed' : 'unknown');
    this.#prepared = null;
  }

  async #connect(): Promise<void> {
    if (!this.#client) await this.#open();
    await this.#finishPrepared();
  }

  async #open(): Promise<void> {
    const client = new pg.Client({
      connectionString: this.#place.databaseUrl(),
      application_name: `writer ${this.#number}`,
    });
    client.on('error', () => {
      if (this.#client === client) this.#client = null;
    });
    await client.connect();
    this.#client = client;
    await this.query("set lock_timeout = '1s'; set deadlock_timeout = '200ms'");
  }

  async #recover(error: unknown): Promise<void> {
    const refused = error instanceof pg.DatabaseError && this.#client !== null;
    const code = error instanceof pg.DatabaseError ? (error.code ?? '') : 'connection';
    const { refusals } = this.#place;
    refusals.set(code, (refusals.get(code) ?? 0) + 1);
    const transaction = this.#transaction;
    try {
      if (!refused) throw error;
      await this.query('rollback');
      if (transaction.outcome === 'open' && !this.#prepared)
        this.#place.ledger.end(transaction, 'rolled back');
    } catch {
      // The database is down, or was: the connection is of no use any more.
      if (transaction.outcome === 'open' && !this.#prepared) this.#place.ledger.end(transaction, 'unknown');
      const client = this.#client;
      this.#client = null;
      await client?.end().catch(() => undefined);
      await sleep(50);
    }
  }

  #choose(hurried: boolean): [string, Deed] {
    // A burst is many short commits; what waits in it would end it.
    if (hurried && this.chance.happens(0.85))
      return this.#named(this.chance.happens(0.25) ? 'rolled back' : 'plain');
    let dice = this.chance.between(1, 100);
    for (const [percent, name, deed] of DEEDS) {
      dice -= percent;
      if (dice > 0) continue;
      if (this.#place.without.includes(name)) break;
      return [name, deed];
    }
    return this.#named('plain');
  }

  #named(wanted: string): [string, Deed] {
    const [, name, deed] = DEEDS.find(([, name]) => name === wanted)!;
    return [name, deed];
  }
}
