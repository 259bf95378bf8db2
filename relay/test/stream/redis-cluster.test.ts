// A cluster of two Redis nodes, of which STREAM_URL names the one that does not have the key.
import { createLog } from '../../log.ts';
import { type Entry, encodeEntry } from '../../stream/entry.ts';
import { RedisReader } from '../../stream/redis-reader.ts';
import { RedisWriter } from '../../stream/redis-writer.ts';
import { type Redis, redisIsMissing, startRedis } from '../redis.ts';
import { deadPort, until } from '../world.ts';

const suite = redisIsMissing ? describe.skip : describe;
const quiet = createLog('silent', false);

suite('a Redis cluster', () => {
  const nodes: Redis[] = [];
  const open: { close(): unknown }[] = [];
  let other: Redis;

  beforeAll(async () => {
    for (let n = 0; n < 2; n += 1) {
      const bus = ['--cluster-port', String(await deadPort())];
      nodes.push(await startRedis(['--cluster-enabled', 'yes', ...bus]));
    }
    const [first, second] = nodes as [Redis, Redis];
    await first.command('CLUSTER', 'ADDSLOTSRANGE', '0', '8191');
    await second.command('CLUSTER', 'ADDSLOTSRANGE', '8192', '16383');
    const [, port, bus] = /:(\d+)@(\d+)/.exec(String(await second.command('CLUSTER', 'NODES')))!;
    await first.command('CLUSTER', 'MEET', '127.0.0.1', port!, bus!);
    await until(
      'the nodes know each other',
      async () => {
        const states = await Promise.all(nodes.map((node) => node.command('CLUSTER', 'INFO')));
        return states.every((state) => String(state).includes('cluster_state:ok'));
      },
      30_000,
    );
    const slot = Number(await first.command('CLUSTER', 'KEYSLOT', 'recado:{here}'));
    other = slot < 8_192 ? second : first;
  }, 60_000);
  afterEach(async () => {
    for (const part of open.splice(0)) await part.close();
  });
  afterAll(async () => {
    for (const node of nodes) await node.close();
  });

  // A cluster behind a proxy or in containers may not know its own addresses: MOVED then names a port only.
  test.each(['ip', 'unknown-endpoint'])(
    'is followed to the node that has the key, where its nodes name each other by %s',
    async (named) => {
      await other.command('CONFIG', 'SET', 'cluster-preferred-endpoint-type', named);
      const address = { url: other.url, installation: 'here' };
      const seen: number[] = [];
      let asked = false;
      const writer = new RedisWriter({
        address,
        limits: { seconds: 60, bytes: 2 ** 20 },
        onAsk: () => {
          asked = true;
        },
        onEntry: ({ number }) => seen.push(number),
        log: quiet,
      });
      const reader = new RedisReader(address, quiet);
      open.push(writer, reader);
      const numbers: number[] = [];
      await until('the place is found', () =>
        reader
          .seek(() => true)
          .then(
            () => true,
            () => false,
          ),
      );
      for (let number = 1; number <= 3; number += 1) {
        await until('it is appended', () =>
          writer.append([encodeEntry(entry(number))]).then(
            () => true,
            () => false,
          ),
        );
      }
      await until('all are read', async () => {
        numbers.push(...(await reader.next()).map(({ number }) => number));
        return numbers.length >= 3;
      });
      expect(numbers).toEqual([1, 2, 3]);
      await until('the hub hears an edge', () => {
        reader.ask();
        return asked;
      });
      await until('the hub sees what is appended', async () => {
        if (!seen.includes(4)) await writer.append([encodeEntry(entry(4))]);
        return seen.includes(4);
      });
    },
  );
});

function entry(number: number): Entry {
  const snapshot = (xmax: number) => ({ xmax: BigInt(xmax), xip: [] });
  return {
    ...{ epoch: '0123456789ab', server: '1', hub: 'h', number, elsewhere: [], events: [] },
    ...{ seen: snapshot(number), bound: snapshot(number + 1) },
  };
}
