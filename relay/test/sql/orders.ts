// A table of an application, and what is published of it.
import { type Clinic, openClinic } from '../clinic.ts';

export let clinic: Clinic;

beforeEach(async () => {
  clinic = await openClinic();
  await clinic.writer.query(
    'create table public.orders (id int primary key, account text, code text, data jsonb)',
  );
});
afterEach(() => clinic.close());

export const publish = (args: string) => clinic.writer.query(`select relay.publish(${args})`);
export const problems = async () =>
  (await clinic.database.pool.query<{ problem: string; remedy: string }>('select * from relay.check()')).rows;
export const codes = async () => (await problems()).map(({ problem }) => problem);
export const created = (more = '') =>
  publish(
    `'o.created', 'public.orders', 'INSERT', account => 'new.account', payload => 'to_jsonb(new.code)'${more}`,
  );
export const updated = (more = '') =>
  publish(
    `'o.updated', 'public.orders', 'UPDATE', account => 'new.account', payload => 'to_jsonb(new.code)'${more}`,
  );
