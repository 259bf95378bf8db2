// Pages of two accounts that list notes, with recado-client against a real relay.
import { type Client, type ClientError, type ConnectOptions, connect } from '../../client/client.ts';
import type { Relay } from '../../server/relay.ts';
import { type Database, freshDatabase, startNode, token, until } from '../world.ts';

interface Events {
  'note.added': (note: { id: number; body: string }, position: string) => void;
  'relay:ready': (payload: { accountId: string; expiresAt: string }, position: string) => void;
}

export let database: Database;
let relay: Relay;
let clients: Client<Events>[] = [];

beforeAll(async () => {
  database = await freshDatabase();
  await database.query(`
    create table public.notes (id int generated always as identity primary key, account text not null, body text not null)`);
  await database.query(`select relay.publish('note.added', 'public.notes', 'INSERT', account => 'new.account',
    payload => $$jsonb_build_object('id', new.id, 'body', new.body)$$)`);
});
beforeEach(async () => {
  await database.query('truncate public.notes');
  relay = await startNode(database.url);
  await relay.ready();
});
afterEach(async () => {
  for (const client of clients) client.close();
  clients = [];
  await relay.close();
});
afterAll(() => database.close());

/** A client that keeps a list of notes the way a page would: loaded, then changed by events. */
export function open(options: Partial<ConnectOptions> & { account?: string } = {}) {
  const shown: string[] = [];
  const errors: ClientError[] = [];
  const resyncs: string[] = [];
  const { account = 'acc-1', ...more } = options;
  const client = connect<Events>({
    url: relay.url.replace('localhost', '127.0.0.1'),
    token: () => token(account),
    onError: (error) => errors.push(error),
    onResync: (reason) => resyncs.push(reason),
    socket: { transports: ['websocket'], forceNew: true, reconnectionDelay: 20, reconnectionDelayMax: 100 },
    ...more,
  });
  clients.push(client);
  let readies = 0;
  client.on('relay:ready', () => {
    readies += 1;
  });
  client.on('note.added', ({ body }) => shown.push(body));
  const live = (times = 1) => until(`the client is live for the ${times}th time`, () => readies >= times);
  return { client, shown, errors, resyncs, live };
}

export const add = (body: string, account = 'acc-1') =>
  database.query('insert into public.notes (account, body) values ($1, $2)', [account, body]);

/** What an application's API does: the list and its position in one transaction. */
export async function load(into: string[], account = 'acc-1'): Promise<string> {
  const session = await database.connect();
  await session.query('begin isolation level repeatable read');
  const { rows } = await session.query<{ position: string }>('select relay.position() as position');
  const notes = await session.query<{ body: string }>(
    'select body from public.notes where account = $1 order by id',
    [account],
  );
  await session.query('commit');
  await session.end();
  into.splice(0, into.length, ...notes.rows.map(({ body }) => body));
  return rows[0]!.position;
}
