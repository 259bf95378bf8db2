// Every role tries to gain rights that are not its own, or to say what only Recado says.
import type pg from 'pg';
import { openClinic } from '../clinic.ts';

const PREFIX = `recado_test_${process.pid}`;
const ROLES = {
  plain: `${PREFIX}_plain`,
  reader: `${PREFIX}_reader`,
  admin: `${PREFIX}_admin`,
  admitted: `${PREFIX}_admitted`,
  owner: `${PREFIX}_owner`,
  other: `${PREFIX}_other`,
};
type Role = keyof typeof ROLES;

let clinic: Awaited<ReturnType<typeof openClinic>>;
let session: pg.Client;

beforeAll(async () => {
  clinic = await openClinic();
  session = await clinic.connect();
  for (const role of Object.values(ROLES)) await session.query(`create role ${role}`);
  await session.query(`
    grant relay_reader to ${ROLES.reader};
    grant relay_admin to ${ROLES.admin}, ${ROLES.owner};
    select relay.admit('${ROLES.admitted}');
    create schema diary authorization ${ROLES.owner};
    create table diary.notes (id int, account text);
    alter table diary.notes owner to ${ROLES.owner};
    create schema attack authorization ${ROLES.admin};
    grant usage, create on schema attack to public`);
});

afterAll(async () => {
  await session.query('reset role');
  for (const role of Object.values(ROLES))
    await session.query(`drop owned by ${role} cascade; drop role ${role}`);
  await session.end();
  await clinic.close();
});

/** Tries statements as a role, and undoes them; the code of the first that fails, or what the last one returned. */
async function tries(role: Role, ...statements: string[]): Promise<unknown> {
  await session.query(`begin; set local role ${ROLES[role]}`);
  try {
    let value: unknown;
    for (const statement of statements) {
      const { rows } = ([await session.query(statement)].flat() as pg.QueryResult[]).at(-1)!;
      value = rows[0] && Object.values(rows[0] as object)[0];
    }
    return value;
  } catch (error) {
    return (error as { code: string }).code;
  } finally {
    await session.query('rollback');
  }
}

const DENIED = '42501';
const RESERVED = '22023';
const everybody = Object.keys(ROLES) as Role[];
const allBut = (...roles: Role[]) => everybody.filter((role) => !roles.includes(role));

describe.each(everybody)('%s', (role) => {
  test('cannot write to the outbox directly', async () => {
    const insert = (event: string, account = `'1'`) =>
      tries(role, `insert into relay.events (account_id, event) values (${account}, '${event}')`);
    expect(await insert('relay:revoke')).toBe(DENIED);
    expect(await insert('relay:resync', 'null')).toBe(DENIED);
    expect(await insert('doctors.busy')).toBe(DENIED);
    expect(
      await tries(role, `insert into relay.events (account_id, event, xid) values ('1', 'x.y', '9')`),
    ).toBe(DENIED);
    expect(await tries(role, `update relay.events set payload = '1'`)).toBe(DENIED);
    expect(await tries(role, 'delete from relay.events')).toBe(DENIED);
    expect(await tries(role, 'truncate relay.events')).toBe(DENIED);
  });

  test('does not change what a relay rests on, nor read keys', async () => {
    for (const statement of [
      `update relay.installation set epoch = 'x'`,
      'delete from relay.revocations',
      `insert into relay.revocations (account_id, before) values ('1', now())`,
      `update relay.applied_sql set hash = ''`,
      'alter table relay.events disable trigger all',
      'drop trigger sign on relay.catalogue',
      'alter table relay.catalogue disable trigger sign',
      'create trigger mine before insert on relay.catalogue for each row execute function relay.sign()',
      'create function relay.mine() returns int language sql as $$ select 1 $$',
      `create or replace function relay.sign() returns trigger language plpgsql as $$ begin return new; end $$`,
      `set session_replication_role = replica`,
      'select "apiKey" from evolution.instances',
    ])
      expect([statement, await tries(role, statement)]).toEqual([statement, DENIED]);
  });
});

test.each(allBut('admin', 'owner', 'admitted'))('%s cannot emit', async (role) => {
  expect(await tries(role, `select relay.emit('1', 'doctors.busy')`)).toBe(DENIED);
});

test.each(['admin', 'owner', 'admitted'] as const)('%s cannot emit what only Recado says', async (role) => {
  for (const event of ['relay:revoke', 'relay:resync', 'relay:ready', 'connect'])
    expect(await tries(role, `select relay.emit('1', '${event}')`)).toBe(RESERVED);
  expect(await tries(role, `select relay.emit(null, 'doctors.busy')`)).toBe('22004');
});

test.each(allBut('admin', 'owner'))(
  '%s cannot change the contract, revoke, erase, or let itself in',
  async (role) => {
    for (const statement of [
      `insert into relay.catalogue (event, operation, level, fires_at) values ('x.y', 'EMIT', 'row', 'statement')`,
      `update relay.catalogue set payload = '1'`,
      'delete from relay.catalogue',
      `select relay.publish('x.y')`,
      `select relay.unpublish('doctors.busy')`,
      `select relay.suspend('doctors.busy')`,
      `select relay.republish('doctors.busy')`,
      `select relay.revoke('1')`,
      `select relay.forget('1')`,
      `select relay.tell_all('x', 'y', 'truncated')`,
      `select relay.admit('${ROLES[role]}')`,
      `select relay.admit_capture('${ROLES[role]}')`,
      `select relay.set_retention('1 hour')`,
      `select relay.restore_defaults()`,
    ])
      expect([statement, await tries(role, statement)]).toEqual([statement, DENIED]);
  },
);

test.each(allBut('admin', 'owner', 'reader'))('%s reads nothing of the relay', async (role) => {
  for (const table of [
    'events',
    'catalogue',
    'contract',
    'failures',
    'revocations',
    'installation',
    'status',
  ])
    expect(await tries(role, `select * from relay.${table}`)).toBe(DENIED);
});

describe('the catalogue', () => {
  const signed = `select published_by from relay.catalogue where event = 'doctors.busy'`;

  test('is signed by whoever writes SQL into it, whatever he says', async () => {
    for (const change of [
      `payload = '"stolen"'`,
      `account = '''2'''`,
      `condition = 'true', condition_in = 'trigger'`,
      `key = 'id'`,
      `on_table = 'public.patients', table_name = 'public.patients'`,
      `told_of = 'public.patients'::regclass, known_as = '{public.patients}'`,
      `published_by = 'postgres', payload = '1'`,
    ])
      expect([
        change,
        await tries('admin', `update relay.catalogue set ${change} where event = 'doctors.busy'`, signed),
      ]).toEqual([change, ROLES.admin]);
    expect(
      await tries(
        'admin',
        `delete from relay.catalogue where event = 'doctors.busy'`,
        `insert into relay.catalogue (event, operation, on_table, table_name, level, fires_at, account, payload, published_by)
         values ('doctors.busy', 'UPDATE', 'public.doctors', 'public.doctors', 'row', 'statement', '''1''', '1', current_setting('is_superuser'))`,
        signed,
      ),
    ).toBe(ROLES.admin);
  });

  test('knows no event that only Recado writes', async () => {
    const insert = (event: string) =>
      `insert into relay.catalogue (event, operation, level, fires_at) values ('${event}', 'EMIT', 'row', 'statement')`;
    expect(await tries('admin', insert('relay:ready'))).toBe(RESERVED);
    expect(
      await tries(
        'admin',
        insert('a.b'),
        `update relay.catalogue set event = 'relay:ready' where event = 'a.b'`,
      ),
    ).toBe(RESERVED);
  });

  test('keeps its signature when an event is suspended, and when a relay looks for swapped tables', async () => {
    const before = await clinic.value(signed);
    expect(
      await tries(
        'admin',
        `update relay.catalogue set suspended = true, suspended_at = now() where event = 'doctors.busy'`,
        signed,
      ),
    ).toBe(before);
    expect(await tries('reader', 'select count(*) from relay.notice_swaps()', signed)).toBe(before);
  });
});

describe('a superuser who republishes', () => {
  /** What relay_admin prepares, and what becomes of it when a superuser runs relay.republish(). */
  async function trap(prepare: string, role: Role = 'admin'): Promise<{ code: unknown; owner: unknown }> {
    await session.query('begin');
    try {
      await session.query(`set local role ${ROLES[role]}; ${prepare}; reset role`);
      await session.query('savepoint armed');
      const code = await session.query(`select relay.republish('doctors.busy')`).then(
        () => 'done',
        (error: { code: string }) => error.code,
      );
      if (code !== 'done') await session.query('rollback to armed');
      const { rows } = await session.query(
        `select proowner::regrole::text as owner from pg_proc where proname = 'doctors.busy/update'`,
      );
      return { code, owner: rows[0]?.owner };
    } finally {
      await session.query('rollback');
    }
  }
  const EVIL = `create function attack.rise() returns jsonb language plpgsql volatile as
    $$ begin execute 'alter role ${ROLES.admin} superuser'; return '1'; end $$`;

  test('installs no SQL of one who may not make triggers on the table', async () => {
    for (const column of ['payload', 'account']) {
      const { code } = await trap(
        `${EVIL}; update relay.catalogue set ${column} = 'attack.rise()' where event = 'doctors.busy'`,
      );
      expect(code).toBe(DENIED);
    }
    expect(
      (
        await trap(
          `update relay.catalogue set condition = 'attack.rise() is null', condition_in = 'trigger' where event = 'doctors.busy'`,
        )
      ).code,
    ).not.toBe('done');
    expect(
      (
        await trap(
          `${EVIL}; update relay.catalogue set payload = 'attack.rise()', published_by = 'nobody_is_called_so' where event = 'doctors.busy'`,
        )
      ).code,
    ).toBe(DENIED);
  });

  test('runs none of it on the way', async () => {
    await trap(`${EVIL}; update relay.catalogue set payload = 'attack.rise()' where event = 'doctors.busy'`);
    expect(await clinic.value(`select rolsuper from pg_roles where rolname = '${ROLES.admin}'`)).toBe(false);
  });

  test('leaves a function to its publisher, if that role may create triggers on the table', async () => {
    await session.query(`grant trigger on public.doctors to ${ROLES.admin}`);
    const { code, owner } = await trap(
      `${EVIL}; update relay.catalogue set payload = 'attack.rise()' where event = 'doctors.busy'`,
    );
    await session.query(`revoke trigger on public.doctors from ${ROLES.admin}`);
    expect({ code, owner }).toEqual({ code: 'done', owner: ROLES.admin });
  });

  test('is told how to adopt an event whose publisher no longer exists', async () => {
    await session.query('begin');
    await session.query(
      `update relay.catalogue set published_by = 'nobody_is_called_so' where event = 'doctors.busy'`,
    );
    await expect(session.query(`select relay.republish('doctors.busy')`)).rejects.toMatchObject({
      message: expect.stringContaining('nobody_is_called_so'),
      hint: expect.stringContaining('published_by = current_user'),
    });
    await session.query('rollback');
  });

  test('leaves the signature of the publisher', async () => {
    await session.query(`set role ${ROLES.owner}`);
    await session.query(
      `select relay.publish('notes.made', 'diary.notes', 'INSERT', account => 'new.account')`,
    );
    await session.query('reset role');
    await session.query(`alter table diary.notes disable trigger all; select relay.republish('notes.made')`);
    const { rows } = await session.query(
      `select published_by from relay.catalogue where event = 'notes.made'`,
    );
    expect(rows).toEqual([{ published_by: ROLES.owner }]);
  });
});
