// Triggers of the application change a row again, before or after its event is recorded: what clients hear last of a
// row is what it is.
import { once } from 'node:events';
import { type Clinic, openClinic, resync } from '../clinic.ts';

let clinic: Clinic;

beforeEach(async () => {
  clinic = await openClinic();
  await clinic.writer.query(
    'create table public.orders (id int primary key, account text, code text, note text)',
  );
});
afterEach(() => clinic.close());

const publish = (event: string, operation: string, more: string) =>
  clinic.writer.query(
    `select relay.publish('${event}', 'public.orders', '${operation}', account => 'new.account', payload => 'to_jsonb(new.code)'${more})`,
  );
const created = (more = '') => publish('o.created', 'INSERT', more);
const updated = (more = '') => publish('o.updated', 'UPDATE', more);
const problems = async () =>
  (await clinic.database.pool.query<{ problem: string; remedy: string }>('select * from relay.check()')).rows;
const codes = async () => (await problems()).map(({ problem }) => problem);

/** The first warning of a call. */
async function warned(call: () => Promise<unknown>): Promise<string> {
  const notice = once(clinic.writer, 'notice') as Promise<[{ message: string }]>;
  await call();
  return (await notice)[0].message;
}

const own = (body: string, when = 'after insert', name = 'a_code') => `
  create function public.${name}() returns trigger language plpgsql as $$ begin ${body}; return null; end $$;
  create trigger ${name} ${when} on public.orders for each row execute function public.${name}()`;

test("the application's own trigger changes the same row: its event comes after", async () => {
  await created();
  await updated();
  await clinic.writer.query(own(`update public.orders set code = 'X' where id = new.id`));
  expect(await clinic.heard(`insert into public.orders values (1, 'a')`)).toEqual([
    { event: 'o.created', account: 'a', payload: null },
    { event: 'o.updated', account: 'a', payload: 'X' },
  ]);
});

test('it changes another row of the statement: the account refetches, and check() says what to do', async () => {
  await created();
  await updated();
  await clinic.writer.query(own(`update public.orders set code = 'X' where id = new.id + 1`));
  const heard = await clinic.heard(`insert into public.orders select n, 'a' from generate_series(1, 2) as n`);
  expect(heard.map(({ event, payload }) => [event, (payload as { reason?: string } | null)?.reason])).toEqual(
    [
      ['o.created', undefined],
      ['o.updated', undefined],
      ['relay:resync', 'overtaken'],
    ],
  );
  expect(await problems()).toMatchObject([
    { problem: 'event_overtaken', remedy: expect.stringContaining(`at => 'commit'`) },
  ]);
  await created(`, at => 'commit'`);
  expect(await codes()).toEqual([]);
});

test('a lock of a row, as a foreign key takes it, is no change', async () => {
  await created();
  await clinic.writer.query(own(`perform from public.orders where id = new.id for update`));
  expect(await clinic.heard(`insert into public.orders values (1, 'a', 'c')`)).toEqual([
    { event: 'o.created', account: 'a', payload: 'c' },
  ]);
});

test('statement level: a warning at publish and in check()', async () => {
  await clinic.writer.query(own(`update public.orders set code = 'X' where id = new.id`));
  const warning = await warned(() => created(`, level => 'statement'`));
  expect(warning).toContain(`trigger a_code may change the same rows again`);
  expect(warning).toContain(`at => 'commit'`);
  expect(await codes()).toEqual(['event_overtaken']);
});

describe('an UPDATE, of a row that a trigger updates again', () => {
  const again = 'after update of note';
  const note = `update public.orders set code = 'b', note = 'x'`;
  beforeEach(async () => {
    await clinic.writer.query(`insert into public.orders values (1, 'a', 'a'), (2, 'a', 'a')`);
  });

  test('the same row: in the order of the changes', async () => {
    await updated();
    await clinic.writer.query(own(`update public.orders set code = 'X' where id = new.id`, again));
    expect(await clinic.heard(`${note} where id = 1`)).toEqual([
      { event: 'o.updated', account: 'a', payload: 'b' },
      { event: 'o.updated', account: 'a', payload: 'X' },
    ]);
    expect(await codes()).toEqual([]);
  });

  test('the next row of the statement: the account refetches', async () => {
    await updated();
    await clinic.writer.query(own(`update public.orders set code = 'X' where id = new.id + 1`, again));
    expect(await clinic.heard(note)).toEqual([
      { event: 'o.updated', account: 'a', payload: 'b' },
      { event: 'o.updated', account: 'a', payload: 'X' },
      resync('o.updated', 'a', { reason: 'overtaken' }),
    ]);
    expect(await codes()).toEqual(['event_overtaken']);
  });

  test("at => 'commit': the last word is the row as it is", async () => {
    await updated(`, at => 'commit'`);
    await clinic.writer.query(own(`update public.orders set code = 'X' where id = new.id + 1`, again));
    expect((await clinic.heard(note)).at(-1)).toEqual({ event: 'o.updated', account: 'a', payload: 'X' });
  });

  test('statement level: a warning at publish and in check(), whatever the names', async () => {
    await clinic.writer.query(own(`update public.orders set code = 'X' where id = new.id`, again, 'zz_code'));
    expect(await warned(() => updated(`, level => 'statement'`))).toContain(
      'trigger zz_code may change the same rows again',
    );
    expect(await codes()).toEqual(['event_overtaken']);
  });
});
