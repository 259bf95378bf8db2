// The feed through crashes, restores and a standby, on a server of its own. The table is the oracle.
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmod, chown, cp, mkdtemp, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type EmbeddedPostgres, startEmbedded } from '../../db/embedded.ts';
import { environment, findBinaries } from '../../db/embedded-binaries.ts';
import { migrate } from '../../install/migrate.ts';
import { covers, parseSnapshot, sees } from '../../outbox/position.ts';
import { ends } from '../ends.ts';
import { type Database, deadPort, openDatabase, until } from '../world.ts';
import {
  createItems,
  currentXid,
  emit,
  expectEachOnce,
  Reader,
  readOnAndOn,
  silent,
  startReader,
  wake,
  writeAtRandom,
} from './reader.ts';

describe('through crashes of a server of its own', () => {
  let base: string;
  let server: EmbeddedPostgres;
  let database: Database;

  const settings = {
    fsync: 'off',
    max_prepared_transactions: '10',
    // What rolls back is on disk only when something else is flushed: the danger that the cut is there for.
    wal_writer_delay: '10s',
    max_connections: '50',
  };

  beforeAll(async () => {
    base = await mkdtemp(join(tmpdir(), 'recado-feed-test-'));
    await chmod(base, 0o755);
    server = await startEmbedded({ dataDir: join(base, 'a'), settings, port: await deadPort() });
    database = openDatabase(server.url);
    await migrate({ databaseUrl: server.url, log: silent });
    await createItems(database);
  });
  afterAll(async () => {
    await database.close();
    await server.stop('immediate');
    await rm(base, { recursive: true, force: true });
  });

  async function crash(): Promise<void> {
    const { port, dataDir } = server;
    await server.stop('immediate');
    server = await startEmbedded({ dataDir, settings, port });
  }

  async function lastId(): Promise<bigint> {
    const [row] = await database.query<{ id: string }>(
      'select coalesce(max(id), 0)::text as id from relay.events',
    );
    return BigInt(row!.id);
  }

  test('loses no event whose transaction id was given out twice', async () => {
    const reader = await startReader(server.url);
    await emit(database, 'first');
    await reader.feed.read();
    let round = 0;
    for (let again = 0; again < 2; round += 1) {
      const client = await database.connect();
      await client.query('begin');
      const { rows } = await client.query<{ xid: string }>('select pg_current_xact_id()::text as xid');
      const xid = BigInt(rows[0]!.xid);
      await client.query('rollback');
      await reader.feed.read();
      const [row] = await database.query<{ text: string }>('select pg_current_snapshot()::text as text');
      const uncut = parseSnapshot(row!.text);
      await crash();
      await until('the server is back', () =>
        emit(database, round).then(
          () => true,
          () => false,
        ),
      );
      const [event] = await database.query<{ xid: string }>(
        'select xid::text as xid from relay.events order by id desc limit 1',
      );
      // The premise: Postgres gave it out again, and the snapshot as it was has already called it seen. If the WAL
      // writer wakes just then, the id is on disk, and another round is needed.
      if (BigInt(event!.xid) === xid) {
        expect(sees(uncut, xid)).toBe(true);
        again += 1;
      }
      const payload = `${round}`;
      await until(
        'the event',
        () => reader.events.some((heard) => heard.payload === payload) || wake(reader),
      );
    }
    const rounds = Array.from({ length: round }, (_, n) => `${n}`);
    expect(reader.events.map(({ payload }) => payload)).toEqual(['"first"', ...rounds]);
    expect(reader.lost).toEqual([]);
  });

  test('hands on what committed and nothing else, each once, through four crashes among writers', async () => {
    const reader = await startReader(server.url);
    const after = await lastId();
    const stop = readOnAndOn(reader);
    for (let round = 0; round < 4; round += 1) {
      const writers = await Promise.all(Array.from({ length: 8 }, () => database.connect()));
      const target = reader.events.length + 60;
      const writing = writers.map((client) => writeAtRandom(client, () => false));
      await until('some events', () => reader.events.length >= target);
      await crash();
      await Promise.all(writing);
    }
    await stop();
    expect(await expectEachOnce(reader, database, after)).toBeGreaterThan(240);
    expect(reader.lost).toEqual([]);
  });

  test('does not hand on a transaction from the future until it is there, and then once', async () => {
    const reader = await startReader(server.url);
    const now = await currentXid(database);
    // Farther than what autovacuum spends meanwhile.
    const near = now + 1_000n;
    // As a dump restored from another cluster carries them, or somebody who may give the xid.
    await database.query(
      `insert into relay.events (xid, account_id, event) values ($1::text::xid8, 'acc-1', 'test.near'), ($2::text::xid8, 'acc-1', 'test.far')`,
      [near.toString(), (now + 10_000_000n).toString()],
    );
    for (let n = 0; n < 5; n += 1) {
      await emit(database, n);
      await reader.feed.read();
    }
    expect(reader.events.map(({ event }) => event)).toEqual(Array.from({ length: 5 }, () => 'test.event'));
    while ((await currentXid(database)) <= near);
    for (let n = 5; n < 8; n += 1) {
      await emit(database, n);
      await reader.feed.read();
    }
    expect(reader.events.filter(({ event }) => event === 'test.near')).toHaveLength(1);
    expect(reader.events.filter(({ event }) => event === 'test.event')).toHaveLength(8);
    expect(reader.events.some(({ event }) => event === 'test.far')).toBe(false);
  });

  test('hands on a prepared transaction when it is committed, once, also after a crash', async () => {
    const reader = await startReader(server.url);
    const client = await database.connect();
    for (const name of ['early', 'late']) {
      await client.query('begin');
      await client.query('set local relay.ring = off');
      await client.query("select relay.emit('acc-1', 'test.prepared', to_jsonb($1::text))", [name]);
      await client.query(`prepare transaction '${name}'`);
    }
    await emit(database, 'between');
    await reader.feed.read();
    await client.query("commit prepared 'early'");
    await reader.feed.read();
    await crash();
    await until('the server is back', () =>
      emit(database, 'after').then(
        () => true,
        () => false,
      ),
    );
    await until('the event after the crash', () => reader.events.length === 3 || wake(reader));
    await database.query("commit prepared 'late'");
    await reader.feed.read();
    expect(reader.events.map(({ payload }) => payload)).toEqual([
      '"between"',
      '"early"',
      '"after"',
      '"late"',
    ]);
  });

  test('cannot prepare a transaction that would notify', async () => {
    const client = await database.connect();
    await client.query('begin');
    await client.query("select relay.emit('acc-1', 'test.event')");
    await expect(client.query("prepare transaction 'rung'")).rejects.toThrow(/NOTIFY/);
  });

  test('notices that the database has gone back in time: a storage snapshot was restored', async () => {
    const reader = await startReader(server.url);
    const copy = await copyCluster('restored');
    for (let n = 0; n < 5; n += 1) await emit(database, `undone ${n}`);
    await until('the feed is back', () =>
      reader.feed.read().then(
        () => true,
        () => false,
      ),
    );
    const before = { epoch: reader.feed.epoch, seen: reader.feed.seen };
    const heard = reader.events.length;

    const restored = await startEmbedded({ dataDir: copy, settings });
    ends.push(() => restored.stop('immediate'));
    reader.url = restored.url;
    await database.endSessions('feed under test');
    await until('the feed knows', () => reader.lost.length > 0);
    await until('the feed reads', () => reader.feed.ready);
    expect(reader.lost).toEqual(['epoch']);
    expect(reader.feed.epoch).not.toBe(before.epoch);
    // Its numbers are lower than those it had seen, so nothing new may be measured by them.
    expect(covers(reader.feed.seen, before.seen)).toBe(false);
    const copied = openDatabase(restored.url);
    ends.push(() => copied.close());
    await emit(copied, 'new');
    await reader.feed.read();
    expect(reader.events.slice(heard).map(({ payload }) => payload)).toEqual(['"new"']);
  });

  test('does not read, and gives no position, on a standby', async () => {
    const copy = await copyCluster('standby');
    const standby = await startStandby(copy);
    const onStandby = openDatabase(standby);
    ends.push(() => onStandby.close());
    await until('the standby answers', () =>
      onStandby.query('select 1').then(
        () => true,
        () => false,
      ),
    );
    await expect(onStandby.query('select relay.position()')).rejects.toThrow(
      /relay\.position\(\) was called on a standby/,
    );
    const reader = new Reader(standby);
    await expect(reader.feed.read()).rejects.toMatchObject({ code: 'feed_not_ready' });
    expect(reader.feed.ready).toBe(false);
  });

  /** The cluster's data as they are now, in a directory of their own. The server is restarted for it. */
  async function copyCluster(name: string): Promise<string> {
    const { port, dataDir } = server;
    await server.stop('fast');
    const { uid, gid } = await stat(join(dataDir, 'cluster'));
    const copy = join(base, name);
    await cp(dataDir, copy, { recursive: true });
    execFileSync('chown', ['-R', `${uid}:${gid}`, join(copy, 'cluster')]);
    server = await startEmbedded({ dataDir, settings, port });
    return copy;
  }

  /** Postgres as a hot standby that follows nobody. */
  async function startStandby(dataDir: string): Promise<string> {
    const data = join(dataDir, 'cluster/data');
    const { uid, gid } = await stat(data);
    await writeFile(join(data, 'standby.signal'), '');
    await chown(join(data, 'standby.signal'), uid, gid);
    const user = process.getuid?.() === 0 ? { uid, gid } : undefined;
    const port = await deadPort();
    const flags = { ...settings, port, listen_addresses: '127.0.0.1', unix_socket_directories: '' };
    const child = spawn(
      join(await findBinaries(user), 'bin/postgres'),
      [
        '-D',
        user ? '/proc/self/cwd' : data,
        ...Object.entries(flags).flatMap(([key, value]) => ['-c', `${key}=${value}`]),
      ],
      { ...user, cwd: data, env: environment, stdio: 'ignore' },
    );
    ends.push(async () => {
      if (child.exitCode !== null) return;
      const gone = once(child, 'exit');
      child.kill('SIGQUIT');
      await gone;
    });
    return server.url.replace(`:${server.port}/`, `:${port}/`);
  }
});
