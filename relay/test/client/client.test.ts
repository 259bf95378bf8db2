// recado-client against a real relay.
import { token, until } from '../world.ts';
import { add, database, load, open } from './notes.ts';

test('without options a client hears what is committed from now on, of its own account only', async () => {
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
  await database.endSessions('recado feed');
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
        return token('acc-1', { expiresIn: 5 });
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

  test('that cannot be had yet are reported, and asked for again', async () => {
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
  const statuses: string[] = [];
  client.status.subscribe(() => statuses.push(client.status.get()));
  client.socket.io.engine.close();
  await until('it was away, and is back', () => statuses.join() === 'reconnecting,live');
  expect([resyncs, loads]).toEqual([['topics'], 2]);
});
