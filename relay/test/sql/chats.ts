// A database with chats, whose events are for some of an account or for several accounts, and what was recorded of them.
import { type Clinic, openClinic } from '../clinic.ts';

export let clinic: Clinic;

export async function begin(): Promise<void> {
  await clinic.writer.query(`
    create table public.chats (id int primary key, account text, attendant text, team text[], code text);
    create table public.logs (id int, account text, attendant text, code text)`);
}

// One database for most of them: what an event's failures were before it is published anew, relay.check() does not tell.
beforeAll(async () => {
  clinic = await openClinic();
});
afterAll(() => clinic.close());
beforeEach(begin);
afterEach(async () => {
  await clinic.writer.query(`
    select relay.unpublish(event) from (select distinct c.event from relay.catalogue as c where c.event like 'chat.%') as e;
    drop table public.chats, public.logs;
    truncate relay.revocations`);
});

/** The test makes a role, which goes with its database. */
export function inDatabaseOfItsOwn(work: () => Promise<void>): () => Promise<void> {
  return async () => {
    const shared = clinic;
    clinic = await openClinic();
    try {
      await begin();
      await work();
    } finally {
      await clinic.close();
      clinic = shared;
    }
  };
}

export async function rows<Row extends Record<string, unknown>>(query: string): Promise<Row[]> {
  return (await clinic.database.pool.query<Row>(query)).rows;
}

interface Recorded {
  event: string;
  account: string | null;
  audience: string[] | null;
  payload: unknown;
}

/** Runs the statements and says what they recorded, and for whom. */
export async function recorded(...statements: string[]): Promise<Recorded[]> {
  const before = await clinic.value<string>('select coalesce(max(id), 0) from relay.events');
  for (const statement of statements) await clinic.writer.query(statement);
  const found = await clinic.database.pool.query<Recorded>(
    'select event, account_id as account, audience, payload from relay.events where id > $1 order by id',
    [before],
  );
  return found.rows;
}

export const publish = (args: string) => clinic.writer.query(`select relay.publish(${args})`);
export const chats = (audience: string, more = '', operation = 'INSERT') =>
  publish(
    `'chat.said', 'public.chats', '${operation}', account => 'new.account', payload => 'to_jsonb(new.code)', audience => $a$${audience}$a$${more}`,
  );
export const said = (audience: string[] | null, payload: unknown = 'x', account = 'a') => ({
  event: 'chat.said',
  account,
  audience,
  payload,
});
export const resync = (audience: string[] | null, account: string | null = 'a') => ({
  event: 'relay:resync',
  account,
  audience,
  payload: expect.objectContaining({ event: 'chat.said', reason: 'capture_failed' }),
});
export const unheard = (more = {}) => ({
  event: 'relay:unheard',
  account: '',
  audience: null,
  payload: { event: 'chat.said', table: 'public.chats', reason: 'nobody', ...more },
});
export const insert = (id: number, attendant: string, team = 'null', code = "'x'") =>
  `insert into public.chats values (${id}, 'a', ${attendant}, ${team}, ${code})`;
export const problems = () =>
  rows<{ problem: string; detail: string }>('select problem, detail from relay.check()');

export const LEVELS = [
  ['row', ''],
  ['commit', `, at => 'commit'`],
  ['statement', `, level => 'statement'`],
] as const;
