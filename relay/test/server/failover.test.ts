// Redis fails over to a replica that misses the last second: what the hub appended then is gone, and comes from the
// database.
import { readSettings } from '../../config/settings.ts';
import { createLog } from '../../log.ts';
import { type RunningHub, startHub } from '../../server/hub.ts';
import type { Relay } from '../../server/relay.ts';
import { Link } from '../faults/links.ts';
import { type Redis, redisIsMissing, startRedis } from '../redis.ts';
import { Client, type Database, freshDatabase, metric, startNode, token, until } from '../world.ts';

const suite = redisIsMissing ? describe.skip : describe;
const portOf = ({ url }: { url: string }) => Number(new URL(url).port);

suite('with a primary of Redis and its replica', () => {
  const closers: (() => Promise<unknown>)[] = [];
  let database: Database;
  let primary: Redis;
  let replica: Redis;
  /** Where the hub and the edge find Redis, and where the replica finds its primary. */
  let address: Link;
  let replication: Link;
  let hub: RunningHub;
  let edge: Relay;
  let client: Client;
  let told = 0;

  function closed<T extends { close(): unknown }>(part: T): T {
    closers.push(async () => part.close());
    return part;
  }
  beforeAll(async () => {
    database = closed(await freshDatabase());
    await database.query(`select relay.publish('item')`);
    primary = closed(await startRedis());
    replica = closed(await startRedis());
    address = closed(await Link.to(portOf(primary)));
    replication = closed(await Link.to(portOf(primary)));
    await replica.command('REPLICAOF', '127.0.0.1', String(replication.port));
    const url = `redis://127.0.0.1:${address.port}`;
    const settings = readSettings({ HOST: '127.0.0.1', PORT: '0' }, 'hub');
    const log = createLog('silent', false);
    hub = closed(await startHub({ databaseUrl: database.url, streamUrl: url, settings, log }));
    edge = closed(await startNode(database.url, { STREAM_URL: url }));
    await Promise.all([hub.ready(), edge.ready()]);
    client = closed(await new Client(edge, { token: await token() }).live());
  }, 60_000);
  afterAll(async () => {
    for (const close of closers.splice(0).reverse()) await close();
  }, 30_000);

  async function tell(): Promise<void> {
    await database.query(`select relay.emit('acc-1', 'item', to_jsonb($1::int))`, [told]);
    told += 1;
  }
  const lengthOf = async (redis: Redis) => {
    const [key] = (await redis.command('KEYS', 'recado:*')) as string[];
    return key === undefined ? 0 : Number(await redis.command('XLEN', key));
  };

  test('clients miss nothing and hear nothing twice', async () => {
    await until('the hub appends', async () => (await lengthOf(primary)) > 0);
    await tell();
    await client.hears(1);
    await until('the replica follows', async () => (await lengthOf(replica)) > 0);
    replication.freeze();
    const held = await lengthOf(replica);
    for (let n = 0; n < 10; n += 1) await tell();
    await client.hears(11);
    expect(await lengthOf(primary)).toBeGreaterThan(held);
    // These nobody hears over the stream.
    primary.signal('SIGSTOP');
    for (let n = 0; n < 5; n += 1) await tell();
    address.point(portOf(replica));
    address.cut();
    primary.signal('SIGKILL');
    await replica.command('REPLICAOF', 'NO', 'ONE');
    for (let n = 0; n < 5; n += 1) await tell();
    await client.hears(21);
    await until('the hub appends to the replica', async () => (await lengthOf(replica)) > held + 1);
    await tell();
    expect(await client.hears(22)).toEqual(Array.from({ length: 22 }, (_, n) => n));
    expect(await metric(edge, 'resyncs')).toBe(0);
  }, 60_000);
});
