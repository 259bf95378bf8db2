// A live list of recado-client against a real relay.
import { type LiveList, upsert } from '../../client/client.ts';
import { until } from '../world.ts';
import { add, database, open } from './notes.ts';

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
    await database.endSessions('recado feed');
    await until('the client was told', () => resyncs.length > 0);
    await until('it is loaded again', () => list.get().status === 'live' && list.get().rows.length === 4);
    expect(bodies(list)).toEqual(['loaded', 'during load 1', 'missed', 'during load 2']);
  });

  test('leaves out the events that the loaded rows contain', async () => {
    // The list's load starts only when the connection has a position; its rows are selected after more was written and
    // read, so their position is the later one even if other databases of the server have transactions in progress.
    const reduced: string[] = [];
    const { client, shown } = open();
    const list = client.liveList<Note>({
      async load() {
        await add('contained');
        await until('the event arrives while the rows are still on their way', () => shown.length > 0);
        return select();
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
