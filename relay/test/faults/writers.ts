// Applications that only write to Postgres: short and long transactions, savepoints, rollbacks, bulk changes,
// commits in two phases and asynchronous ones, all on the same rows. They know nothing of the relay.
import { setTimeout as sleep } from 'node:timers/promises';
import pg from 'pg';
import type { Chance } from './chance.ts';
import { eventKey, type Ledger, type Transaction } from './ledger.ts';
import { FIRST_NOTE, FIRST_STOCK, ITEMS_PER_ACCOUNT, STOCK_PER_ACCOUNT } from './server.ts';

type Deed = (writer: Writer) => Promise<void>;

/** What a writer does next, and how often of a hundred. */
const DEEDS: readonly [percent: number, name: string, deed: Deed][] = [
  [
    39,
    'plain',
    async (writer) => {
      await writer.change();
      await writer.commit();
    },
  ],
  [
    6,
    'two accounts',
    async (writer) => {
      await writer.change();
      await writer.change();
      await writer.say();
      await writer.commit();
    },
  ],
  [
    14,
    'rolled back',
    async (writer) => {
      await writer.change();
      await writer.rollBack();
    },
  ],
  [
    10,
    'savepoints',
    async (writer) => {
      await writer.change();
      await writer.query('savepoint a');
      const keys = writer.mark();
      await writer.change();
      await writer.note();
      await writer.query('rollback to a');
      writer.forget(keys);
      await writer.change();
      await writer.query('savepoint b');
      await writer.change();
      await writer.query('release b');
      await writer.commit();
    },
  ],
  [
    6,
    'held',
    async (writer) => {
      await writer.note();
      await writer.say();
      await writer.pause(200, 4_000);
      if (writer.chance.happens(0.3)) await writer.rollBack();
      else await writer.commit();
    },
  ],
  [
    4,
    'held rows',
    async (writer) => {
      await writer.change(1);
      await writer.pause(100, 800);
      await writer.change(1);
      await writer.commit();
    },
  ],
  [
    3,
    'bulk',
    async (writer) => {
      await writer.bulk();
      await writer.commit();
    },
  ],
  [
    6,
    'asynchronous',
    async (writer) => {
      await writer.query('set local synchronous_commit = off');
      await writer.change();
      await writer.commit();
    },
  ],
  [
    1,
    'large',
    async (writer) => {
      await writer.change(1, writer.chance.between(20_000, 400_000));
      await writer.commit();
    },
  ],
  [
    4,
    'muted',
    async (writer) => {
      await writer.query('set local relay.ring = off');
      await writer.change();
      await writer.commit();
    },
  ],
  [
    5,
    'notes',
    async (writer) => {
      await writer.note();
      await writer.note();
      await writer.commit();
    },
  ],
  [
    2,
    'two phases',
    async (writer) => {
      await writer.query('set local relay.ring = off');
      await writer.note();
      await writer.commitInTwoPhases();
    },
  ],
];

/** Beyond what the kernel's buffers between two processes take, and what a relay keeps for a client. */
const FLOOD_EVENTS = 20;
const FLOOD_BYTES = 1_000_000;

/** All writers, and the rate at which they write. */
export class Writers {
  readonly #writers: Writer[];
  readonly #flooder: Writer;
  #pauseMs = 150;
  #running: Promise<void>[] = [];
  #stopping = false;
  #silent = false;

  constructor(
    count: number,
    databaseUrl: string,
    accounts: readonly string[],
    ledger: Ledger,
    chance: (name: string) => Chance,
  ) {
    const notes = { next: FIRST_NOTE };
    const writer = (number: number) =>
      new Writer(number, databaseUrl, accounts, ledger, chance(`writer ${number}`), notes);
    this.#writers = Array.from({ length: count }, (_, number) => writer(number));
    this.#flooder = writer(count);
  }

  start(): void {
    this.#running = this.#writers.map((writer) => this.#run(writer));
  }

  /** No pauses for a while: enough commits to close the gate. */
  async burst(ms: number): Promise<void> {
    this.#pauseMs = 0;
    await sleep(ms);
    this.#pauseMs = 150;
  }

  /** So much for one account that nobody can hold it for a client that does not read. */
  async flood(account: number): Promise<void> {
    for (let i = 0; i < FLOOD_EVENTS; i += 1) await this.#flooder.flood(account);
  }

  /** No writer begins a transaction until resume(). */
  hush(): void {
    this.#silent = true;
  }

  resume(): void {
    this.#silent = false;
  }

  /** Resolves when every transaction has ended. */
  async stop(): Promise<void> {
    this.#stopping = true;
    await Promise.all(this.#running);
    await this.#flooder.close();
  }

  async #run(writer: Writer): Promise<void> {
    while (!this.#stopping) {
      await sleep(this.#pauseMs === 0 ? 0 : writer.chance.between(0, 2 * this.#pauseMs));
      while (this.#silent && !this.#stopping) await sleep(5);
      await writer.write(this.#pauseMs === 0);
    }
    await writer.close();
  }
}

class Writer {
  readonly chance: Chance;
  readonly #number: number;
  readonly #databaseUrl: string;
  readonly #accounts: readonly string[];
  readonly #ledger: Ledger;
  readonly #notes: { next: number };
  #client: pg.Client | null = null;
  #transaction!: Transaction;
  #prepared: { name: string; transaction: Transaction } | null = null;

  constructor(
    number: number,
    databaseUrl: string,
    accounts: readonly string[],
    ledger: Ledger,
    chance: Chance,
    notes: { next: number },
  ) {
    this.#number = number;
    this.#databaseUrl = databaseUrl;
    this.#accounts = accounts;
    this.#ledger = ledger;
    this.chance = chance;
    this.#notes = notes;
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

  async #attempt(name: string, deed: Deed): Promise<void> {
    this.#transaction = this.#ledger.begin(this.#number, name);
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

  async query(text: string, values: unknown[] = []): Promise<{ id: number }[]> {
    if (!this.#client) throw new Error('The connection is gone.');
    return (await this.#client.query<{ id: number }>(text, values)).rows;
  }

  /** Changes some rows of one account, in the order of their ids so that few deadlock. */
  async change(most = 4, fillerLength = 0, of?: number): Promise<void> {
    const account = of ?? this.chance.between(0, this.#accounts.length - 1);
    const count = this.chance.between(1, most);
    const ids = Array.from(
      { length: count },
      () => account * ITEMS_PER_ACCOUNT + this.chance.between(1, ITEMS_PER_ACCOUNT),
    );
    await this.#write(
      `update shop.items set version = version + 1, stamp = $1, filler = repeat('x', $3)
        where id in (select id from shop.items where id = any ($2) order by id for update) returning id`,
      [ids, fillerLength],
    );
  }

  /** Changes all the stock of one account, and sometimes that of all. */
  async bulk(): Promise<void> {
    const account = this.chance.between(0, this.#accounts.length - 1);
    const first = FIRST_STOCK + account * STOCK_PER_ACCOUNT;
    const last = this.chance.happens(0.1)
      ? FIRST_STOCK + this.#accounts.length * STOCK_PER_ACCOUNT
      : first + STOCK_PER_ACCOUNT;
    await this.#write(
      `update shop.stock set version = version + 1, stamp = $1
        where id in (select id from shop.stock where id > $2 and id <= $3 order by id for update) returning id`,
      [first, last],
    );
  }

  async note(): Promise<void> {
    await this.#write(
      'insert into shop.notes (id, account, version, stamp) values ($2, $3, 1, $1) returning id',
      [this.#newRow(), this.chance.one(this.#accounts)],
    );
  }

  /** An event without a table. */
  async say(): Promise<void> {
    await this.#write(
      `select $2::int as id, relay.emit($3, 'app.said', jsonb_build_object('row', $2::int, 'version', 1, 'stamp', $1::bigint))`,
      [this.#newRow(), this.chance.one(this.#accounts)],
    );
  }

  async pause(least: number, most: number): Promise<void> {
    await sleep(this.chance.between(least, most));
  }

  async commit(): Promise<void> {
    await this.query('commit');
    this.#ledger.end(this.#transaction, 'committed');
  }

  async rollBack(): Promise<void> {
    await this.query('rollback');
    this.#ledger.end(this.#transaction, 'rolled back');
  }

  /** A prepared transaction outlives a crash; whoever prepared it commits it, whenever that is. */
  async commitInTwoPhases(): Promise<void> {
    const name = `writer ${this.#number}, ${this.#ledger.transactions.length}`;
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

  #newRow(): number {
    this.#notes.next += 1;
    return this.#notes.next;
  }

  async #write(text: string, values: unknown[]): Promise<void> {
    const stamp = this.#ledger.stamp(this.#transaction);
    for (const { id } of await this.query(text, [stamp, ...values])) {
      this.#transaction.keys.push(eventKey(id, stamp));
    }
  }

  async #finishPrepared(): Promise<void> {
    if (!this.#prepared) return;
    const { name, transaction } = this.#prepared;
    const found = await this.query('select 1 as id from pg_prepared_xacts where gid = $1', [name]);
    // Not there: it was not prepared, or the answer to its commit was lost.
    if (found.length > 0) await this.query(`commit prepared '${name}'`);
    this.#ledger.end(transaction, found.length > 0 ? 'committed' : 'unknown');
    this.#prepared = null;
  }

  async #connect(): Promise<void> {
    if (!this.#client) await this.#open();
    await this.#finishPrepared();
  }

  async #open(): Promise<void> {
    const client = new pg.Client({
      connectionString: this.#databaseUrl,
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
    const transaction = this.#transaction;
    try {
      if (!refused) throw error;
      await this.query('rollback');
      if (transaction.outcome === 'open' && !this.#prepared) this.#ledger.end(transaction, 'rolled back');
    } catch {
      // The database is down, or was: the connection is of no use any more.
      if (transaction.outcome === 'open' && !this.#prepared) this.#ledger.end(transaction, 'unknown');
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
      if (dice <= 0) return [name, deed];
    }
    return this.#named('plain');
  }

  #named(wanted: string): [string, Deed] {
    const [, name, deed] = DEEDS.find(([, name]) => name === wanted)!;
    return [name, deed];
  }
}
