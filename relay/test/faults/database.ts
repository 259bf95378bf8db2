// What the run's database holds beside the relay's schema: the tables the writers write to, their contract, and the
// journal of what committed.
import type { Server } from './server.ts';

export const ACCOUNTS = ['1', '2', '3', '4', 'clínica', 'a-b-c', '10', '007'];
export const ITEMS_PER_ACCOUNT = 60;
export const STOCK_PER_ACCOUNT = 400;
export const VISITS_PER_ACCOUNT = 40;
/** Rows that belong to several accounts, and change hands. */
export const SHARED = 40;
/** A book is what one large transaction changes. */
export const PAGES_PER_BOOK = 20_000;
/** Whose the books are. */
export const BOOKS = [ACCOUNTS[1]!, ACCOUNTS[6]!];
/** Ids of the tables do not overlap, so that a row is named by its id alone. */
export const FIRST_STOCK = 100_000;
export const FIRST_PAGE = 200_000;
export const FIRST_VISIT = 300_000;
export const FIRST_SHARED = 400_000;
/** Rows that exist for a moment: the id of each is used once. */
export const FIRST_NOTE = 1_000_000;
export const FIRST_FLICKER = 1_700_000;
/** Of events with an audience. */
export const FIRST_WHISPER = 1_850_000;
export const FIRST_MARK = 2_000_000;

/** Whether the contract of its event changes during a run. */
export const isVisit = (row: number) => row > FIRST_VISIT && row < FIRST_SHARED;
export const isFlicker = (row: number) => row > FIRST_FLICKER && row < FIRST_WHISPER;
export const isWhisper = (row: number) => row > FIRST_WHISPER && row < FIRST_MARK;

/** Those tables, filled; the relay's schema is there already. */
export async function prepareDatabase(server: Server): Promise<void> {
  await server.use(async (session) => {
    await session.query(TABLES);
    for (const [table, perAccount, above] of [
      ['items', ITEMS_PER_ACCOUNT, 0],
      ['stock', STOCK_PER_ACCOUNT, FIRST_STOCK],
      ['visits', VISITS_PER_ACCOUNT, FIRST_VISIT],
    ] as const) {
      await session.query(
        `insert into shop.${table} (id, account)
         select $3::int + (a.number - 1) * $2::int + i, a.account
           from unnest($1::text[]) with ordinality as a(account, number), generate_series(1, $2::int) as i`,
        [ACCOUNTS, perAccount, above],
      );
    }
    await session.query(
      `insert into shop.pages (id, account)
       select $2::int + (b.number - 1) * $3::int + i, b.account
         from unnest($1::text[]) with ordinality as b(account, number), generate_series(1, $3::int) as i`,
      [BOOKS, FIRST_PAGE, PAGES_PER_BOOK],
    );
    await session.query(
      'insert into shop.shared (id, accounts) select $1::int + i, $3 from generate_series(1, $2::int) as i',
      [FIRST_SHARED, SHARED, ACCOUNTS.slice(0, 2)],
    );
    await session.query(CONTRACT);
  });
}

// `version` counts the committed changes of a row. `stamp` is the number of the statement that wrote it: none is used
// twice, also not after a rollback or a crash, so (row, stamp) names an event, committed or not.
const TABLES = `
  create schema shop;
  create table shop.items (id int primary key, account text not null, version bigint not null default 0,
                           stamp bigint not null default 0, filler text not null default '');
  create table shop.stock (id int primary key, account text not null, version bigint not null default 0,
                           stamp bigint not null default 0);
  create table shop.notes (id int primary key, account text not null, version bigint not null default 0,
                           stamp bigint not null default 0);
  create table shop.pages (id int primary key, account text not null, version bigint not null default 0,
                           stamp bigint not null default 0);
  create table shop.shared (id int primary key, accounts text[] not null, version bigint not null default 0,
                            stamp bigint not null default 0);
  create table shop.visits (id int, account text not null, version bigint not null default 0,
                            stamp bigint not null default 0, primary key (id)) partition by hash (id);
  create table shop.visits_0 partition of shop.visits for values with (modulus 3, remainder 0);
  create table shop.visits_1 partition of shop.visits for values with (modulus 3, remainder 1);
  create table shop.visits_2 partition of shop.visits for values with (modulus 3, remainder 2);
  create index on shop.items (account);
  create index on shop.stock (account);
  create table shop.journal (row int not null, stamp bigint not null, account text not null, version bigint not null);
  create index on shop.journal (account)`;

const PAYLOAD = "jsonb_build_object('row', new.id, 'version', new.version, 'stamp', new.stamp)";

// One event per row, one INSERT per statement, one deferred to the commit, some without a table.
const CONTRACT = `
  select relay.set_retention('1 minute');
  select relay.publish(event => 'items.changed', on_table => 'shop.items', operation => 'UPDATE',
    condition => 'old.version is distinct from new.version', account => 'new.account',
    payload => $$${PAYLOAD} || jsonb_build_object('filler', new.filler, 'size', length(new.filler))$$);
  select relay.publish(event => 'stock.changed', on_table => 'shop.stock', operation => 'UPDATE', level => 'statement',
    condition => 'old.version is distinct from new.version', account => 'new.account', payload => $$${PAYLOAD}$$);
  select relay.publish(event => 'pages.changed', on_table => 'shop.pages', operation => 'UPDATE', level => 'statement',
    condition => 'old.version is distinct from new.version', account => 'new.account', payload => $$${PAYLOAD}$$);
  select relay.publish(event => 'notes.created', on_table => 'shop.notes', operation => 'INSERT', at => 'commit',
    account => 'new.account', payload => $$${PAYLOAD}$$);
  select relay.publish(event => 'visits.changed', on_table => 'shop.visits', operation => 'UPDATE',
    account => 'new.account', payload => $$${PAYLOAD}$$);
  select relay.publish(event => 'shared.changed', on_table => 'shop.shared', operation => 'UPDATE',
    account => 'new.accounts', payload => $$${PAYLOAD}$$);
  select relay.publish(event => 'app.said');
  select relay.publish(event => 'app.whispered');
  select relay.publish(event => 'app.flickered');
  select relay.publish(event => 'app.finished')`;
