// The database is another one, or has gone back in time: standbys promoted one after the other, a storage snapshot put
// back beneath a running relay, events removed by hand. On servers of their own, with stock clients.
import { execFile } from 'node:child_process';
import { appendFile, chmod, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { type EmbeddedPostgres, startEmbedded } from '../../db/embedded.ts';
import { migrate } from '../../install/migrate.ts';
import { createLog } from '../../log.ts';
import { formatPosition, parsePosition, witnessOf } from '../../outbox/position.ts';
import { ends } from '../ends.ts';
import {
  Client,
  type Database,
  deadPort,
  freshDatabase,
  openDatabase,
  startNode,
  token,
  until,
} from '../world.ts';

const silent = createLog('silent', false);
const settings = { fsync: 'off', max_connections: '50', wal_level: 'replica', max_wal_senders: '4' };

async function folder(): Promise<string> {
  const base = await mkdtemp(join(tmpdir(), 'recado-history-test-'));
  await chmod(base, 0o755);
  ends.push(() => rm(base, { recursive: true, force: true }));
  return base;
}

const copy = (from: string, to: string) => promisify(execFile)('cp', ['-a', from, to]);

/** One at a time of several servers, all on one port, so that a relay finds each where the last one was. */
class Place {
  server: EmbeddedPostgres;
  readonly database: Database;

  private constructor(server: EmbeddedPostgres) {
    this.server = server;
    this.database = openDatabase(server.url);
  }

  static async open(dataDir: string): Promise<Place> {
    const place = new Place(await startEmbedded({ dataDir, settings, port: await deadPort() }));
    ends.push(async () => {
      await place.database.close();
      await place.server.stop('immediate');
    });
    await migrate({ databaseUrl: place.server.url, log: silent });
    await place.database.query(`select relay.publish('item')`);
    return place;
  }

  async replace(dataDir: string): Promise<void> {
    const { port } = this.server;
    await this.server.stop('immediate');
    this.server = await startEmbedded({ dataDir, settings, port });
  }

  async emit(...payloads: unknown[]): Promise<void> {
    for (const payload of payloads)
      await until('the server takes an event', () =>
        this.database.query(`select relay.emit('acme', 'item', $1)`, [JSON.stringify(payload)]).then(
          () => true,
          () => false,
        ),
      );
  }
}

async function connect(place: Place): Promise<Client> {
  const relay = await startNode(place.server.url);
  ends.push(() => relay.close());
  await relay.ready();
  const client = new Client(relay, { token: await token('acme') });
  ends.push(() => client.close());
  await client.live();
  return client;
}

test('a storage snapshot restored beneath a relay: clients refetch, even if the application is faster', async () => {
  const base = await folder();
  const place = await Place.open(join(base, 'live'));
  await place.emit('old');
  await place.server.stop('fast');
  await copy(join(base, 'live'), join(base, 'snapshot'));
  await place.replace(join(base, 'live'));
  const client = await connect(place);
  await place.emit(1, 2, 3);
  await client.hears(3);
  await place.replace(join(base, 'snapshot'));
  // More transactions than were undone: their ids have been seen.
  await place.emit(...Array.from({ length: 10 }, (_, n) => `new ${n}`));
  for (let n = 0; n < 60; n += 1) await place.database.query('select pg_current_xact_id()');
  await until('relay:resync', () => client.of('relay:resync').length);
  expect(client.of('relay:resync')).toEqual([{ reason: 'epoch' }]);
  await place.emit('live');
  await until('what follows', () => client.payloads.includes('live'));
});

test('two unrelated copies promoted one after the other: clients refetch for each', async () => {
  const base = await folder();
  const place = await Place.open(join(base, 'p'));
  await place.emit('old');
  await place.server.stop('fast');
  // The end of archive recovery is what promotes a standby, and what ends a point-in-time restore.
  for (const name of ['a', 'b']) {
    await copy(join(base, 'p'), join(base, name));
    const data = join(base, name, 'cluster/data');
    await writeFile(join(data, 'recovery.signal'), '');
    await appendFile(join(data, 'postgresql.auto.conf'), `restore_command = 'false'\n`);
  }
  await place.replace(join(base, 'p'));
  const client = await connect(place);
  await place.emit('before');
  await client.hears(1);

  const seen: { epoch: string; fingerprint: string }[] = [];
  for (const [round, name] of ['a', 'b'].entries()) {
    await place.replace(join(base, name));
    await place.emit(`${name} 1`, `${name} 2`);
    await until('relay:resync', () => client.of('relay:resync').length > round);
    await place.emit(`${name} 3`);
    await until('live', () => client.payloads.includes(`${name} 3`));
    const [row] = await place.database.query<{ epoch: string; fingerprint: string }>(
      'select relay.epoch() as epoch, relay.fingerprint() as fingerprint',
    );
    seen.push(row!);
  }
  // The premise: nothing that can be computed tells one from the other.
  expect(seen[0]!.fingerprint).toBe(seen[1]!.fingerprint);
  expect(seen[0]!.epoch).not.toBe(seen[1]!.epoch);
  expect(client.of('relay:resync')).toEqual([{ reason: 'epoch' }, { reason: 'epoch' }]);
});

describe('on one database', () => {
  let database: Database;
  beforeAll(async () => {
    database = await freshDatabase();
    await database.query(`select relay.publish('item')`);
  });
  afterAll(() => database.close());

  const emit = (payload: unknown) =>
    database.query(`select relay.emit('acme', 'item', $1)`, [JSON.stringify(payload)]);

  async function open(): Promise<{ client: Client; relay: Awaited<ReturnType<typeof startNode>> }> {
    const relay = await startNode(database.url);
    ends.push(() => relay.close());
    await relay.ready();
    const client = new Client(relay, { token: await token('acme') });
    ends.push(() => client.close());
    await client.live();
    return { client, relay };
  }

  test.each(['delete from relay.events', 'truncate relay.events', 'truncate relay.events_0, relay.events_1'])(
    '%s by hand makes everybody refetch',
    async (statement) => {
      await emit('before');
      const { client } = await open();
      await database.query(statement);
      await until('relay:resync', () => client.of('relay:resync').length);
      expect(client.of('relay:resync')).toEqual([{ reason: 'epoch' }]);
      await emit('after');
      await until('what follows', () => client.payloads.includes('after'));
      expect(await database.query('select problem from relay.check()')).toEqual([]);
    },
  );

  test('a delete that removes nothing is no removal', async () => {
    const { client } = await open();
    await database.query('delete from relay.events where false');
    await emit('after');
    await client.hears(1);
    expect(client.of('relay:resync')).toEqual([]);
  });

  test('a position that claims another history makes its client refetch, and nobody else', async () => {
    await emit(1);
    const { client, relay } = await open();
    await emit(2);
    await client.hears(1);
    const position = parsePosition(String(client.heard.at(-1)!.position))!;
    const { witness } = position.seen;
    const forged = formatPosition({
      ...position,
      seen: { ...position.seen, witness: (witness! + 1) % 2 ** 24 },
    });
    const liar = new Client(relay, { token: await token('acme'), position: forged });
    ends.push(() => liar.close());
    await until('relay:resync', () => liar.of('relay:resync').length);
    const honest = new Client(relay, { token: await token('acme'), position: formatPosition(position) });
    ends.push(() => honest.close());
    await honest.live();
    await emit(3);
    await honest.hears(1);
    expect(honest.of('relay:resync')).toEqual([]);
    expect(client.of('relay:resync')).toEqual([]);
  });

  test('the witness is the same in SQL', async () => {
    const rows = await database.query<{ ms: number; witness: string }>(
      `select date_part('epoch', t) * 1000 as ms, relay.witness(t) as witness
         from generate_series(1, 2000) as n, lateral (select now() + n * interval '1.234567 seconds') as times(t)`,
    );
    for (const { ms, witness } of rows) {
      expect(witnessOf({ capturedAt: ms })).toBe(Number.parseInt(witness, 16));
    }
  });

  test('two relays that find another database at once agree on its epoch', async () => {
    await database.query(`update relay.installation set fingerprint = 'another'`);
    const found = await Promise.all(
      Array.from({ length: 8 }, () => database.query<{ e: string }>('select relay.settle_epoch() as e')),
    );
    expect(new Set(found.map(([row]) => row!.e)).size).toBe(1);
    const [{ e }] = found[0] as [{ e: string }];
    const renewed = await Promise.all(
      Array.from({ length: 8 }, () => database.query<{ e: string }>('select relay.new_epoch($1) as e', [e])),
    );
    const epochs = new Set(renewed.map(([row]) => row!.e));
    expect(epochs.size).toBe(1);
    expect(epochs.has(e)).toBe(false);
  });

  test('a new epoch says how much it removes, and when it is done', async () => {
    await database.query(`select relay.emit('acc-1', 'item', to_jsonb(n)) from generate_series(1, 3) as n`);
    const session = await database.connect();
    const said: string[] = [];
    session.on('notice', ({ message }) => said.push(message ?? ''));
    await session.query('select relay.new_epoch()');
    expect(said).toEqual([
      expect.stringMatching(
        /^relay\.new_epoch\(\): removing the events of epoch \w+, \d+ kB with their indexes$/,
      ),
      expect.stringMatching(/^relay\.new_epoch\(\): \d+ events are removed, all clients refetch$/),
    ]);
  });

  test('relay.position() of a database that nobody has settled raises', async () => {
    await database.query(`update relay.installation set fingerprint = 'another'`);
    await expect(database.query('select relay.position()')).rejects.toThrow(/no relay has connected/);
    await database.query('select relay.settle_epoch()');
    await database.query('select relay.position()');
  });

  test('relay.rotate() is refused in a transaction that is REPEATABLE READ', async () => {
    const session = await database.connect();
    await session.query('begin isolation level repeatable read');
    await expect(session.query('select * from relay.rotate(pg_current_snapshot())')).rejects.toThrow(
      /expected read committed/,
    );
    await session.query('rollback');
  });
});
