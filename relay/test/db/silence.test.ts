// A connection that falls silent, as when a router forgot it: packets are swallowed, and neither side is told.
import { readSettings } from '../../config/settings.ts';
import { openReader } from '../../db/connect.ts';
import { Silence } from '../../db/silence.ts';
import { startRelay } from '../../server/relay.ts';
import { ends } from '../ends.ts';
import { Link } from '../faults/links.ts';
import { hearing } from '../hearing.ts';
import { Client, type Database, freshDatabase, SECRET, through, token, until } from '../world.ts';

/** Longer than any test: nobody learns of it. */
const FOR_EVER_MS = 600_000;

let database: Database;
let link: Link;

beforeAll(async () => {
  database = await freshDatabase();
  await database.query(`select relay.publish('item')`);
});
beforeEach(async () => {
  link = await Link.to(Number(new URL(database.url).port));
  ends.push(() => link.close());
});
afterAll(() => database.close());

async function open(silence: Silence) {
  const session = await openReader({ url: through(link, database.url), name: 'silent', silence });
  ends.push(() => session.end().catch(() => undefined));
  return session;
}

/** On a slow machine, the connection may already be silent for too long while it is made. */
function opened(leastMs: number) {
  return until('it connects', () => open(new Silence(leastMs)).catch(() => null));
}

test('a query on it fails, and says why', async () => {
  const session = await opened(2_000);
  link.forget(false, FOR_EVER_MS);
  await expect(session.query('select 1')).rejects.toThrow('the database said nothing for 2.5 seconds');
});

test('each new connection that is silent as well is given twice as long, for some time', async () => {
  link.freeze();
  const silence = new Silence(100);
  const failure = () => open(silence).catch(({ message }: Error) => message);
  for (const seconds of [0.6, 0.7, 0.9]) {
    expect(await failure()).toBe(`the database said nothing for ${seconds} seconds`);
  }
  const impatient = new Silence(100, 0);
  for (const patience of [silence, impatient]) {
    const fails = () => open(patience).catch(({ message }: Error) => message);
    await fails();
    patience.end();
    const seconds = patience === impatient ? 0.6 : 2.1;
    expect(await fails()).toBe(`the database said nothing for ${seconds} seconds`);
  }
});

test('a process that stood still reads what came meanwhile', async () => {
  const session = await opened(1_000);
  const answer = session.query<{ one: number }>('select 1 as one');
  await new Promise((resolve) => setImmediate(resolve));
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 1_500);
  expect((await answer).rows).toEqual([{ one: 1 }]);
});

test('a relay goes on over another connection, long before its query would time out', async () => {
  const failures: string[] = [];
  const log = hearing((name, fields) => {
    if (name === 'feed_failed') failures.push(fields);
  });
  const url = through(link, database.url);
  const settings = readSettings({ JWT_SECRET: SECRET, HOST: '127.0.0.1', PORT: '0', DATABASE_URL: url });
  const relay = await startRelay({ databaseUrl: url, jwt: settings.jwt, settings, log });
  ends.push(() => relay.close());
  await relay.ready();
  const client = await new Client(relay, { token: await token() }).live();
  ends.push(() => client.close());
  link.forget(false, FOR_EVER_MS);
  await database.query(`select relay.emit('acc-1', 'item', '1')`);
  await client.hears(1);
  await until('it says why', () => failures.length > 0);
  expect(failures[0]).toContain('the database said nothing for 4 seconds');
});
