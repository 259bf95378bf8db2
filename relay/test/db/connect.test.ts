// Connections, and which failures are waited for. A proxy stands between where the road has to break.
import { once } from 'node:events';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { createPool, openReader, transaction, waitForDatabase } from '../../db/connect.ts';
import { portOf } from '../../port.ts';
import { ends } from '../ends.ts';
import { hearing } from '../hearing.ts';
import { deadPort } from '../port.ts';
import { createDatabase, type TestDatabase, withDatabase } from '../postgres.ts';

let database: TestDatabase;

beforeAll(async () => {
  database = await createDatabase({ empty: true });
});
afterAll(() => database.close());

/** A log that remembers, and calls `onSay`. */
function listening(onSay: (name: string) => void = () => undefined) {
  const said: string[] = [];
  const log = hearing((name) => {
    said.push(name);
    onSay(name);
  });
  return { log, said };
}

function makePool(log = listening().log) {
  const pool = createPool({ url: database.url, name: 'pool under test', log, max: 2 });
  ends.push(() => pool.end());
  return pool;
}

/** Passes bytes between a free port and the server; `change` sees what the server says. */
function makeProxy(change: (data: Buffer) => Buffer = (data) => data): Server {
  const { hostname, port } = new URL(database.url);
  const sockets = new Set<Socket>();
  const proxy = createServer((client) => {
    const server = connect(Number(port || 5432), hostname);
    for (const socket of [client, server]) {
      sockets.add(socket);
      socket.on('error', () => undefined).on('close', () => client.destroy() && server.destroy());
    }
    client.pipe(server);
    server.on('data', (data) => client.write(change(data)));
  });
  ends.push(() => {
    proxy.close();
    for (const socket of sockets) socket.destroy();
  });
  return proxy;
}

async function listen(server: Server): Promise<number> {
  await once(server.listen(0, '127.0.0.1'), 'listening');
  return portOf(server);
}

function through(port: number): string {
  const url = new URL(database.url);
  url.hostname = '127.0.0.1';
  url.port = String(port);
  return url.href;
}

const wait = (url: string, log = listening().log, signal?: AbortSignal) =>
  waitForDatabase({ url, name: 'test', log, ...(signal && { signal }) });

test('64-bit and exact numbers are read as text, and timestamptz as a Date', async () => {
  const { rows } = await makePool().query(`
    select 9007199254740993::int8 as int8, '18446744073709551615'::xid8 as xid8, 1.10::numeric as numeric,
           '2025-01-23T09:15:00.123Z'::timestamptz as timestamptz, '2025-01-23 09:15:00'::timestamp as timestamp,
           '2025-01-23'::date as date, '{"a": 1}'::jsonb as jsonb, 1::int4 as int4`);
  expect(rows).toEqual([
    {
      int8: '9007199254740993',
      xid8: '18446744073709551615',
      numeric: '1.10',
      timestamptz: new Date('2025-01-23T09:15:00.123Z'),
      timestamp: '2025-01-23 09:15:00',
      date: '2025-01-23',
      jsonb: { a: 1 },
      int4: 1,
    },
  ]);
});

test('a connection that breaks while idle is said, and replaced', async () => {
  const { promise, resolve } = withResolvers();
  const { log, said } = listening(resolve);
  const pool = makePool(log);
  const { rows } = await pool.query<{ pid: number }>('select pg_backend_pid() as pid');
  await database.pool.query('select pg_terminate_backend($1)', [rows[0]!.pid]);
  await promise;
  expect(said).toEqual(['database_connection_lost']);
  expect((await pool.query('select 1 as one')).rows).toEqual([{ one: 1 }]);
});

describe('transaction()', () => {
  const table = async () => {
    await database.pool.query('drop table if exists words; create table words (word text)');
  };
  const words = async () =>
    (await database.pool.query<{ word: string }>('select word from words')).rows.map(({ word }) => word);

  test('commits and gives back what the work returns', async () => {
    await table();
    const result = await transaction(makePool(), async (client) => {
      await client.query(`insert into words values ('a')`);
      expect(await words()).toEqual([]);
      return 7;
    });
    expect(result).toBe(7);
    expect(await words()).toEqual(['a']);
  });

  test('rolls back and throws on what the work throws; the connection is as new', async () => {
    await table();
    const pool = makePool();
    const work = transaction(pool, async (client) => {
      await client.query(`insert into words values ('a'); set local timezone = 'Asia/Tokyo'`);
      throw new Error('changed my mind');
    });
    await expect(work).rejects.toThrow('changed my mind');
    expect(await words()).toEqual([]);
    expect(pool.totalCount).toBe(1);
    expect(pool.idleCount).toBe(1);
  });

  test('a connection that broke is not lent again', async () => {
    const pool = makePool();
    await expect(
      transaction(pool, (client) => client.query('select pg_terminate_backend(pg_backend_pid())')),
    ).rejects.toThrow();
    expect(pool.totalCount).toBe(0);
  });
});

test('a reader plans without sequential scans, JIT and parallel workers', async () => {
  const reader = await openReader({ url: database.url, name: 'reader under test' });
  ends.push(() => reader.end());
  const { rows } = await reader.query(
    `select name, setting from pg_settings where name in ('enable_seqscan', 'jit', 'max_parallel_workers_per_gather', 'application_name', 'lock_timeout') order by name`,
  );
  expect(rows).toEqual([
    { name: 'application_name', setting: 'reader under test' },
    { name: 'enable_seqscan', setting: 'off' },
    { name: 'jit', setting: 'off' },
    { name: 'lock_timeout', setting: '500' },
    { name: 'max_parallel_workers_per_gather', setting: '0' },
  ]);
});

describe('waitForDatabase()', () => {
  test('tries again until the database is there, and says so', async () => {
    const proxy = makeProxy();
    const port = await deadPort();
    let failures = 0;
    const { log, said } = listening((name) => {
      if (name === 'database_unreachable') failures += 1;
      if (name === 'database_unreachable' && failures === 2) proxy.listen(port, '127.0.0.1');
    });
    await wait(through(port), log);
    expect(said).toEqual(['database_unreachable', 'database_unreachable', 'database_reachable']);
  });

  test('tries again where the connection breaks after it was made', async () => {
    const { log, said } = listening();
    let checks = 0;
    const check = async () => {
      checks += 1;
      if (checks > 1) return;
      await database.pool.query('select pg_terminate_backend(pg_backend_pid())');
    };
    await waitForDatabase({ url: database.url, name: 'test', log, check });
    expect({ checks, said }).toEqual({ checks: 2, said: ['database_unreachable', 'database_reachable'] });
  });

  test('says nothing when it is there at once', async () => {
    const { log, said } = listening();
    await wait(database.url, log);
    expect(said).toEqual([]);
  });

  test('ends when it is aborted', async () => {
    const abort = new AbortController();
    const { log } = listening(() => abort.abort(new Error('enough')));
    await expect(wait(through(await deadPort()), log, abort.signal)).rejects.toThrow('enough');
  });

  test('gives up on a wrong password, which is not in the message', async () => {
    const url = new URL(database.url);
    url.password = 'not-this-one';
    const failure = await wait(url.href).catch((error) => error);
    expect(failure).toMatchObject({ code: 'database_authentication_failed' });
    expect(failure.message).toMatch(
      /^Postgres on .* refused the password of role ".*": correct user and password/,
    );
    expect(failure.message).not.toContain('not-this-one');
  });

  test('gives up on a database that does not exist', async () => {
    await expect(wait(withDatabase(database.url, 'recado_nowhere'))).rejects.toMatchObject({
      code: 'database_missing',
      message: expect.stringContaining('There is no database "recado_nowhere" on'),
    });
  });

  test('gives up on a role that may not connect', async () => {
    const name = new URL(database.url).pathname.slice(1);
    const role = `${name}_guest`;
    await database.pool.query(
      `create role ${role} login password 'p'; revoke connect on database ${name} from public`,
    );
    ends.push(() => database.pool.query(`drop role ${role}`));
    await expect(wait(withDatabase(database.url, name, { name: role, password: 'p' }))).rejects.toMatchObject(
      {
        code: 'database_access_refused',
        message: expect.stringContaining('permission denied for database'),
      },
    );
  });

  test('gives up where encryption is asked for and cannot be had', async () => {
    await expect(wait(`${database.url}?sslmode=verify-full`)).rejects.toMatchObject({
      code: 'database_tls_failed',
    });
  });

  test('gives up on a Postgres that is too old', async () => {
    const { rows } = await database.pool.query<{ number: string }>('show server_version_num');
    const number = Object.values(rows[0]!)[0]!;
    const old = makeProxy((data) => Buffer.from(data.toString('latin1').replace(number, '120022'), 'latin1'));
    await expect(wait(through(await listen(old)))).rejects.toMatchObject({
      code: 'postgres_too_old',
      message: expect.stringMatching(/but 13 or newer is needed/),
    });
  });
});

function withResolvers(): { promise: Promise<void>; resolve: () => void } {
  let resolve = () => {};
  const promise = new Promise<void>((settle) => {
    resolve = settle;
  });
  return { promise, resolve };
}
