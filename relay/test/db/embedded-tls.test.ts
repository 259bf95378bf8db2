// A Postgres that speaks TLS with a certificate of its own, as many servers do: what an operator is told, and that each
// thing he is told helps.
import { chown, mkdtemp, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import pg from 'pg';
import { openReader } from '../../db/connect.ts';
import { type EmbeddedPostgres, startEmbedded } from '../../db/embedded.ts';
import { Silence } from '../../db/silence.ts';
import { makeCertificate } from '../certificate.ts';
import { recado } from '../commands/recado.ts';
import { Link } from '../faults/links.ts';
import { hearing } from '../hearing.ts';
import { through, until } from '../world.ts';

let dataDir: string;
let postgres: EmbeddedPostgres;
let certificate: string;

beforeAll(async () => {
  dataDir = await mkdtemp(join(tmpdir(), 'recado-tls-'));
  postgres = await startEmbedded({ dataDir, settings: { fsync: 'off' }, log: hearing(() => undefined) });
  const session = new pg.Client({ connectionString: postgres.url });
  await session.connect();
  const data = join(dataDir, 'cluster/data');
  certificate = join(data, 'server.crt');
  const key = join(data, 'server.key');
  await makeCertificate(key, certificate, 'localhost');
  // The server reads a key that belongs to its own user.
  const { uid, gid } = await stat(join(data, 'PG_VERSION'));
  await chown(key, uid, gid);
  await session.query('alter system set ssl = on');
  await session.query('select pg_reload_conf()');
  const speaks = async () => (await session.query<{ ssl: string }>('show ssl')).rows[0]!.ssl === 'on';
  await until('the server speaks TLS', speaks);
  await session.end();
}, 120_000);

afterAll(async () => {
  await postgres?.stop('immediate');
  await rm(dataDir, { recursive: true, force: true });
});

const sql = (query: string) => {
  const url = `${postgres.url}?${query}`;
  return recado(['sql', 'select ssl from pg_stat_ssl where pid = pg_backend_pid()'], { DATABASE_URL: url });
};

test('sslmode=require with a certificate that signs itself: the message names three ways out', async () => {
  const { code, stderr } = await sql('sslmode=require');
  expect(code).toBe(1);
  expect(stderr).toContain('self-signed certificate');
  for (const way of ['sslrootcert=', 'uselibpqcompat=true', 'sslmode=no-verify'])
    expect(stderr).toContain(way);
  expect(stderr).toContain('(database_tls_failed)');
  expect(stderr).not.toMatch(/^ {4}at /m);
});

test.each([
  ['sslrootcert', () => `sslmode=require&sslrootcert=${certificate}`],
  ['sslrootcert, the name too', () => `sslmode=verify-full&sslrootcert=${certificate}`],
  ['uselibpqcompat', () => 'uselibpqcompat=true&sslmode=require'],
  ['no-verify', () => 'sslmode=no-verify'],
])('%s helps, and the connection is encrypted', async (_way, query) => {
  const { code, stdout } = await sql(query());
  expect(code).toBe(0);
  expect(stdout).toMatch(/\btrue\b|\bt\b/);
});

test('an encrypted connection that falls silent is noticed, too', async () => {
  const link = await Link.to(postgres.port);
  const url = `${through(link, postgres.url)}?sslmode=no-verify`;
  const session = await openReader({ url, name: 'silent', silence: new Silence(3_000) });
  for (let n = 0; n < 4; n += 1) await session.query('select pg_sleep(1)');
  link.forget(false, 600_000);
  await expect(session.query('select 1')).rejects.toThrow();
  await session.end().catch(() => undefined);
  await link.close();
});
