// Migrating as a role that is no superuser.
import { ends } from '../ends.ts';
import { hearing } from '../hearing.ts';
import { createDatabase, type TestDatabase, withDatabase } from '../postgres.ts';
import { release, run } from './migrations.ts';

describe('as a role that is no superuser', () => {
  /** An empty database that belongs to a new role, and its address as that role. */
  async function openOwned(
    grants = '',
  ): Promise<{ database: TestDatabase; asOwner: TestDatabase; role: string }> {
    const database = await createDatabase({ empty: true });
    const name = new URL(database.url).pathname.slice(1);
    const role = `${name}_owner`;
    await database.pool.query(`create role ${role} login password 'p'; ${grants.replaceAll('ROLE', role)};
      alter database ${name} owner to ${role}`);
    const url = withDatabase(database.url, name, { name: role, password: 'p' });
    ends.push(async () => {
      await database.pool.query(
        `reassign owned by ${role} to current_user; drop owned by ${role}; drop role ${role}`,
      );
      await database.close();
    });
    return { database, asOwner: { ...database, url }, role };
  }

  async function check(database: TestDatabase): Promise<void> {
    await database.pool.query(`insert into public.accounts (id, name) values (1, 'a');
      insert into public.doctors (id, "accountId", name) values (123, 1, 'x'); update public.doctors set "deletedAt" = now()`);
    const { rows } = await database.pool.query('select event from relay.events order by id');
    expect(rows).toEqual([{ event: 'doctors.created' }, { event: 'doctors.deleted' }]);
  }

  const owners = async ({ pool }: TestDatabase) =>
    (
      await pool.query<{ owner: string }>(
        `select distinct proowner::regrole::text as owner from pg_proc where pronamespace = 'relay'::regnamespace`,
      )
    ).rows.map(({ owner }) => owner);

  test('it keeps what it made, and the log says what to run by hand', async () => {
    const { database, asOwner, role } = await openOwned();
    const said: string[] = [];
    await run(asOwner, { log: hearing((name, text) => said.push(`${name} ${text}`)) });
    const remedy = `grant relay_owner to ${role}; select relay.secure();`;
    expect(said.filter((line) => line.includes(remedy))).toHaveLength(1);
    await check(database);
    expect(await owners(database)).toEqual([role]);
    expect(await run(asOwner)).toEqual({ migrations: [], sql: [] });

    await database.pool.query(`grant relay_owner to ${role}; select relay.secure()`);
    expect(await owners(database)).toEqual(['relay_owner']);
  });

  test('a member of relay_owner gives everything to it, and can still upgrade', async () => {
    const { database, asOwner } = await openOwned('grant relay_owner to ROLE');
    await run(asOwner);
    expect(await owners(database)).toEqual(['relay_owner']);
    await check(database);
    const root = await release({
      'sql/relay/03_body_of_row.sql': (text) => text.replaceAll('captured_payload', 'the_payload'),
      'sql/relay/05_views.sql': (text) =>
        `${text}\ncreate function relay.extra() returns int language sql as 'select 1';`,
    });
    await run(asOwner, { root });
    expect(await owners(database)).toEqual(['relay_owner']);
    const { rows } = await database.pool.query(
      `select has_function_privilege('public', 'relay.extra()', 'execute') as open`,
    );
    expect(rows).toEqual([{ open: false }]);
  });

  test('a role that may create nothing is told so', async () => {
    const { database, asOwner } = await openOwned();
    await database.pool.query(
      `alter database ${new URL(database.url).pathname.slice(1)} owner to current_user`,
    );
    await expect(run(asOwner)).rejects.toMatchObject({
      code: 'migration_forbidden',
      message: expect.stringMatching(/permission denied for database .*: migrate as its owner/),
    });
  });
});
