// Roles, databases and functions with settings under which writes fail or are not safe: doctor names each with its
// remedy. They are set for the test's own database, since the server is that of all tests.

import type pg from 'pg';
import { examine } from '../../commands/doctor.ts';
import { type Database, freshDatabase, SECRET } from '../world.ts';

const ROLE = 'Defaults test';

let database: Database;
let name: string;
/** Connected before any of the settings, so that none is its own. */
let dba: pg.Client;

beforeAll(async () => {
  database = await freshDatabase();
  name = new URL(database.url).pathname.slice(1);
  dba = await database.connect();
  await dba.query(`create role "${ROLE}"`);
});
afterAll(async () => {
  await dba.query(`drop role "${ROLE}"`);
  await database.close();
});

async function look(): Promise<{ state: string; text: string }[]> {
  const findings = await examine({ DATABASE_URL: database.url, JWT_SECRET: SECRET });
  return findings.filter(({ what }) => what === 'defaults').map(({ state, text }) => ({ state, text }));
}

test('without such settings doctor finds nothing', async () => {
  expect(await look()).toEqual([{ state: 'ok', text: expect.any(String) }]);
});

test.each([
  [`role "${ROLE}" in database`, 'default_transaction_isolation', 'serializable'],
  ['database', 'default_transaction_isolation', 'repeatable read'],
  ['database', 'default_transaction_read_only', 'on'],
  ['database', 'default_transaction_read_only', 'true'],
  ['database', 'synchronous_commit', 'off'],
  ['function public.hurries()', 'synchronous_commit', 'off'],
])('%s with %s = %s', async (kind, setting, value) => {
  await dba.query('create or replace function public.hurries() returns int language sql return 1');
  const owner = kind.endsWith('database') ? `${kind} ${name}` : kind;
  await dba.query(`alter ${owner} set ${setting} = '${value}'`);
  const [finding, ...others] = await look();
  expect(others).toEqual([]);
  expect(finding?.state).toBe('warning');
  expect(finding?.text).toContain(`${owner.replace('public.', '')} has ${setting} = `);
  const remedy = /alter .* reset \w+/.exec(finding!.text)![0];
  await dba.query(remedy.replace('hurries', 'public.hurries'));
  expect(await look()).toEqual([{ state: 'ok', text: expect.any(String) }]);
});
