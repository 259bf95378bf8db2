// Entries from a real Redis, whatever becomes of the stream beneath the reader.
import { createLog, type Log } from '../../log.ts';
import { type Entry, encodeEntry } from '../../stream/entry.ts';
import { RedisReader } from '../../stream/redis-reader.ts';
import { type Redis, redisIsMissing, startRedis } from '../redis.ts';
import { until } from '../world.ts';

const suite = redisIsMissing ? describe.skip : describe;
const KEY = 'recado:{here}';
const quiet = createLog('silent', false);

function entry(number: number): Entry {
  const snapshot = (xmax: number) => ({ xmax: BigInt(xmax), xip: [] });
  return {
    ...{ epoch: '0123456789ab', server: '1', hub: 'h', number, elsewhere: [], events: [] },
    ...{ seen: snapshot(number), bound: snapshot(number + 1) },
  };
}

suite('entries in Redis', () => {
  let redis: Redis;
  let reader: RedisReader;
  const PASSWORD = 'p@ss:/#?wörd';

  beforeAll(async () => {
    redis = await startRedis([], PASSWORD);
  });
  beforeEach(async () => {
    await redis.command('FLUSHALL');
    reader = new RedisReader({ url: redis.url, installation: 'here' }, quiet);
    await until('it is connected', () =>
      reader
        .seek(() => true)
        .then(
          () => true,
          () => false,
        ),
    );
  });
  afterEach(() => reader.close());
  afterAll(() => redis.close());

  const add = (number: number, id = '*') =>
    redis.command('XADD', KEY, id, 'entry', encodeEntry(entry(number)));

  /** Their numbers, when so many have come. */
  async function take(count: number): Promise<number[]> {
    const numbers: number[] = [];
    await until(`${count} entries`, async () => {
      numbers.push(...(await reader.next()).map(({ number }) => number));
      return numbers.length >= count;
    });
    return numbers;
  }

  test('come in their order, each once', async () => {
    for (let number = 1; number <= 50; number += 1) await add(number);
    expect(await take(50)).toEqual(Array.from({ length: 50 }, (_, n) => n + 1));
  });

  test('a place is found from the end backwards', async () => {
    for (let number = 1; number <= 50; number += 1) await add(number);
    await reader.seek(({ number }) => number <= 47);
    expect(await take(3)).toEqual([48, 49, 50]);
    await reader.seek(({ number }) => number > 50);
    await add(51);
    expect(await take(1)).toEqual([51]);
  });

  test('a stream that was emptied is read from its start', async () => {
    await add(1);
    expect(await take(1)).toEqual([1]);
    await redis.command('FLUSHALL');
    await add(2, '5-1');
    expect(await take(1)).toEqual([2]);
  });

  test('a copy that is behind, with a slower clock, is read again', async () => {
    await add(1, '9000-1');
    await add(2, '9000-2');
    await add(3, '9000-3');
    expect(await take(3)).toEqual([1, 2, 3]);
    await redis.command('DEL', KEY);
    await add(1, '8000-1');
    await add(4, '8000-2');
    expect(await take(2)).toEqual([1, 4]);
  });

  test('what cannot be read is passed over, and said once', async () => {
    const said: unknown[] = [];
    const log: Log = { say: (...observation) => void said.push(observation), with: () => log };
    const other = new RedisReader({ url: redis.url, installation: 'here' }, log);
    await until('it is connected', () =>
      other
        .seek(() => true)
        .then(
          () => true,
          () => false,
        ),
    );
    await redis.command('XADD', KEY, '*', 'entry', 'rubbish');
    await redis.command('XADD', KEY, '*', 'something', 'else');
    await add(7);
    const numbers: number[] = [];
    await until('the last one', async () => {
      numbers.push(...(await other.next()).map(({ number }) => number));
      return numbers.length > 0;
    });
    expect(numbers).toEqual([7]);
    expect(said).toEqual([
      ['stream_entry_unreadable', { error: expect.stringContaining('expected one as a hub') }],
    ]);
    await other.close();
  });

  test('a wrong password is said without it', async () => {
    const said: string[] = [];
    const log: Log = {
      say: (...observation) => void said.push(JSON.stringify(observation)),
      with: () => log,
    };
    const url = redis.url.replace(encodeURIComponent(PASSWORD), 'wrong-secret');
    // A new one each time: one that could not connect in time has said that, and says nothing more.
    await until('it is said', async () => {
      const other = new RedisReader({ url, installation: 'here' }, log);
      const error: unknown = await other.next().catch((reason) => reason);
      await other.close();
      expect(error).toMatchObject({ code: 'stream_unreachable' });
      return String(error).includes('WRONGPASS') && said.join().includes('WRONGPASS');
    });
    expect(said.join()).not.toContain('wrong-secret');
  });
});
