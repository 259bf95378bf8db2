// recado-client against a real relay.
import {
  type Client,
  type ClientError,
  type ConnectOptions,
  connect,
  type LiveList,
  upsert,
} from '../../client/client.ts';
import type { Relay } from '../../server/relay.ts';
import { type Database, freshDatabase, startNode, token, until } from '../world.ts';

interface Events {
  'note.added': (note: { id: number; body: string }, position: string) => void;
  'relay:ready': (payload: { accountId: string; expiresAt: string }, position: string) => void;
}

let database: Database;
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
function open(options: Partial<ConnectOptions> & { account?: string } = {}) {
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

const add = (body: string, account = 'acc-1') =>
  database.query('insert into public.notes (account, body) values ($1, $2)', [account, body]);

/** What an application's API does: the list and its position in one transaction. */
async function load(into: string[], account = 'acc-1'): Promise<string> {
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

test('without anything: live from now on, of its own account only', async () => {
  const { shown, client, live } = open();
  await live();
  await add('of somebody else', 'acc-2');
  await add('mine');
  await until('the note is shown', () => shown.length > 0);
  expect(shown).toEqual(['mine']);
  expect(client.position).toMatch(/^[0-9a-f]{12}-/);
});

test('load, then subscribe: what is written between the two arrives, nothing twice', async () => {
  await add('loaded');
  const page: string[] = [];
  let loads = 0;
  const { client, live } = open({
    async getState() {
      loads += 1;
      const position = await load(page);
      // After the list was selected, before there is a connection.
      await add('between');
      return position;
    },
  });
  client.on('note.added', ({ body }) => page.push(body));
  await live();
  await add('live');
  await until('three notes are shown', () => page.length >= 3);
  expect(page).toEqual(['loaded', 'between', 'live']);
  // Cut off, it resumes; it does not load again.
  client.socket.io.engine.close();
  await add('missed');
  await until('four notes are shown', () => page.length >= 4);
  await live(2);
  expect(page).toEqual(['loaded', 'between', 'live', 'missed']);
  expect(loads).toBe(1);
});

test('relay:resync: the state is loaded again, and events go on from there', async () => {
  const page: string[] = [];
  const { client, resyncs, live } = open({ getState: () => load(page) });
  client.on('note.added', ({ body }) => page.push(body));
  await live();
  await add('first');
  await until('it is shown', () => page.length > 0);
  await database.query('select relay.new_epoch()');
  await database.query(`select pg_terminate_backend(pid) from pg_stat_activity
    where datname = current_database() and application_name = 'recado feed'`);
  await until('the client was told', () => resyncs.length > 0);
  await live(2);
  await add('second');
  await until('the second note is shown', () => page.includes('second'));
  expect(page).toEqual(['first', 'second']);
  expect(resyncs).toEqual(['epoch']);
});

test('a state that cannot be loaded is tried again', async () => {
  const page: string[] = [];
  let loads = 0;
  const { errors, live } = open({
    getState() {
      loads += 1;
      return loads < 2 ? Promise.reject(new Error('API is down')) : load(page);
    },
  });
  await live();
  expect(errors).toMatchObject([{ code: 'state_unavailable', message: 'API is down' }]);
});

describe('tokens', () => {
  test('are renewed before they expire, on the same connection', async () => {
    let asked = 0;
    const { client, live, shown } = open({
      token: () => {
        asked += 1;
        return token('acc-1', { expiresIn: 2 });
      },
    });
    const disconnects: string[] = [];
    client.socket.on('disconnect', (reason) => disconnects.push(reason));
    await live();
    await until('three tokens were asked for', () => asked >= 3);
    await add('still here');
    await until('it is shown', () => shown.length > 0);
    expect(disconnects).toEqual([]);
  });

  test('refused for good are reported; an expired one is asked for again', async () => {
    let asked = 0;
    const { errors, live } = open({
      token: () => {
        asked += 1;
        return token('acc-1', { expiresIn: asked === 1 ? -3600 : 3600 });
      },
    });
    await live();
    expect(errors).toEqual([{ code: 'token_expired', message: expect.stringContaining('expired') }]);
    const forged = open({ token: () => 'nonsense' });
    await until('it is refused', () => forged.errors.length > 0);
    expect(forged.errors[0]!.code).toBe('token_malformed');
  });

  test('that cannot be had for a while', async () => {
    let asked = 0;
    const { errors, live } = open({
      token: () => {
        asked += 1;
        if (asked === 1) throw new Error('not signed in yet');
        return token();
      },
    });
    await live();
    expect(errors).toMatchObject([{ code: 'token_unavailable', message: 'not signed in yet' }]);
  });
});

test('a handler is taken off', async () => {
  const { client, shown, live } = open();
  const once: string[] = [];
  const off = client.on('note.added', ({ body }) => {
    once.push(body);
    off();
  });
  await live();
  await add('a');
  await add('b');
  await until('both are shown', () => shown.length >= 2);
  expect(once).toEqual(['a']);
});

describe('a live list', () => {
  interface Note {
    id: number;
    body: string;
  }

  async function select(): Promise<{ rows: Note[]; position: string }> {
    const session = await database.connect();
    await session.query('begin isolation level repeatable read');
    const { rows } = await session.query<Note>(
      "select id, body from public.notes where account = 'acc-1' order by id",
    );
    const { rows: positions } = await session.query<{ position: string }>(
      'select relay.position() as position',
    );
    await session.query('commit');
    await session.end();
    return { rows, position: positions[0]!.position };
  }

  const bodies = (list: LiveList<Note>) => list.get().rows.map(({ body }) => body);

  test('is loaded, follows its events, and is loaded again after a resync', async () => {
    await add('loaded');
    let loads = 0;
    const { client, resyncs, live } = open();
    const list = client.liveList<Note>({
      async load() {
        loads += 1;
        const loaded = await select();
        await add(`during load ${loads}`);
        return loaded;
      },
      key: 'id',
      on: { 'note.added': upsert },
    });
    expect(list.get()).toEqual({ rows: [], status: 'loading', error: null });
    await until('both notes are there', () => list.get().rows.length === 2);
    expect(bodies(list)).toEqual(['loaded', 'during load 1']);
    client.socket.io.engine.close();
    await add('missed');
    await live(2);
    await until('what was missed is there', () => list.get().rows.length === 3);
    expect(loads).toBe(1);
    await database.query('select relay.new_epoch()');
    await database.query(`select pg_terminate_backend(pid) from pg_stat_activity
      where datname = current_database() and application_name = 'recado feed'`);
    await until('the client was told', () => resyncs.length > 0);
    await until('it is loaded again', () => list.get().status === 'live' && list.get().rows.length === 4);
    expect(bodies(list)).toEqual(['loaded', 'during load 1', 'missed', 'during load 2']);
  });

  test('leaves out the events that the loaded rows contain', async () => {
    // The list's load starts only when the connection has a position; its rows are selected after more was written.
    const reduced: string[] = [];
    const { client, shown } = open();
    const list = client.liveList<Note>({
      async load() {
        await add('contained');
        const loaded = await select();
        await until('the event arrives while the rows are still on their way', () => shown.length > 0);
        return loaded;
      },
      key: 'id',
      on: {
        'note.added': (rows, note) => {
          reduced.push(note.body);
          upsert(rows, note);
        },
      },
    });
    await until('it is loaded', () => list.get().status === 'live');
    await add('new');
    await until('the new note is there', () => list.get().rows.length === 2);
    expect(reduced).toEqual(['new']);
  });
});

test('a handler that throws is reported, and keeps nobody else from the event', async () => {
  const { client, errors, live } = open();
  const later: string[] = [];
  client.on('note.added', ({ body }) => {
    if (body === 'bad') throw new Error('bug');
  });
  client.on('note.added', ({ body }) => later.push(body));
  await live();
  await add('bad');
  await add('good');
  await until('both arrived', () => later.length === 2);
  expect(errors).toMatchObject([{ code: 'handler_failed', message: 'bug' }]);
});

test('a handler that is no function is reported', async () => {
  const { client, errors, live } = open();
  // A page without types may do this.
  Reflect.apply(client.on, client, ['note.added', undefined]);
  await live();
  await add('new');
  await until('it is reported', () => errors.length > 0);
  const message = 'The handler of note.added is undefined, expected a function.';
  expect(errors).toMatchObject([{ code: 'handler_failed', message }]);
});

test('the status follows the connection', async () => {
  const { client, live } = open();
  const statuses: string[] = [client.status.get()];
  client.status.subscribe(() => statuses.push(client.status.get()));
  await live();
  client.socket.io.engine.close();
  await live(2);
  client.close();
  expect(statuses).toEqual(['connecting', 'live', 'reconnecting', 'live', 'closed']);
});

test('a token that arrives after its connection was lost is not sent on the next one', async () => {
  const answers: ((token: string) => void)[] = [];
  const { client, live, errors } = open({ token: () => new Promise((resolve) => answers.push(resolve)) });
  await until('a token is asked for', () => answers.length === 1);
  client.socket.io.engine.close();
  await until('another one is asked for', () => answers.length === 2);
  answers[0]!('late');
  answers[1]!(await token());
  await live();
  expect(errors).toEqual([]);
});

test('a choice of events narrows what arrives', async () => {
  const { shown, live, client } = open({ events: ['note.removed'] });
  const all = open();
  await Promise.all([live(), all.live()]);
  await add('not chosen');
  await until('the other client hears it', () => all.shown.length);
  const ended = client.position;
  client.socket.io.engine.close();
  await live(2);
  expect([shown, client.position === ended]).toEqual([[], false]);
});

test('topics that changed while it was away: everything is loaded again, once', async () => {
  let topics = ['a'];
  let loads = 0;
  const { client, resyncs } = open({
    token: () => token('acc-1', { topics }),
    getState: async () => {
      loads += 1;
      return load([]);
    },
  });
  await until('it is live', () => client.status.get() === 'live');
  topics = ['b'];
  client.socket.io.engine.close();
  await until('it has loaded again', () => loads === 2 && client.status.get() === 'live');
  expect(resyncs).toEqual(['topics']);
  client.socket.io.engine.close();
  await until('it is away', () => client.status.get() === 'reconnecting');
  await until('it is back', () => client.status.get() === 'live');
  expect([resyncs, loads]).toEqual([['topics'], 2]);
});
