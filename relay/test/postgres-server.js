// The servers of a jest run, in jest's own process: workers come and go, they stay. Each worker has a server of its own,
// since transaction ids, locks and sessions are the server's: beside another test, a position would name its transactions.
// A server is started by the first test that asks, so that tests without a database cost nothing. Plain JavaScript, and
// from dist/ (npm test builds it), because jest does not transform what it runs outside of tests.
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import pg from 'pg';

const prefix = `recado_test_${randomBytes(4).toString('hex')}_`;
/** Given ones: each worker takes the next. With one, all share it. */
const given = process.env.TEST_DATABASE_URL?.split(',') ?? [];
/** @type {Map<string, Promise<{ url: string, template: string, stop: () => Promise<void> }>>} */
const started = new Map();

/** Is sent the number of a worker, and answers with what TestServer (postgres.ts) describes. */
const desk = createServer((socket) => {
  socket.on('error', () => undefined);
  socket.once('data', async (worker) => {
    const answer = await serverOf(Number(worker)).then(
      ({ url, template }) => ({ url, template }),
      (error) => ({ error: String(error.message) }),
    );
    socket.end(JSON.stringify(answer));
  });
});

/** @param {number} worker */
function serverOf(worker) {
  const url = given[worker % given.length];
  const key = url ?? String(worker);
  const server = started.get(key) ?? start(url);
  started.set(key, server);
  return server;
}

export async function open() {
  desk.listen(0, '127.0.0.1');
  await once(desk, 'listening');
  process.env.RECADO_TEST_SERVER = String(desk.address().port);
}

export async function close() {
  desk.close();
  await Promise.all(
    [...started.values()].map(async (server) => (await server.catch(() => undefined))?.stop()),
  );
}

/** @param {string | undefined} given */
async function start(given) {
  const [{ startEmbedded }, { migrate }, { createLog }] = await Promise.all([
    import('../../dist/relay/db/embedded.js'),
    import('../../dist/relay/install/migrate.js'),
    import('../../dist/relay/log.js'),
  ]);
  const server = given ? { url: given, stop: () => dropDatabases(given) } : await startServer(startEmbedded);
  const template = `${prefix}template`;
  try {
    const url = new URL(server.url);
    await run(server.url, `create database ${template}`);
    url.pathname = `/${template}`;
    await migrate({ databaseUrl: url.href, log: createLog('warn', false), packs: ['clinic', 'whatsapp'] });
    return { url: server.url, template, stop: server.stop };
  } catch (error) {
    await server.stop();
    throw error;
  }
}

async function startServer(startEmbedded) {
  const dataDir = await mkdtemp(join(tmpdir(), 'recado-test-'));
  const settings = { fsync: 'off', full_page_writes: 'off', max_connections: '300' };
  const server = await startEmbedded({ dataDir, settings });
  return {
    url: server.url,
    stop: async () => {
      await server.stop('immediate');
      await rm(dataDir, { recursive: true, force: true });
    },
  };
}

/** Those of this run, the template and what interrupted tests left. */
async function dropDatabases(url) {
  const rows = await run(url, `select datname from pg_database where starts_with(datname, '${prefix}')`);
  for (const { datname } of rows) await run(url, `drop database ${datname} with (force)`);
}

async function run(url, statement) {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  try {
    return (await client.query(statement)).rows;
  } finally {
    await client.end();
  }
}
