// Triggers of partitioned tables come and go beside writers: nobody is caught in a deadlock.
import type pg from 'pg';
import { type Clinic, openClinic } from '../clinic.ts';
import { until } from '../world.ts';

let clinic: Clinic;
const ends: pg.Client[] = [];

beforeEach(async () => {
  clinic = await openClinic();
  await clinic.database.pool.query(`
    create table public.parts (id integer, region text, note text, primary key (id, region)) partition by list (region);
    create table public.parts_a partition of public.parts for values in ('a');
    create table public.parts_b partition of public.parts for values in ('b') partition by list (id);
    create table public.parts_b1 partition of public.parts_b for values in (1, 2, 3);
    select relay.publish('part', 'public.parts', operation, account => '1', payload => 'null')
      from unnest('{INSERT,DELETE}'::text[]) as operation`);
});
afterEach(async () => {
  for (const end of ends.splice(0)) await end.end();
  await clinic.close();
});

async function connect(): Promise<pg.Client> {
  const client = await clinic.connect();
  ends.push(client);
  return client;
}

const pidOf = async (client: pg.Client) =>
  (await client.query<{ pid: number }>('select pg_backend_pid() as pid')).rows[0]!.pid;

const waits = (pid: number) =>
  clinic.value<boolean>(
    `select exists (select from pg_stat_activity where pid = ${pid} and (wait_event_type = 'Lock' or wait_event = 'PgSleep'))`,
  );

describe.each([
  ['the table, then the table', 'parts', 'parts'],
  ['one partition, then the table', 'parts_b1', 'parts'],
  ['one partition, then another', 'parts_b1', 'parts_a'],
  ['the table, then a partition', 'parts', 'parts_a'],
])('a writer that names %s', (_, first, second) => {
  test.each([
    ['b', 'a'],
    ['a', 'b'],
  ])('goes on while triggers are changed: %s, then %s', async (one, two) => {
    const partOf = (table: string, region: string) =>
      table === 'parts' ? table : region === 'a' ? 'parts_a' : 'parts_b1';
    const write = (table: string, region: string, id: number) =>
      `insert into public.${partOf(table, region)} values (${id}, '${region}')`;
    const [writer, dba] = [await connect(), await connect()];
    const pid = await pidOf(dba);
    for (const change of [
      `select relay.suspend('part')`,
      `select relay.resume('part')`,
      `begin; select relay.suspend('part'); alter table public.parts add extra text; select relay.resume('part'); commit`,
      `select relay.unpublish('part')`,
    ]) {
      await writer.query(`begin; ${write(first, one, 1)}`);
      const changed = dba.query(change);
      await until('the change waits for the writer', () => waits(pid));
      await writer.query(`${write(second, two, 2)}; ${write(first, two, 3)}; rollback`);
      await changed;
    }
  });
});

test('a partition that stays busy: the change gives up, and keeps nothing locked meanwhile', async () => {
  const [writer, other, dba] = [await connect(), await connect(), await connect()];
  // From the second time on, writing to a partition takes no lock on its table.
  const write = `begin; insert into public.parts_a values (1, 'a')`;
  await writer.query(`${write}; rollback`);
  await writer.query(write);
  const pid = await pidOf(dba);
  const changed = dba.query(`select relay.suspend('part')`).then(
    () => null,
    (error: Error & { code: string; hint: string }) => error,
  );
  await until('the change waits', () => waits(pid));
  await other.query(`insert into public.parts values (2, 'b')`);
  expect(await changed).toMatchObject({ code: '55P03', hint: 'Nothing was changed. Call it again.' });
  await writer.query('commit');
  await dba.query(`select relay.suspend('part')`);
});
