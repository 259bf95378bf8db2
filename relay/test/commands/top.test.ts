// recado top: pictures of a node that runs.
import { top } from '../../commands/top.ts';
import type { Relay } from '../../server/relay.ts';
import { ends } from '../ends.ts';
import {
  Client,
  type Database,
  deadPort,
  freshDatabase,
  listens,
  OPERATOR_TOKEN,
  startNode,
  token,
  until,
} from '../world.ts';

let database: Database;
let relay: Relay;

beforeAll(async () => {
  database = await freshDatabase();
  await database.query(`select relay.publish('item')`);
  relay = await startNode(database.url);
  await relay.ready();
  await listens(relay);
});
afterAll(async () => {
  await relay.close();
  await database.close();
});

async function watch(
  operatorToken: string | null = OPERATOR_TOKEN,
  { port }: Pick<Relay, 'port'> = relay,
): Promise<string[]> {
  const pictures: string[] = [];
  const options = { relay: `http://127.0.0.1:${port}`, operatorToken, everyMs: 50 };
  const running = await top({ ...options, show: (picture) => pictures.push(picture) });
  ends.push(() => running.close());
  return pictures;
}

test('rate, latency, gate, backlog, sockets, nodes and the slowest accounts are shown', async () => {
  const client = await new Client(relay, { token: await token() }).live();
  ends.push(() => client.close());
  const pictures = await watch();
  const emit = (count: number) =>
    database.query(`select relay.emit('acc-1', 'item', to_jsonb(n)) from generate_series(1, $1) as n`, [
      count,
    ]);
  await emit(10);
  await client.hears(10);
  const shows = (what: RegExp) =>
    until(`${what} is shown`, () => pictures.some((picture) => what.test(picture)));
  await shows(/^sockets +1; since the start 0 refused/m);
  await shows(/gate open, backlog 0, oldest transaction [\d.]+ s, notification queue 0\.0 %/);
  await shows(/^ \d+ +\| [\w.:]+ +\| [\d.]+ s$/m);
  await shows(/^ orders\.account\.acc-1 +\| 10 +\| \d+ ms +\| \d+ ms$/m);
  // What is new since the picture before stands in one picture only.
  const showsNew = (what: RegExp) =>
    until(`${what} is shown`, async () => {
      await emit(1);
      return pictures.some((picture) => what.test(picture));
    });
  await showsNew(/ready\nevents +[\d.]+ read\/s, [1-9][\d.]* emitted\/s, [1-9][\d.]* deliveries\/s$/m);
  await showsNew(/capture to emit: p50 (up to [\d.]+ ms|over 10 s),/);
});

test('what is off with the contract stands in the picture', async () => {
  await database.query('create table public.things (id int, account text)');
  await database.query(
    `select relay.publish('thing', 'public.things', 'INSERT', account => 'new.account', payload => 'to_jsonb(new.id)')`,
  );
  await database.query('alter table public.things disable trigger all');
  const pictures = await watch();
  const isOff = () => pictures.some((picture) => /^OFF +trigger_disabled/m.test(picture));
  await until('the trigger is named', isOff);
});

test('a client that does not read is named', async () => {
  const small = await startNode(database.url, { CLIENT_BUFFER_BYTES: '5MiB' });
  ends.push(() => small.close());
  const auth = { token: await token() };
  const slow = await new Client(small, auth, { reconnection: false }).live();
  ends.push(() => slow.close());
  const quick = await new Client(small, auth).live();
  ends.push(() => quick.close());
  slow.network.pause();
  const pictures = await watch(OPERATOR_TOKEN, small);
  let n = 0;
  await until('it is named', async () => {
    n += 1;
    await database.query(`select relay.emit('acc-1', 'item', to_jsonb(repeat('x', 400000)))`);
    // A relay that is behind would make its clients read the table at their own pace.
    await quick.hears(n);
    return pictures.some((picture) => /^ acc-1 +\| 127\.0\.0\.1 +\| 1 +\| \d{7,}$/m.test(picture));
  });
});

test('a wrong token and a wrong address are sentences', async () => {
  await expect(watch('another')).rejects.toMatchObject({ code: 'operators_only' });
  const nowhere = { relay: `http://127.0.0.1:${await deadPort()}`, operatorToken: null, everyMs: 50 };
  await expect(top({ ...nowhere, show: () => undefined })).rejects.toMatchObject({
    code: 'relay_unreachable',
    message: expect.stringContaining('--relay'),
  });
});
