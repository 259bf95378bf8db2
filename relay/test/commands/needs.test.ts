// What each command asks for, how long it waits, and which command it names next.
import { execFile } from 'node:child_process';
import { once } from 'node:events';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { readSettings } from '../../config/settings.ts';
import { waitForDatabase } from '../../db/connect.ts';
import { packageRoot } from '../../package.ts';
import { portOf } from '../../port.ts';
import { hearing } from '../hearing.ts';
import { createDatabase, type TestDatabase } from '../postgres.ts';
import { deadPort } from '../world.ts';
import { recado } from './recado.ts';

let empty: TestDatabase;

beforeAll(async () => {
  empty = await createDatabase({ empty: true });
});
afterAll(() => empty.close());

describe('settings', () => {
  const wrong = { JWT_SECRET: 'short', PORT: 'none', CORS_ORIGIN: 'nonsense', RELAY_PROCESSES: '0' };

  test.each(['migrate', 'uninstall', 'sql', 'evolution', 'contract', 'tail'])(
    '%s needs no secret, and no right value of what it does not use',
    (command) => {
      const DATABASE_URL = 'postgres://app@db/app';
      expect(readSettings({ DATABASE_URL }, command).database.url).toBe(DATABASE_URL);
      expect(readSettings({ DATABASE_URL, ...wrong }, command).http.port).toBe(3000);
    },
  );

  test.each(['relay', 'start', 'token'])('%s needs the secret', (command) => {
    expect(() => readSettings({ DATABASE_URL: 'postgres://app@db/app' }, command)).toThrow('JWT_SECRET');
  });

  test('what a command uses must be right', () => {
    expect(() => readSettings({ DATABASE_URL: 'nonsense' }, 'migrate')).toThrow('DATABASE_URL');
    expect(() => readSettings({ PACE_MS: 'often' }, 'tail')).toThrow('PACE_MS');
    expect(() => readSettings({ ROOM_PREFIX: 'a b' }, 'contract')).toThrow('ROOM_PREFIX');
  });
});

describe('a database that was never migrated', () => {
  test.each(['relay', 'evolution', 'tail', 'contract', 'trace'])('%s names the command', async (command) => {
    const args = command === 'trace' ? [command, '1'] : [command];
    const ran = await recado(args, {
      DATABASE_URL: empty.url,
      JWT_SECRET: 'a secret for tests that has more than thirty-two bytes',
      PORT: '0',
    });
    expect(ran).toMatchObject({ code: 1, stderr: expect.stringContaining('run "npm run migrate" first') });
    expect(ran.stderr).toContain('(not_migrated)');
  });

  test('doctor names it too', async () => {
    const { stdout } = await recado(['doctor'], {
      DATABASE_URL: empty.url,
      JWT_SECRET: 'a secret for tests that has more than thirty-two bytes',
    });
    expect(stdout).toContain('run "npm run migrate"');
  });
});

test('doctor on a database that an older version has migrated names the command', async () => {
  const older = await createDatabase();
  try {
    await older.pool.query(
      'drop function relay.check_locks(); alter table relay.revocations rename to refusals',
    );
    const { stdout } = await recado(['doctor'], {
      DATABASE_URL: older.url,
      JWT_SECRET: 'a secret for tests that has more than thirty-two bytes',
    });
    for (const check of ['locks', 'privileges'])
      expect(stdout).toMatch(
        new RegExp(`^BROKEN {3}${check}: .*another version.*run "npm run migrate"`, 'm'),
      );
  } finally {
    await older.close();
  }
});

describe('a database that does not answer', () => {
  test('is given up with a sentence where somebody waits', async () => {
    const url = `postgres://app:hunter2@127.0.0.1:${await deadPort()}/app`;
    const log = hearing(() => undefined);
    await expect(waitForDatabase({ url, name: 'test', log, patienceMs: 500 })).rejects.toMatchObject({
      code: 'database_unreachable',
      message: expect.stringMatching(
        /^Postgres on 127\.0\.0\.1:\d+ did not answer within 1 seconds \(.*ECONNREFUSED/,
      ),
    });
  });

  test('recado sql ends by itself', async () => {
    const url = `postgres://app:hunter2@127.0.0.1:${await deadPort()}/app`;
    const { code, stderr } = await recado(['sql', 'select 1'], { DATABASE_URL: url });
    expect({ code, stderr }).toEqual({ code: 1, stderr: expect.stringContaining('(database_unreachable)') });
    expect(stderr).not.toContain('hunter2');
  });
});

test('recado sql without a statement runs what is typed', async () => {
  const typed = `select 'it''s' as said;\nselect $$"quoted"$$ as said, 2 as n;\n`;
  expect(await recado(['sql'], { DATABASE_URL: empty.url }, typed)).toEqual({
    code: 0,
    stdout: ' said     | n\n----------+---\n "quoted" | 2\nSELECT 1\n',
    stderr: '',
  });
});

test('recado sql ends without a word when nobody reads on', async () => {
  const long = `select repeat('x', 1000) as x from generate_series(1, 5000)`;
  const command = `'${process.execPath}' '${join(packageRoot, 'dist/relay/main.js')}' sql "${long}" | head -n 1`;
  const env = { PATH: process.env.PATH, DATABASE_URL: empty.url };
  const { stdout, stderr } = await promisify(execFile)('sh', ['-c', command], { env });
  expect(stdout.trim()).toBe('x');
  expect(stderr).toBe('');
});

describe('TLS', () => {
  test('a root certificate that is not there is a sentence, not a stack trace', async () => {
    const { code, stderr } = await recado(['migrate'], {
      DATABASE_URL: `${empty.url}?sslmode=verify-full&sslrootcert=/nowhere/ca.crt`,
    });
    expect(code).toBe(1);
    expect(stderr).toContain('/nowhere/ca.crt, which cannot be read');
    expect(stderr).toContain('(database_tls_failed)');
    expect(stderr).not.toMatch(/^ {4}at /m);
  });

  test('a server without TLS: the message says which of the two to change', async () => {
    const server = createServer((socket) => socket.once('data', () => socket.write('N')));
    await once(server.listen(0, '127.0.0.1'), 'listening');
    const port = portOf(server);
    const url = `postgres://app@127.0.0.1:${port}/app?sslmode=require`;
    const log = hearing(() => undefined);
    await expect(waitForDatabase({ url, name: 'test', log })).rejects.toMatchObject({
      code: 'database_tls_failed',
      message: expect.stringContaining('does not speak TLS'),
    });
    server.close();
  });
});
