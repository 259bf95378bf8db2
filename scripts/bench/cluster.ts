// The Postgres to measure on: DATABASE_URL, or one of our own that is gone afterwards. Every peer has a database in it.
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import pg from 'pg';
import { startEmbedded } from '../../relay/db/embedded.ts';
import { migrate } from '../../relay/install/migrate.ts';
import { createLog } from '../../relay/log.ts';
import { packageRoot } from '../../relay/package.ts';
import { ACCOUNTS, DOCTORS, type Peer, publishBusy } from './peers.ts';

export interface Cluster {
  /** Of a superuser. */
  readonly url: string;
  readonly about: string;
  /** The peer's database, made when it is first asked for. */
  database(peer: Peer): Promise<string>;
  /** A copy of the peer's database, changed by `sql`. */
  variant(peer: Peer, sql: string): Promise<string>;
  close(): Promise<void>;
}

// As in production: commits go to disk. Nothing here favours one of the peers.
const SETTINGS = { max_connections: '200', shared_buffers: '256MB', max_wal_size: '4GB' };

export async function openCluster(given: string | undefined): Promise<Cluster> {
  const dataDir = given === undefined ? await mkdtemp(join(tmpdir(), 'recado-bench-')) : null;
  const own = dataDir === null ? null : await startEmbedded({ dataDir, settings: SETTINGS });
  const url = own?.url ?? given!;
  const made = new Map<string, Promise<string>>();
  const suffix = `${process.pid}`;
  let variants = 0;

  const nameOf = (of: string) => `recado_bench_${of}_${suffix}`;

  async function make(peer: Peer): Promise<string> {
    const name = nameOf(peer.name);
    await withSession(url, (session) => session.query(`create database ${name}`));
    const address = new URL(url);
    address.pathname = `/${name}`;
    const ours = peer.name === 'recado' || peer.name === 'muted';
    if (ours) await migrate({ databaseUrl: address.href, log: createLog('warn', false), packs: ['clinic'] });
    await withSession(address.href, async (session) => {
      if (!ours) await session.query(await clinicTables());
      await session.query(`
        insert into public.accounts (id, name) select n, 'Clínica ' || n from generate_series(1, ${ACCOUNTS}) as n;
        insert into public.doctors (id, "accountId", name)
          select n, 1 + n % ${ACCOUNTS}, 'Dra. Helena Souza ' || n from generate_series(1, ${DOCTORS}) as n`);
      if (ours) await publishBusy(session, 'row');
      else await session.query(peer.sql);
      await session.query('vacuum analyze public.doctors');
    });
    if (peer.options !== undefined) address.searchParams.set('options', peer.options);
    // libpq takes no "+" for a blank.
    return address.href.replaceAll('+', '%20');
  }

  function database(peer: Peer): Promise<string> {
    const known = made.get(peer.name) ?? make(peer);
    made.set(peer.name, known);
    return known;
  }

  async function copy(peer: Peer, name: string, sql: string): Promise<string> {
    const address = new URL(await database(peer));
    await withSession(url, (session) =>
      session.query(`create database ${nameOf(name)} template ${address.pathname.slice(1)}`),
    );
    address.pathname = `/${nameOf(name)}`;
    await withSession(address.href, (session) => session.query(sql));
    return address.href;
  }

  return {
    url,
    about: await describeServer(url, own !== null),
    database,
    variant(peer, sql) {
      variants += 1;
      const name = `${peer.name}_${variants}`;
      const copied = copy(peer, name, sql);
      made.set(name, copied);
      return copied;
    },
    async close() {
      if (own && dataDir !== null) {
        await own.stop('immediate');
        await rm(dataDir, { recursive: true, force: true });
        return;
      }
      await withSession(url, async (session) => {
        for (const name of made.keys())
          await session.query(`drop database if exists ${nameOf(name)} with (force)`);
      });
    },
  };
}

/** Runs `work` on a connection of its own. */
export async function withSession<T>(url: string, work: (session: pg.Client) => Promise<T>): Promise<T> {
  const session = new pg.Client({ connectionString: url });
  await session.connect();
  try {
    return await work(session);
  } finally {
    await session.end();
  }
}

/** The same start for every run: nothing in the peer's tables, no dead rows of doctors, nothing left to write. */
export async function tidy(url: string, peer: Peer): Promise<void> {
  await withSession(url, async (session) => {
    if (peer.empties) await session.query(`truncate ${peer.empties}`);
    await session.query('vacuum public.doctors');
    await session.query('checkpoint');
  });
}

async function clinicTables(): Promise<string> {
  return readFile(join(packageRoot, 'migrations/clinic/001_clinic_tables.sql'), 'utf8');
}

async function describeServer(url: string, own: boolean): Promise<string> {
  return withSession(url, async (session) => {
    const { rows } = await session.query<{ version: string; settings: string }>(
      `select current_setting('server_version') as version,
              (select string_agg(name || ' ' || current_setting(name), ', ')
                 from unnest(array['fsync', 'synchronous_commit', 'shared_buffers', 'wal_level']) as name) as settings`,
    );
    const { version, settings } = rows[0]!;
    return `Postgres ${version} ${own ? 'of our own' : 'as given'} (${settings})`;
  });
}
