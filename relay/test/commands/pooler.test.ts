// Every command that keeps something in a session, through a pooler: refused before it has kept anything.
import pg from 'pg';
import { refusePooler } from '../../db/pooler.ts';
import { ends } from '../ends.ts';
import { type Pooler, pgbouncerIsMissing, startPooler } from '../pgbouncer.ts';
import { createDatabase, type TestDatabase } from '../postgres.ts';
import { recado } from './recado.ts';

const withPgbouncer = pgbouncerIsMissing ? describe.skip : describe;
const SECRET = 'a secret for tests that has more than thirty-two bytes';

async function openPooled(
  mode: 'transaction' | 'session' | 'statement',
  { sessions = 3, migrated = true } = {},
): Promise<{ database: TestDatabase; pooler: Pooler; app: pg.Client }> {
  const database = await createDatabase({ empty: !migrated });
  ends.push(() => database.close());
  const pooler = await startPooler(database.url, mode, sessions);
  ends.push(() => pooler.close());
  const app = new pg.Client({ connectionString: pooler.url });
  await app.connect();
  ends.push(() => app.end());
  return { database, pooler, app };
}

/** The settings and locks of the session of the pool that answers. */
async function states(app: pg.Client): Promise<unknown> {
  const { rows } = await app.query(
    `select current_setting('search_path') as path, current_setting('enable_seqscan') as seqscan,
            current_setting('timezone') as timezone, (select count(*)::int from pg_listening_channels()) as listening,
            (select count(*)::int from pg_locks where locktype = 'advisory' and database = (select oid from pg_database where datname = current_database())) as locks`,
  );
  return rows[0];
}

withPgbouncer('pgbouncer in transaction mode (needs the Debian package pgbouncer)', () => {
  test.each([
    { args: ['migrate'], migrated: false },
    { args: ['migrate', '--clinic'], migrated: false },
    { args: ['migrate'], migrated: true },
    { args: ['uninstall', '--yes'], migrated: true },
    { args: ['relay'], migrated: true },
    { args: ['evolution'], migrated: true },
    { args: ['tail'], migrated: true },
    { args: ['start'], migrated: true },
  ])('recado $args refuses, and the next query of the application works', async ({ args, migrated }) => {
    const { database, pooler, app } = await openPooled('transaction', { migrated });
    await database.pool.query('create table public.mine (id int primary key)');
    const before = await states(app);
    const { code, stderr } = await recado(args, { DATABASE_URL: pooler.url, JWT_SECRET: SECRET, PORT: '0' });
    expect({ code, stderr }).toEqual({ code: 1, stderr: expect.stringContaining('(transaction_pooler)') });
    expect(stderr).toContain('direct address');
    expect(stderr).not.toContain('    at ');
    expect((await app.query('select * from mine')).rows).toEqual([]);
    expect(await states(app)).toEqual(before);
  });

  test.each([1, 2, 10])('recognised with %s sessions, of which others are busy', async (sessions) => {
    const { pooler, app } = await openPooled('transaction', { sessions });
    if (sessions > 1) await app.query('begin');
    await expect(refusePooler({ url: pooler.url, name: 'test' })).rejects.toMatchObject({
      code: 'transaction_pooler',
    });
  });

  test('what leaves nothing behind is allowed', async () => {
    const { pooler } = await openPooled('transaction');
    const env = { DATABASE_URL: pooler.url };
    expect(await recado(['sql', 'select 1 as one'], env)).toMatchObject({ code: 0 });
    expect(await recado(['contract'], env)).toMatchObject({
      code: 0,
      stdout: expect.stringContaining('doctors.busy'),
    });
  });
});

withPgbouncer('other modes (needs the Debian package pgbouncer)', () => {
  test('statement mode is refused too', async () => {
    const { pooler } = await openPooled('statement');
    await expect(refusePooler({ url: pooler.url, name: 'test' })).rejects.toMatchObject({
      code: 'transaction_pooler',
    });
  });

  test('a pool in session mode is allowed, and recado migrate works through it', async () => {
    const { database, pooler } = await openPooled('session', { migrated: false });
    expect(await recado(['migrate'], { DATABASE_URL: pooler.url })).toMatchObject({ code: 0 });
    const { rows } = await database.pool.query(`select to_regclass('relay.events') is not null as installed`);
    expect(rows).toEqual([{ installed: true }]);
  });
});

test('a direct connection is let through', async () => {
  const database = await createDatabase({ empty: true });
  ends.push(() => database.close());
  await refusePooler({ url: database.url, name: 'test' });
});
