// recado/client against a real relay.
import { execFile } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { type Client, type ClientError, type ConnectOptions, connect } from '../../client/client.ts';
import { packageRoot } from '../../config.ts';
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
  expect(errors).toEqual([{ code: 'state_unavailable', message: 'API is down' }]);
});

describe('a page that is loaded again', () => {
  const kept = new Map<string, string>();
  beforeEach(() => {
    kept.clear();
    Object.assign(globalThis, {
      sessionStorage: {
        getItem: (name: string) => kept.get(name) ?? null,
        setItem: (name: string, value: string) => void kept.set(name, value),
        removeItem: (name: string) => void kept.delete(name),
      },
    });
  });
  afterEach(() => {
    Reflect.deleteProperty(globalThis, 'sessionStorage');
  });

  test('goes on where it was', async () => {
    const before = open({ keepPosition: 'notes of acc-1' });
    await before.live();
    await add('one');
    await until('it is shown', () => before.shown.length > 0);
    before.client.close();
    await add('two');
    const after = open({
      keepPosition: 'notes of acc-1',
      getState: () => Promise.reject(new Error('not asked')),
    });
    await until('what was missed is shown', () => after.shown.length > 0);
    await after.live();
    expect(after.shown).toEqual(['two']);
    expect(after.errors).toEqual([]);
  });

  test('begins anew where nothing can be kept', async () => {
    Object.defineProperty(globalThis, 'sessionStorage', {
      configurable: true,
      get() {
        throw new Error('forbidden');
      },
    });
    const { live } = open({ keepPosition: 'notes' });
    await live();
  });
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
    expect(errors).toEqual([{ code: 'token_unavailable', message: 'not signed in yet' }]);
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

test('is part of the package, with types, and imports nothing that a browser has not', async () => {
  const source = await readFile(join(packageRoot, 'relay/client/client.ts'), 'utf8');
  expect([...source.matchAll(/^(?:import|export) .* from '([^']+)'/gm)].map((match) => match[1])).toEqual([
    'socket.io-client',
  ]);
  const program = "import { connect } from 'recado/client'; process.stdout.write(typeof connect)";
  const { stdout } = await promisify(execFile)(process.execPath, ['--input-type=module', '-e', program], {
    cwd: packageRoot,
  });
  expect(stdout).toBe('function');
  expect(await readFile(join(packageRoot, 'dist/relay/client/client.d.ts'), 'utf8')).toContain(
    'export declare function connect',
  );
});
