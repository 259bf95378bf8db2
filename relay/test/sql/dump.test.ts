// What pg_dump wrote is restored: into another database, and over a table that is there. pg_dump reads no
// newer server than its own, so with Debian's this runs on Postgres 15.
import { execFile } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import pg from 'pg';
import { type Clinic, openClinic, resync } from '../clinic.ts';
import { createDatabase, type TestDatabase, testServer } from '../postgres.ts';

const run = promisify(execFile);
/** .ci/run installs this one of Debian's, with its pg_dump. The embedded one is newer and comes without. */
const POSTGRES_OF_DEBIAN = 15;

const server = await versionOfServer();
const dumpIsMissing = (await versionOfDump()) < server;
const mustBeThere = process.env.RECADO_CI !== undefined && server <= POSTGRES_OF_DEBIAN;

let clinic: Clinic;
let folder: string;
let restored: TestDatabase;

beforeEach(async () => {
  clinic = await openClinic();
  restored = await createDatabase({ empty: true });
  folder = await mkdtemp(join(tmpdir(), 'recado-dump-'));
});
afterEach(async () => {
  await rm(folder, { recursive: true });
  await restored.close();
  await clinic.close();
});

async function versionOfServer(): Promise<number> {
  const client = new pg.Client({ connectionString: (await testServer()).url });
  await client.connect();
  try {
    const { rows } = await client.query<{ server_version_num: string }>('show server_version_num');
    return Math.floor(Number(rows[0]!.server_version_num) / 10_000);
  } finally {
    await client.end();
  }
}

/** 0 where there is none. */
async function versionOfDump(): Promise<number> {
  const { stdout } = await run('pg_dump', ['--version']).catch(() => ({ stdout: '' }));
  return Number(/ (\d+)\./.exec(stdout)?.[1] ?? 0);
}

const testDump = dumpIsMissing && !mustBeThere ? test.skip : test;
testDump('the contract comes along, check() is green; a table restored over it is named', async () => {
  const { pool, url } = clinic.database;
  await pool.query(`
    create table public.orders (id int primary key, account text);
    create schema tenant;
    create table tenant.orders (like public.orders including all);
    create table public.parts (id int, region text, primary key (id, region)) partition by list (region);
    create table public.parts_a partition of public.parts for values in ('a');
    select relay.publish('order', t, 'INSERT', account => 'new.account', level => level)
      from (values ('public.orders', 'row'), ('tenant.orders', 'statement')) as v(t, level);
    select relay.publish('order', t, 'TRUNCATE') from unnest('{public.orders,tenant.orders}'::text[]) as t;
    select relay.publish('part', 'public.parts', 'UPDATE', account => 'new.region', level => 'statement',
      condition => 'new.id is distinct from old.id or new.region is distinct from old.region');
    select relay.publish('part.late', 'public.parts', 'INSERT', account => 'new.region', at => 'commit')`);
  const file = join(folder, 'dump');
  await run('pg_dump', ['--format=custom', `--file=${file}`, url]);

  await run('pg_restore', [`--dbname=${restored.url}`, file]);
  expect((await restored.pool.query('select * from relay.check()')).rows).toEqual([]);
  const outcomes = `select distinct relay.republish(event) as outcome from relay.catalogue`;
  expect((await restored.pool.query(outcomes)).rows).toEqual([{ outcome: 'unchanged' }]);
  await restored.pool.query(
    `insert into tenant.orders values (1, 't'); insert into public.orders values (1, 'p'); insert into public.parts values (1, 'a')`,
  );
  expect(
    (
      await restored.pool.query(
        `select event, account_id from relay.events where event !~ 'doctors' order by id`,
      )
    ).rows,
  ).toEqual([
    { event: 'order', account_id: 't' },
    { event: 'order', account_id: 'p' },
    { event: 'part.late', account_id: 'a' },
  ]);

  await run('pg_restore', ['--clean', '--schema=tenant', '--table=orders', `--dbname=${url}`, file]);
  expect(await clinic.heard('select relay.notice_swaps()')).toEqual([
    resync('order', null, { reason: 'table_replaced' }),
  ]);
  const problems = 'select problem, object, remedy from relay.check()';
  const found = (await pool.query<{ remedy: string }>(problems)).rows;
  expect(found).toEqual(
    Array(2).fill({
      problem: 'table_replaced',
      object: 'tenant.orders',
      remedy: `select relay.republish('order', 'tenant.orders')`,
    }),
  );
  await pool.query(found[0]!.remedy);
  expect((await pool.query(problems)).rows).toEqual([]);
  expect(await clinic.heard(`insert into tenant.orders values (2, 't')`)).toHaveLength(1);
});
